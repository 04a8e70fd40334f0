"""The files of stored models: where they lie, whether they are whole, how they are fetched and removed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import yaml
from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.file_utils import local_file_uri_to_path

from kdops.errors import KdopsError
from kdops.store.broken_answers import is_cut_off
from kdops.utils.files import temporary_folder
from kdops.utils.quiet import silenced, without_bars

FILES = "files"
"""What a model's ``metadata`` calls the digests of its files."""

HELD = (".pt2", ".safetensors")
"""The endings of the files that hold weights."""

DOWNLOADS = 3
"""So often a model's files are asked for where the answer breaks off."""

REMARKS = "mlflow.store.artifact.artifact_repo"
"""The logger that warns that there was nothing to fetch, which is reported as an error instead."""

AGAIN = "bring its files back from a backup, or delete this version: the next study that needs it trains it again"


def file_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a model's folder that holds weights, by its path in there."""
    held = sorted(path for path in folder.rglob("*") if path.suffix in HELD)
    return {path.relative_to(folder).as_posix(): _digest(path) for path in held}


@contextmanager
def downloaded_model(uri: str, tracking_uri: str | None = None) -> Iterator[Path]:
    """Fetch a model's files into a folder that is there for a while.

    The files are compared with the digests that a model of kdops stores: an exported program with a flipped bit loads
    without an error. Models of others, and those from before there were digests, are taken as they are.

    Args:
        tracking_uri: the store, where it is not the current one.

    Raises:
        KdopsError: its files are gone, or are not those that were stored.
    """
    with (
        temporary_folder() as folder,
        without_bars(),
        silenced(REMARKS),
    ):
        path = _download(uri, folder, tracking_uri)
        if not (path / "MLmodel").is_file():
            raise KdopsError(f"the files of {uri} are gone from the store of artifacts: {AGAIN} (kdops gc shows such)")
        _check(path, uri)
        yield path


@contextmanager
def downloaded_artifact(run_id: str, path: str, what: str) -> Iterator[Path]:
    """Fetch a file of a run into a folder that is there for a while.

    Args:
        what: it is, in words that an error begins with.

    Raises:
        KdopsError: it is gone.
    """
    with temporary_folder() as folder, without_bars(), silenced(REMARKS):
        try:
            found = _download(f"runs:/{run_id}/{path}", folder, None)
        except Exception as error:
            raise KdopsError(f"{what} are gone from the artifacts of the run {run_id}") from error
        yield found


def _download(uri: str, folder: Path, tracking_uri: str | None) -> Path:
    """Fetch artifacts; again where the answer of a server breaks off."""
    for left in reversed(range(DOWNLOADS)):
        try:
            return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder), tracking_uri=tracking_uri))
        except Exception as error:
            if not left or not is_cut_off(error):
                raise
    raise AssertionError("the last try returns or raises")


def damaged_model_error(uri: str, what: str) -> KdopsError:
    """Return the error for a model whose files are not those that were stored.

    Args:
        what: which file, and what is wrong with it.
    """
    return KdopsError(f"the files of {uri} are damaged, so it is not used: {what}; {AGAIN}")


def _check(folder: Path, uri: str) -> None:
    try:
        metadata = (yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8")) or {}).get("metadata") or {}
        digests = dict(metadata.get(FILES) or {})
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, TypeError, ValueError) as error:
        raise damaged_model_error(uri, f"MLmodel cannot be read ({str(error).splitlines()[0]})") from error
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file():
            raise damaged_model_error(uri, f"{name} is missing")
        if (found := _digest(path)) != digest:
            raise damaged_model_error(uri, f"the SHA-256 of {name} is {found[:12]}..., and was {str(digest)[:12]}...")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_empty(client: MlflowClient, location: str) -> bool:
    """Return whether a place of artifacts holds nothing."""
    return not get_artifact_repository(location, client.tracking_uri).list_artifacts()


def holds_model(client: MlflowClient, location: str) -> bool:
    """Return whether a place of artifacts holds an MLflow model."""
    folder = local_folder(location)
    if folder is not None:
        return (folder / "MLmodel").is_file()
    repository = get_artifact_repository(location, client.tracking_uri)
    return any(found.path == "MLmodel" for found in repository.list_artifacts())


def size_of(client: MlflowClient, location: str) -> int:
    """Return the bytes of all files at a place of artifacts; 0 where there is none."""
    repository, size = get_artifact_repository(location, client.tracking_uri), 0
    left: list[str | None] = [None]
    while left:
        for found in repository.list_artifacts(left.pop()):
            size += 0 if found.is_dir else found.file_size or 0
            left += [found.path] if found.is_dir else []
    return size


def put_files(client: MlflowClient, location: str, folder: Path) -> None:
    """Put the files of a folder at a place of artifacts; a client asked for a model's place would look it up again."""
    get_artifact_repository(location, client.tracking_uri).log_artifacts(str(folder))


def remove_files(client: MlflowClient, location: str) -> None:
    """Remove everything at a place of artifacts."""
    get_artifact_repository(location, client.tracking_uri).delete_artifacts()
    folder = local_folder(location)
    # Remove the now empty parent folder.
    if folder is not None and folder.parent.is_dir() and not any(folder.parent.iterdir()):
        folder.parent.rmdir()


def local_folder(location: str) -> Path | None:
    """Return the folder of a place of artifacts on this disk; None for any other."""
    # ``mlflow-artifacts:/1`` has one slash; a letter alone is a disk of Windows.
    if re.match(r"(?!file:)[A-Za-z][\w+.-]+:", location):
        return None
    return Path(local_file_uri_to_path(location))


def is_below(location: str, root: str) -> bool:
    """Return whether a place of artifacts lies within another one, wherever links lead."""
    inner, outer = local_folder(location), local_folder(root)
    if inner is None or outer is None:
        return location.startswith(f"{root.rstrip('/')}/")
    return outer.resolve() in inner.resolve().parents
