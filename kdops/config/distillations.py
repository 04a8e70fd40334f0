"""What a study distills from what, known and checked before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass

from kdops.config.architectures import Architecture
from kdops.config.method_specs import ChosenMethod
from kdops.config.recipes import Recipe


@dataclass(frozen=True)
class Distillation:
    """A method with the networks that it is for.

    Attributes:
        method: the method.
        role: of the student.
        student: its network.
        source: that of what it learns from.
    """

    method: ChosenMethod
    role: str
    student: Architecture
    source: Architecture

    @classmethod
    def checked(cls, method: ChosenMethod, role: str, student: Recipe, source: Recipe) -> Distillation:
        """Return one that the networks and the student's epochs fit, as far as that follows from their texts.

        Raises:
            UsageError: a network lacks a tap, or there are fewer epochs than phases.
        """
        method.check_recipe(student, role)
        method.check_source(student.architecture, source.architecture, role)
        return cls(method, role, student.architecture, source.architecture)
