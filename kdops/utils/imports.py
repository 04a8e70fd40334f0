"""What is named ``module:name``: parts of kdops in its tables, and functions of the caller's own code."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kdops.errors import KdopsError, UsageError

CODE_FOLDER = "KDOPS_CODE_FOLDER"
"""Names the folder of the caller, where a module of theirs may lie; the project runs in another."""


def load_place(place: str) -> Any:
    """Import what a table of kdops names as ``module:name``; the tables themselves stay free of heavy imports."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def import_function(place: str, parameter: str) -> Callable[..., object]:
    """Import a function of the caller.

    Its module is looked for on Python's path, then in the caller's folder.

    Raises:
        UsageError: there is no such module or function, or importing it fails; the message is one line.
    """
    module, _, function = place.partition(":")
    with importable():
        try:
            found = importlib.import_module(module)
        except KdopsError:
            raise
        except (Exception, SystemExit) as error:
            if isinstance(error, ModuleNotFoundError) and (error.name or "") in _packages(module):
                problem = f"there is no module {error.name} on Python's path or in {_folder()}"
            else:
                problem = f"the module {module} cannot be imported ({describe_error(error)})"
            raise UsageError(parameter, place, problem) from error
    wanted = getattr(found, function, None)
    if not callable(wanted):
        problem = "has no function" if wanted is None else "has something that is no function under the name"
        path = getattr(found, "__file__", None) or "built into Python"
        raise UsageError(parameter, place, f"{module} ({path}) {problem} {function}")
    return wanted


@contextmanager
def importable() -> Iterator[None]:
    """Let modules of the caller's folder be found, after all others: none of them can hide a library."""
    folder = _folder()
    if folder in sys.path:
        yield
        return
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def describe_error(error: BaseException) -> str:
    """Return an error of the caller's code in one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200].rstrip(": ")


def _folder() -> str:
    return os.environ.get(CODE_FOLDER) or os.getcwd()


def _packages(module: str) -> list[str]:
    """Return the module's name and those of the packages it lies in."""
    parts = module.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]
