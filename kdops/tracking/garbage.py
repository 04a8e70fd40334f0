"""What failed studies left in a store: found, and listed with its size; :mod:`kdops.tracking.garbage_removal` removes
it.

Only what kdops itself made in one experiment is looked at. Whatever a finished run owns stays, and so does all that
belongs to a study whose process may be alive, or that a version needs which stays, whatever its name.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import yaml
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from kdops.errors import KdopsError
from kdops.registry.versions import CHAMPION, PAGE
from kdops.store.artifacts import holds_model, is_empty, local_folder, size_of
from kdops.store.client import paged
from kdops.sweeps import schema
from kdops.tracking.stale_runs import is_stale
from kdops.utils.process import ProcessId

__all__ = [
    "ENDED",
    "Piece",
    "find_garbage",
    "is_of_live_study",
    "needed_by_versions",
    "versions_without_model",
    "why_failed",
    "with_parents",
]

OLD_SECONDS = 14 * 86400.0
"""Nobody goes on with a checkpoint after so long."""

RUNS = 1000
ENDED = ("FAILED", "KILLED")
CUT_OFF = ("running", "failed")
"""States of a search's trial that was killed; one that was pruned or diverged is a result of the search."""

MADE = re.compile(r"(?:m-)?[0-9a-f]{32}")
"""A logged model or a run, as the source of a version names it."""

Found = TypeVar("Found")


@dataclass(frozen=True)
class Piece:
    """One thing that may go.

    Attributes:
        kind: ``version``, ``logged model``, ``run``, ``files`` or ``checkpoint``.
        name: which: ``name/version``, an id, or a path.
        why: why it may go, in a few words.
        size: bytes that are freed.
        kept: why it stays all the same; empty where it goes.
        run_id: the run that made it; empty for a checkpoint.
    """

    kind: str
    name: str
    why: str
    size: int = 0
    kept: str = ""
    run_id: str = ""


def find_garbage(client: MlflowClient, experiment_id: str, beside: Path | None = None) -> list[Piece]:
    """Find what failed studies left in an experiment, in the order in which it is to be removed.

    Args:
        client: a client of the store.
        experiment_id: the experiment; runs of others are never looked at.
        beside: the folder with checkpoints, where there may be one.

    Raises:
        KdopsError: none of the experiment's artifacts is where it should be.
    """
    where = f"tags.`{schema.STUDY}` != ''"
    runs = {run.info.run_id: run for run in paged(client.search_runs, [experiment_id], where, max_results=RUNS)}
    failed = {run_id: why for run_id, run in list(runs.items()) if (why := why_failed(client, run, runs))}
    models = {
        model.model_id: model
        for model in paged(client.search_logged_models, [experiment_id], max_results=PAGE)
        if schema.CHAIN in model.tags
    }
    root = client.get_experiment(experiment_id).artifact_location
    if models and is_empty(client, root):
        raise KdopsError(f"there is nothing at all at {root}, where the artifacts should be: is it mounted? All stays")
    versions = list(paged(client.search_model_versions, max_results=PAGE))
    found = versions_without_model(client, versions, runs, failed, models)
    going = {piece.name for piece in found if not piece.kept}
    held = needed_by_versions((version for version in versions if _name(version) not in going), models)
    found += _models(client, models.values(), runs, failed, held)
    found += _files(client, root, models, held)
    for run_id, why in failed.items():
        size = size_of(client, runs[run_id].info.artifact_uri)
        found.append(Piece("run", run_id, why, size, held.get(run_id, ""), run_id))
    return [*found, *(_checkpoints(beside) if beside else ())]


def why_failed(client: MlflowClient, run: Run, runs: dict[str, Run]) -> str:
    """Return why the run of a model may go; empty where it stays."""
    tags, status = run.data.tags, run.info.status
    if schema.ROLE not in tags or is_of_live_study(client, run, runs):
        return ""
    if status == "RUNNING":
        return f"cut off: {run.info.run_name}"
    is_result = schema.TRIAL in tags and not (status == "KILLED" and tags.get(schema.TRIAL_STATE) in CUT_OFF)
    return f"{status}: {run.info.run_name}" if status in ENDED and not is_result else ""


def is_of_live_study(client: MlflowClient, run: Run | None, runs: dict[str, Run]) -> bool:
    """Return whether a run or one above it says RUNNING, unless its process is gone."""
    seen: set[str] = set()
    while run is not None and run.info.run_id not in seen:
        seen.add(run.info.run_id)
        if run.info.status == "RUNNING" and not is_stale(client, run, runs):
            return True
        run = runs.get(run.data.tags.get(schema.PARENT, ""))
    return False


def versions_without_model(
    client: MlflowClient,
    versions: Sequence[ModelVersion],
    runs: dict[str, Run],
    failed: Mapping[str, str],
    models: Mapping[str, LoggedModel],
) -> list[Piece]:
    """Return the versions that kdops made and that have no model: their run failed, or their files are gone."""
    judged = {_name(version): _judge(client, version, runs, failed, models) for version in versions}
    held = needed_by_versions((version for version in versions if not judged[_name(version)][0]), models)
    found, aliases = [], {}
    for version in versions:
        why, kept = judged[_name(version)]
        if not why:
            continue
        if version.name not in aliases:
            aliases[version.name] = client.get_registered_model(version.name).aliases.items()
        own = sorted(a for a, number in aliases[version.name] if str(number) == str(version.version) and a != CHAMPION)
        if own:
            kept = f"it is {', '.join(own)}: kdops rollback first"
        kept = kept or next((held[one] for one in _needed(version) if one in held), "")
        found.append(Piece("version", _name(version), why, kept=kept, run_id=version.run_id or ""))
    return found


