"""What a method of a company is. One file here with one class, and one line in ``kdops.config.companies.COMPANIES``."""

from __future__ import annotations

from dataclasses import dataclass

from kdops.config.companies import ChosenCompany
from kdops.distillation.method import Method, Needs
from kdops.utils.imports import load_place

__all__ = ["CompanyMethod", "build_company"]


@dataclass(frozen=True)
class CompanyMethod(Method):
    """How the nets of a company learn from each other, beside the cross entropy with the labels.

    In each :class:`~kdops.distillation.method.Step` ``student`` has the outputs of all K nets for one batch, and
    ``source`` the same without gradient. Term k is the loss of net k alone: no gradient of it may reach another net.

    Attributes:
        order: ``simultaneous``: all nets learn from the outputs before a step; ``sequential``: each one from those
            after the steps of the nets before it.
    """

    order: str = "simultaneous"

    @property
    def needs(self) -> Needs:
        """The other nets."""
        return Needs(peers=True)


def build_company(chosen: ChosenCompany) -> CompanyMethod:
    """Return the method of a company that was chosen, with its options."""
    return load_place(chosen.spec.place)(**chosen.options)
