"""Finds versions in the registry, the runs that trained them, and the studies of those."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from kdops.config.uris import ModelUri
from kdops.errors import UsageError
from kdops.store.client import among, experiment_ids, paged, paged_versions, quoted
from kdops.sweeps import schema

IDS = 50
"""Most runs that are asked for at once: the filter is in the address of a request, which a server limits."""

NEWEST = 100
"""So many of the newest versions are read at once: mostly the first of them is the one that is looked for."""

NAMES_SHOWN = 20

ABSENT = "RESOURCE_DOES_NOT_EXIST"
NOTHING = (ABSENT, "INVALID_PARAMETER_VALUE")
"""What MLflow answers where there is no such run, model, version or alias; the second also to other mistakes."""

Found = TypeVar("Found")


class MadeByRun(Protocol):
    """A version, as MLflow or :mod:`kdops.registry.registered` has it."""

    @property
    def run_id(self) -> str | None:
        """The run that made it."""


def existing(call: Callable[..., Found], *given: object, codes: Collection[str] = NOTHING) -> Found | None:
    """Return what a call to MLflow returns; None where the run, model, version or alias that it names is not there."""
    try:
        return call(*given)
    except MlflowException as error:
        if error.error_code not in codes:
            raise
        return None


def find_version(client: MlflowClient, uri: str, parameter: str = "model") -> ModelVersion:
    """Find the version that a URI names, ``models:/name/3`` or ``models:/name@champion``.

    Args:
        parameter: what the caller calls the model.

    Raises:
        UsageError: the text is no such URI, or there is no such version that is ready.
    """
    given = ModelUri.parse(uri, parameter)
    name = given.name
    quoted(name, parameter)
    read = client.get_model_version_by_alias if given.alias else client.get_model_version
    version = existing(read, name, given.alias or given.version)
    if version is None:
        ends = [end for order in ("ASC", "DESC") for end in _first(client, name, order)]
        there = f"{name} has versions {ends[0]} to {ends[-1]}" if ends else describe_names(client)
        raise UsageError(parameter, uri, f"there is no such {'alias' if given.alias else 'version'}; {there}")
    if version.status != "READY":
        raise UsageError(parameter, uri, f"is not ready ({version.status})")
    return version


def runs_of(client: MlflowClient, versions: Iterable[MadeByRun]) -> dict[str, Run]:
    """Return the finished runs of kdops that trained versions, by id, in few requests."""
    wanted = sorted({version.run_id for version in versions if version.run_id})
    experiments, found = experiment_ids(client), {}
    for where in among("attributes.run_id", wanted):
        for run in paged(client.search_runs, experiments, where):
            if run.info.status == "FINISHED" and schema.WEIGHTS in run.data.tags:
                found[run.info.run_id] = run
    return found


def finished_run(client: MlflowClient, version: MadeByRun) -> Run | None:
    """Return the run that trained a version; None where it did not finish or was deleted."""
    run = existing(client.get_run, version.run_id) if version.run_id else None
    whole = run is not None and (run.info.status, run.info.lifecycle_stage) == ("FINISHED", "active")
    return run if whole else None


def with_parents(run: Run | None, read: Callable[[str], Run | None]) -> Iterator[Run]:
    """Yield a run and those above it, the topmost last, up to one that cannot be read or came before.

    Args:
        read: returns the run of an id; None where there is none.
    """
    seen: set[str] = set()
    # Somebody may have changed the tags so that they lead round in a circle.
    while run is not None and run.info.run_id not in seen:
        seen.add(run.info.run_id)
        yield run
        parent = run.data.tags.get(schema.PARENT)
        run = read(parent) if parent else None


def known_names(client: MlflowClient) -> list[str]:
    """Return the name of every registered model."""
    return sorted(model.name for model in paged(client.search_registered_models))


def versions_of(client: MlflowClient, name: str, condition: str = "") -> list[ModelVersion]:
    """Return every finished version of a registered model, the oldest first; none where there is no such model.

    Args:
        client: an MLflow client.
        name: the registered model.
        condition: what they are filtered by beside the name, as MLflow writes it; empty for all.

    Raises:
        UsageError: the name has quotes.
    """
    where = " and ".join(filter(None, [f"name = {quoted(name)}", condition]))
    found = paged_versions(client, where)
    return sorted((version for version in found if version.status == "READY"), key=lambda version: int(version.version))


def newest_versions(client: MlflowClient, name: str) -> Iterator[ModelVersion]:
    """Yield the finished versions of a registered model, the newest first, a few at a time.

    Raises:
        UsageError: the name has quotes.
    """
    where, by = f"name = {quoted(name)}", ["version_number DESC"]
    found = paged(client.search_model_versions, where, max_results=NEWEST, order_by=by)
    return (version for version in found if version.status == "READY")


def versions_of_runs(client: MlflowClient, run_ids: Sequence[str]) -> Iterator[ModelVersion]:
    """Yield the versions that some runs made."""
    for where in among("run_id", run_ids, IDS):
        yield from paged(client.search_model_versions, where)


def describe_names(client: MlflowClient) -> str:
    """Return which registered models there are."""
    names = known_names(client)
    if not names:
        return "the registry has no models yet"
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"there are {', '.join(names[:NAMES_SHOWN])}{more}"


def _first(client: MlflowClient, name: str, order: str) -> list[str]:
    """Return the number of the first version of a registered model, by number up or down; none where there is none."""
    where, by = f"name = {quoted(name)}", [f"version_number {order}"]
    return [str(version.version) for version in client.search_model_versions(where, max_results=1, order_by=by)]


def uri_of(version: ModelVersion) -> str:
    """Return the model URI of a version."""
    return str(ModelUri(version.name, str(version.version)))
