"""Finds versions in the registry, and the runs that trained them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from kdops.config.uris import ModelUri
from kdops.errors import UsageError
from kdops.registry.versions import PAGE, known_names, quoted, versions_of
from kdops.store.client import paged
from kdops.sweeps import schema

__all__ = [
    "find_version",
    "names_told",
    "runs_of",
    "uri_of",
]

NAMES_TOLD = 20


class MadeByRun(Protocol):
    """A version, as MLflow or :mod:`kdops.registry.registered` has it."""

    @property
    def run_id(self) -> str | None:
        """The run that made it."""


def find_version(client: MlflowClient, uri: str, parameter: str = "model") -> ModelVersion:
    """Find the version that a URI names, ``models:/name/3`` or ``models:/name@champion``.

    Args:
        client: an MLflow client.
        uri: the URI.
        parameter: what the caller calls the model.

    Raises:
        UsageError: the text is no such URI, or there is no such version that is ready.
    """
    given = ModelUri.parse(uri, parameter)
    name = given.name
    quoted(name, parameter)
    try:
        if given.alias:
            version = client.get_model_version_by_alias(name, given.alias)
        else:
            version = client.get_model_version(name, given.version)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        numbers = [version.version for version in versions_of(client, name)]
        there = f"{name} has versions {numbers[0]} to {numbers[-1]}" if numbers else names_told(client)
        raise UsageError(parameter, uri, f"there is no such {'alias' if given.alias else 'version'}; {there}") from None
    if version.status != "READY":
        raise UsageError(parameter, uri, f"is not ready ({version.status})")
    return version


def runs_of(client: MlflowClient, versions: Iterable[MadeByRun]) -> dict[str, Run]:
    """Return the finished runs of kdops that trained versions, by id, in few requests."""
    wanted = sorted({version.run_id for version in versions if version.run_id})
    experiments = [found.experiment_id for found in paged(client.search_experiments, max_results=PAGE)]
    found = {}
    for start in range(0, len(wanted), PAGE):
        ids = ", ".join(quoted(run_id) for run_id in wanted[start : start + PAGE])
        where = f"attributes.run_id IN ({ids})"
        for run in paged(client.search_runs, experiments, where, max_results=PAGE):
            if run.info.status == "FINISHED" and schema.WEIGHTS in run.data.tags:
                found[run.info.run_id] = run
    return found


def names_told(client: MlflowClient) -> str:
    """Return which registered models there are."""
    names = known_names(client)
    if not names:
        return "the registry has no models yet"
    more = f" and {len(names) - NAMES_TOLD} more" if len(names) > NAMES_TOLD else ""
    return f"there are {', '.join(names[:NAMES_TOLD])}{more}"


def uri_of(version: ModelVersion) -> str:
    """Return the model URI of a version."""
    return str(ModelUri(version.name, str(version.version)))
