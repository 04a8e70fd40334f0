"""The versions of installed packages."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version


@cache
def installed_version(name: str) -> str:
    """Return the version of a package, whose record is read once in a process."""
    return version(name)
