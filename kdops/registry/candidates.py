"""What the registry tells of a model: of one that kdops trained everything, of any other hardly more than its name."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from kdops.errors import UsageError
from kdops.registry.versions import GROUP, PAGE, known_names, quoted, versions_of
from kdops.store.client import paged
from kdops.sweeps.model import COPY_SEEDS, Model

__all__ = [
    "LISTED",
    "Member",
    "find_version",
    "finite",
    "is_own",
    "member_of",
    "names_told",
    "runs_of",
    "sources_of",
    "split_seed_of",
    "uri_of",
]

COPIES = "reseeded"
"""The role of those that differ in their seed alone."""

NAMES_TOLD = 20

LISTED = re.compile(r"models:/(?P<name>[^/:@]+)(?:/(?P<version>\d{1,9})|@(?P<alias>[\w.-]+))")


@dataclass(frozen=True)
class Member:
    """One registered model.

    Attributes:
        uri: ``models:/<name>/<version>``.
        run_id: its run; empty where the registry names none.
        model_id: its logged model; empty where it was stored without one.
        own: kdops trained it, so ``weights.safetensors`` lies beside it; what follows is known of such models only.
        role: what it is.
        seed: its replicate, or that of a copy of it; see ``replicate``.
        temperature: what it was trained at.
        val_accuracy: its validation accuracy; of a model of others what its version's tag says.
        weights: the digest of its weights.
        source: the model it was distilled from, or ``labels``.
        architecture: its network as text.
        chain: the roles it came through.
        metrics: the final metrics of its run.
        params: the parameters of its run.
    """

    uri: str
    run_id: str
    model_id: str
    own: bool
    role: str = ""
    seed: int | None = None
    temperature: float | None = None
    val_accuracy: float | None = None
    weights: str = ""
    source: str = ""
    architecture: str = ""
    chain: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)

    @property
    def replicate(self) -> int | None:
        """The seed of the chain it belongs to; copies of a replicate's model have seeds of their own."""
        return self.seed % COPY_SEEDS if self.seed is not None and self.role == COPIES else self.seed

    def record(self) -> Model:
        """Return the record of the model, as a study knows those that it trained or reused."""
        return Model(
            role=self.role,
            seed=0 if self.seed is None else self.seed,
            temperature=math.nan if self.temperature is None else self.temperature,
            chain=self.chain,
            source=self.source,
            uri=self.uri,
            run_id=self.run_id,
            model_id=self.model_id,
            weights=self.weights,
            metrics=dict(self.metrics),
            params={name: value for name, value in self.params.items() if name not in ("seed", "temperature")},
            reused=True,
        )


def find_version(client: MlflowClient, uri: str, parameter: str = "model") -> ModelVersion:
    """Find the version that a URI names, ``models:/name/3`` or ``models:/name@champion``.

    Args:
        client: an MLflow client.
        uri: the URI.
        parameter: what the caller calls the model.

    Raises:
        UsageError: the text is no such URI, or there is no such version that is ready.
    """
    match = LISTED.fullmatch(uri)
    if not match:
        raise UsageError(parameter, uri or "(empty)", "must be models:/name/version or models:/name@alias")
    name = match["name"]
    quoted(name, parameter)
    try:
        if match["alias"]:
            version = client.get_model_version_by_alias(name, match["alias"])
        else:
            version = client.get_model_version(name, match["version"])
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        numbers = [version.version for version in versions_of(client, name)]
        there = f"{name} has versions {numbers[0]} to {numbers[-1]}" if numbers else names_told(client)
        raise UsageError(
            parameter, uri, f"there is no such {'alias' if match['alias'] else 'version'}; {there}"
        ) from None
    if version.status != "READY":
        raise UsageError(parameter, uri, f"is not ready ({version.status})")
    return version


def is_own(version: ModelVersion) -> bool:
    """Return whether a version has the tags of a kdops model."""
    tags = version.tags
    numbers = all(finite(tags.get(name)) is not None for name in ("val_accuracy", "val_nll", "test_accuracy"))
    texts = all(name in tags for name in (*GROUP, "source", "chain", "architecture", "temperature"))
    return numbers and texts and tags.get("seed", "").isdigit()


def member_of(version: ModelVersion, run: Run | None) -> Member:
    """Describe a version.

    Args:
        version: the version.
        run: the run that trained it, of one that kdops registered; None for any other.
    """
    tags = version.tags
    told = {name: finite(tags.get(name)) for name in ("val_accuracy", "val_nll", "test_accuracy", "test_nll")}
    metrics = {name: value for name, value in told.items() if value is not None}
    place = {"uri": uri_of(version), "run_id": version.run_id or "", "model_id": _model_id(version)}
    if run is None:
        return Member(**place, own=False, val_accuracy=told["val_accuracy"], metrics=metrics)
    return Member(
        **place,
        own=True,
        role=run.data.tags.get("kdops.role", ""),
        seed=int(tags["seed"]),
        temperature=finite(tags["temperature"]),
        val_accuracy=told["val_accuracy"],
        weights=run.data.tags["kdops.weights"],
        source=tags["source"],
        architecture=tags["architecture"],
        chain=tags["chain"],
        metrics={**run.data.metrics, **metrics},
        params=dict(run.data.params),
    )


def runs_of(client: MlflowClient, versions: Iterable[ModelVersion]) -> dict[str, Run]:
    """Return the finished runs of kdops that trained versions, by id, in few requests."""
    wanted = sorted({version.run_id for version in versions if version.run_id})
    experiments = [found.experiment_id for found in paged(client.search_experiments, max_results=PAGE)]
    found = {}
    for start in range(0, len(wanted), PAGE):
        ids = ", ".join(quoted(run_id) for run_id in wanted[start : start + PAGE])
        where = f"attributes.run_id IN ({ids})"
        for run in paged(client.search_runs, experiments, where, max_results=PAGE):
            if run.info.status == "FINISHED" and "kdops.weights" in run.data.tags:
                found[run.info.run_id] = run
    return found


def sources_of(client: MlflowClient, members: Iterable[Member]) -> dict[str, Run | None]:
    """Return the runs that trained what models were distilled from, by the source's URI; those that are there."""
    sources = {}
    for uri in dict.fromkeys(member.source for member in members):
        match = LISTED.fullmatch(uri)
        if match and match["version"]:
            try:
                sources[uri] = client.get_model_version(match["name"], match["version"])
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
    runs = runs_of(client, sources.values())
    return {uri: runs.get(version.run_id) for uri, version in sources.items()}


def split_seed_of(client: MlflowClient, version: ModelVersion) -> str | None:
    """Return the seed of the split that a version was trained on, as its run tells it."""
    run = runs_of(client, [version]).get(version.run_id)
    return run.data.params.get("split_seed") if run else None


def names_told(client: MlflowClient) -> str:
    """Return which registered models there are."""
    names = known_names(client)
    if not names:
        return "the registry has no models yet"
    more = f" and {len(names) - NAMES_TOLD} more" if len(names) > NAMES_TOLD else ""
    return f"there are {', '.join(names[:NAMES_TOLD])}{more}"


def uri_of(version: ModelVersion) -> str:
    """Return the model URI of a version."""
    return f"models:/{version.name}/{version.version}"


def _model_id(version: ModelVersion) -> str:
    """Return the logged model that a version was made from; a search gives it as the source only."""
    found = re.fullmatch(r"models:/(m-[0-9a-f]+)", version.source or "")
    return found[1] if found else ""


def finite(text: str | None) -> float | None:
    """Read a finite number from a tag, which anybody may have written."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None
