"""Checks the arguments of an entry point, and launches it from any folder, with an installed wheel too.

Everything that can be wrong with the arguments is found here, before a run exists: MLflow ends every
failing child alike, and leaves a failed run behind. MLflow itself is imported only once that is done.
"""

from __future__ import annotations

import importlib
import os
import posixpath
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

from kdops.cli.project import run_project
from kdops.cli.signals import interruptible
from kdops.config.search import STORAGE, SearchSettings
from kdops.config.settings import Settings
from kdops.config.sources import SourceModels
from kdops.config.studies import SourceSettings
from kdops.errors import KdopsError, UsageError
from kdops.utils.hardware import resolve_device
from kdops.utils.imports import CODE_FOLDER
from kdops.utils.quiet import ASKED_ONCE_MORE, server_patience

MANY = 1000
"""Fewer images are decoded in no time."""

STORES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")


def launch(entry_point: str, given: Mapping[str, str]) -> int:
    """Check the arguments, then run the entry point in a child process, as ``mlflow run`` does.

    The child gets the store, the data folder and the interpreter of the caller, whatever folder it runs in.

    Returns:
        The exit code, 0.

    Raises:
        UsageError: a parameter, the data or the device is not what it should be; no run was made.
        KdopsError: the run failed, or was interrupted.
    """
    settings = Settings.parse(entry_point, **given)
    # Only now, so that a mistake in a parameter is answered at once.
    from kdops.data.dataset import load

    with interruptible():
        if settings.device not in ("auto", "cpu"):
            resolve_device(settings.device)
        fix_environment(working_folder())
        pipeline = importlib.import_module(f"pipelines.{entry_point}")
        settings = _absolute(settings)
        with server_patience(ASKED_ONCE_MORE):
            # What is downloaded or decoded now is kept for the child.
            data = load(settings.origin, settings.data_root, progress=_show_decoding)
            pipeline.check(settings, data)
            if settings.dry_run:
                pipeline.main(settings, data)
                return 0
        run_project(entry_point, {**given, **_paths(settings)})
    return 0


def working_folder() -> Path:
    """Return the caller's folder.

    Raises:
        KdopsError: it was deleted, or its name is no text that a store could keep.
    """
    try:
        folder = Path.cwd()
    except FileNotFoundError:
        raise KdopsError("the working folder was deleted; change to another one and start the command again") from None
    if any("\ud800" <= letter <= "\udfff" for letter in str(folder)):
        raise KdopsError(f"the path of the working folder is not UTF-8 ({folder}); rename it or use another folder")
    return folder


def absolute_store(uri: str, folder: PurePath, parameter: str = "MLFLOW_TRACKING_URI") -> str:
    """Return a store's address with a relative sqlite file made absolute; others come back as they are.

    Args:
        folder: what the file is relative to; a Windows path has a drive and backslashes, and its address slashes.
        parameter: the parameter that an error names.

    Raises:
        UsageError: a database in memory, which the child process could not see.
    """
    match = re.fullmatch(r"(sqlite(?:\+\w+)?):(?://(?:/([^?]*))?)?(\?.*)?", uri)
    if not match:
        return uri
    scheme, path, query = match[1], match[2] or "", match[3] or ""
    if path in ("", ":memory:"):
        raise UsageError(parameter, uri, "must name a file, such as sqlite:///mlflow.db")
    given = (PureWindowsPath if isinstance(folder, PureWindowsPath) else PurePosixPath)(path)
    path = given.as_posix()
    if not given.is_absolute():
        # The address is decoded once; MLflow also makes the folder that it finds there undecoded.
        place = folder.as_posix().replace("%", "%25").replace("?", "%3F")
        path = posixpath.normpath(f"{place}/{path}")
    return f"{scheme}:///{path}{query}"


def _show_decoding(done: int, total: int) -> None:
    # A log gets one line, and none where all is done at once.
    if sys.stderr.isatty() or done == total >= MANY:
        end = "\n" if done == total else "\r"
        print(f"decoding images: {done} of {total}", end=end, file=sys.stderr, flush=True)


def _absolute(settings: Settings) -> Settings:
    """Return settings whose paths are absolute, since the child has another folder."""
    root = settings.data_root and os.path.abspath(os.path.expanduser(settings.data_root))
    settings = replace(settings, origin=settings.origin.absolute(), data_root=root)
    if isinstance(settings, SourceSettings) and _is_file(settings):
        settings = replace(settings, source=os.path.abspath(os.path.expanduser(settings.source)))
    if isinstance(settings, SearchSettings) and settings.storage:
        return replace(settings, storage=_absolute_storage(settings.storage))
    return settings


def _paths(settings: Settings) -> dict[str, str]:
    """Return the parameters that hold a path or an address, as text."""
    paths = {"dataset": str(settings.origin), "data_root": settings.data_root, "unlabeled": settings.origin.unlabeled}
    if isinstance(settings, SourceSettings) and _is_file(settings):
        paths["source"] = settings.source
    if isinstance(settings, SearchSettings):
        paths["storage"] = settings.storage
    return {name: text for name, text in paths.items() if text}


def _is_file(settings: SourceSettings) -> bool:
    """Return whether a study distills from a file."""
    return bool(settings.source) and not isinstance(settings.named_source, SourceModels)


def _absolute_storage(storage: str, parameter: str = "storage") -> str:
    """Return the path of a journal, or the address of a database, as it is meant in the caller's folder."""
    if "://" not in storage:
        return os.path.abspath(os.path.expanduser(storage))
    return absolute_store(storage, working_folder(), parameter)


def fix_environment(folder: Path) -> None:
    """Fix in the environment what is relative to the caller's folder, since the child has another."""
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        os.environ["MLFLOW_TRACKING_URI"] = "sqlite:///mlflow.db"
    for variable in STORES:
        if uri := os.environ.get(variable):
            os.environ[variable] = absolute_store(uri, folder)
    if storage := os.environ.get(STORAGE):
        os.environ[STORAGE] = _absolute_storage(storage, STORAGE)
    if root := os.environ.get("KDOPS_DATA_ROOT"):
        os.environ["KDOPS_DATA_ROOT"] = os.path.abspath(os.path.expanduser(root))
    # A data set may be code of the caller's own, in this folder or on a path that is relative to it.
    os.environ[CODE_FOLDER] = str(folder)
    if path := os.environ.get("PYTHONPATH"):
        os.environ["PYTHONPATH"] = os.pathsep.join(os.path.abspath(part) for part in path.split(os.pathsep) if part)
    # The project's command is ``python``; it must be this one, even if its folder is not on the path.
    here = os.path.dirname(sys.executable)
    os.environ["PATH"] = os.pathsep.join([here, os.environ.get("PATH", os.defpath)])
