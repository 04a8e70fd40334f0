"""How a caller names models and studies; loads nothing, so that a mistake is reported at once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from kdops.errors import UsageError

SCHEME = "models:/"
TYPED = "models:/NAME/VERSION, models:/NAME@ALIAS or NAME/VERSION"
"""How a caller types a model."""

STUDY = re.compile("[0-9a-f]{6,32}")


@dataclass(frozen=True)
class ModelUri:
    """A version of a registered model: by its number or by an alias.

    Attributes:
        name: the registered model.
        version: its number; empty where an alias stands for it.
        alias: the alias; empty where the number is known.
    """

    name: str
    version: str = ""
    alias: str = ""

    FORM: ClassVar = re.compile(r"models:/(?P<name>[^/:@]+)(?:/(?P<version>\d{1,9})|@(?P<alias>[\w.-]+))")
    """What MLflow reads as one; the name of a model of others may have blanks."""

    TYPED: ClassVar = re.compile(
        r"(?:models:/)?(?P<name>[A-Za-z0-9_.-]+)(?:/(?P<version>[1-9][0-9]{0,8})|@(?P<alias>[A-Za-z0-9_.-]+))"
    )
    """The URI as a caller types it, with the scheme or without."""

    def __str__(self) -> str:
        return f"{SCHEME}{self.short}"

    @property
    def short(self) -> str:
        """The URI without the scheme: ``NAME/3`` or ``NAME@alias``."""
        return f"{self.name}/{self.version}" if self.version else f"{self.name}@{self.alias}"

    @classmethod
    def fits(cls, text: str) -> bool:
        """Return whether a text is the URI of a registered version, and not of a run or a logged model."""
        return cls.FORM.fullmatch(text) is not None

    @classmethod
    def parse(cls, text: str, parameter: str = "model") -> ModelUri:
        """Read a whole URI, ``models:/name/3`` or ``models:/name@champion``.

        Raises:
            UsageError: it is spelled otherwise.
        """
        match = cls.FORM.fullmatch(text)
        if not match:
            raise UsageError(parameter, text or "(empty)", "must be models:/name/version or models:/name@alias")
        return cls(match["name"], match["version"] or "", match["alias"] or "")


def check_model(text: str, parameter: str = "model") -> ModelUri:
    """Read how a caller names a model: ``models:/NAME/VERSION``, ``models:/NAME@ALIAS``, or without ``models:/``.

    Raises:
        UsageError: it is spelled otherwise.
    """
    match = ModelUri.TYPED.fullmatch(text.strip())
    if not match:
        raise UsageError(parameter, text or "(empty)", f"must be {TYPED}")
    return ModelUri(match["name"], match["version"] or "", match["alias"] or "")


def check_name(text: str) -> str:
    """Read how a caller names a registered model as a whole, with or without ``models:/``.

    Raises:
        UsageError: it is no name, or has a version too.
    """
    name = text.strip().removeprefix(SCHEME)
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise UsageError("name", text or "(empty)", "must be the name of a registered model, without a version")
    return name


def check_study(text: str) -> str:
    """Read how a caller names a study: its run id or the beginning of it, in lower case.

    Raises:
        UsageError: it is no part of a run id, or shorter than six characters.
    """
    wanted = text.strip().lower()
    if not STUDY.fullmatch(wanted):
        raise UsageError("study", text or "(empty)", "must be a run id or at least its first 6 characters")
    return wanted
