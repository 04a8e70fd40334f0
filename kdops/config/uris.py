"""How a caller names models and studies; loads nothing, so that a mistake is told at once."""

from __future__ import annotations

import re

from kdops.errors import UsageError

__all__ = ["check_model", "check_name", "check_study"]

MODEL = re.compile(
    r"(?:models:/)?(?P<name>[A-Za-z0-9_.-]+)(?:/(?P<version>[1-9][0-9]{0,8})|@(?P<alias>[A-Za-z0-9_.-]+))"
)
STUDY = re.compile("[0-9a-f]{6,32}")


def check_model(text: str, parameter: str = "model") -> tuple[str, str | None, str | None]:
    """Read how a caller names a model: its name, and its version or its alias.

    Args:
        text: ``models:/NAME/VERSION``, ``models:/NAME@ALIAS``, or one of these without ``models:/``.
        parameter: what the caller calls it.

    Raises:
        UsageError: it is spelled otherwise.
    """
    match = MODEL.fullmatch(text.strip())
    if not match:
        raise UsageError(
            parameter, text or "(empty)", "must be models:/NAME/VERSION, models:/NAME@ALIAS or NAME/VERSION"
        )
    return match["name"], match["version"], match["alias"]


def check_name(text: str, parameter: str = "name") -> str:
    """Read how a caller names a registered model as a whole, with or without ``models:/``.

    Raises:
        UsageError: it is no name, or says a version too.
    """
    name = text.strip().removeprefix("models:/")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise UsageError(parameter, text or "(empty)", "must be the name of a registered model, without a version")
    return name


def check_study(text: str, parameter: str = "study") -> str:
    """Read how a caller names a study: its run id or the beginning of it, in lower case.

    Raises:
        UsageError: it is no part of a run id, or shorter than six characters.
    """
    wanted = text.strip().lower()
    if not STUDY.fullmatch(wanted):
        raise UsageError(parameter, text or "(empty)", "must be a run id or at least its first 6 characters")
    return wanted