def _judge(
    client: MlflowClient,
    version: ModelVersion,
    runs: dict[str, Run],
    failed: Mapping[str, str],
    models: Mapping[str, LoggedModel],
) -> tuple[str, str]:
    """Return why a version has no model (empty where it has one or is not kdops's), and why it stays all the same."""
    run = runs.get(version.run_id or "")
    model_id = (version.source or "").removeprefix("models:/")
    own = version.name.startswith("kdops-") and "fingerprint" in version.tags and MADE.fullmatch(model_id)
    # Of a run of another experiment, or one that was deleted by hand, nothing is known here.
    if not own or run is None or is_of_live_study(client, run, runs):
        return "", ""
    if version.run_id in failed:
        return "its run did not finish", ""
    # The pages of a search shift while others write, so that a model may have been missed.
    model = models.get(model_id) or _model(client, model_id)
    if model is None:
        return "its logged model was deleted", ""
    if holds_model(client, model.artifact_location):
        return "", ""
    process = run.data.tags.get(schema.PROCESS, "")
    elsewhere = process and local_folder(model.artifact_location) and not ProcessId.own().shares_host(process)
    return "its files are gone", "made on another host, which may have its files: kdops gc there" if elsewhere else ""


def _name(version: ModelVersion) -> str:
    return f"{version.name}/{version.version}"


def _needed(version: ModelVersion) -> set[str]:
    """Return what a version cannot do without, and itself: ids of its run and its logged model, names of versions."""
    source = version.source or ""
    return {version.run_id or "", source.removeprefix("models:/"), _name(version), *MADE.findall(source)} - {""}


def needed_by_versions(versions: Iterable[ModelVersion], models: Mapping[str, LoggedModel]) -> dict[str, str]:
    """Return of each thing that the given versions need, which of them needs it."""
    held: dict[str, str] = {}
    for version in versions:
        for one in _needed(version):
            held[one] = f"{_name(version)} needs it"
            if one in models and (run_id := models[one].source_run_id):
                held[run_id] = held[one]
    return held


def _models(
    client: MlflowClient,
    models: Iterable[LoggedModel],
    runs: Mapping[str, Run],
    failed: Mapping[str, str],
    held: Mapping[str, str],
) -> Iterator[Piece]:
    """Yield the logged models that no finished run needs."""
    for model in models:
        run_id = model.source_run_id or ""
        if run_id in runs and run_id not in failed:
            continue
        kept = held.get(model.model_id, "") or held.get(run_id, "")
        # A version needs no run: a model whose run was deleted by hand is no garbage as long as it is registered.
        if run_id not in runs and (kept or not run_id or _is_active(_run(client, run_id))):
            continue
        why = f"{'its run did not finish' if run_id in runs else 'its run was deleted'}: {model.name}"
        yield Piece("logged model", model.model_id, why, size_of(client, model.artifact_location), kept, run_id)


def _files(
    client: MlflowClient, root: str, models: Mapping[str, LoggedModel], held: Mapping[str, str]
) -> Iterator[Piece]:
    """Yield the files on disk of models of failed runs that were marked deleted before.

    Files without a description may be anybody's, and stay.
    """
    folder = local_folder(root)
    for place in sorted((folder / "models").glob("m-*/artifacts")) if folder else ():
        model_id = place.parent.name
        try:
            described = yaml.safe_load((place / "MLmodel").read_text(encoding="utf-8"))
            run_id = str(described["run_id"])
        except (OSError, yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
            continue
        if model_id in models or (run := _run(client, run_id)) is None or schema.ROLE not in run.data.tags:
            continue
        live = is_of_live_study(client, run, with_parents(client, run.data.tags.get(schema.PARENT, "")))
        if live or run.info.status not in ENDED or _model(client, model_id) is not None:
            continue
        why, kept = f"of a deleted model, {run.info.status}", held.get(model_id, "") or held.get(run_id, "")
        yield Piece("files", place.as_posix(), why, size_of(client, place.as_posix()), kept, run_id)


def _checkpoints(folder: Path) -> Iterator[Piece]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        told = path.stat()
        if path.is_file() and time.time() - told.st_mtime > OLD_SECONDS:
            yield Piece("checkpoint", str(path), "nobody went on with it for 14 days", told.st_size)


def with_parents(client: MlflowClient, run_id: str) -> dict[str, Run]:
    """Read a run and those above it; what was deleted is left out, as a search leaves it out."""
    found: dict[str, Run] = {}
    while run_id and run_id not in found:
        run = _run(client, run_id)
        if run is None or run.info.lifecycle_stage != "active":
            break
        found[run_id] = run
        run_id = run.data.tags.get(schema.PARENT, "")
    return found


def _is_active(run: Run | None) -> bool:
    return run is not None and run.info.lifecycle_stage == "active"


def _run(client: MlflowClient, run_id: str) -> Run | None:
    """Read a run, also one that was marked deleted; None where there is none."""
    return _existing(client.get_run, run_id)


def _model(client: MlflowClient, model_id: str) -> LoggedModel | None:
    """Read a logged model; None where there is none or it was deleted."""
    return _existing(client.get_logged_model, model_id)


def _existing(read: Callable[[str], Found], identity: str) -> Found | None:
    try:
        return read(identity)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
