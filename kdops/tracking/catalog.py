"""The models of a store: every finished one with what its run and the registry say of it. It only reads."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from mlflow import MlflowClient
from mlflow.entities import Run

from kdops.config.uris import check_model
from kdops.errors import UsageError
from kdops.registry.versions import CHAMPION
from kdops.store.client import paged
from kdops.sweeps.model import LABELS
from kdops.tracking.stored_study import experiments

__all__ = ["Catalog", "StoredModel", "read_catalog"]

OURS = "name LIKE 'kdops-%'"
RUNS, VERSIONS, NAMES = 1000, 200, 100
"""Results on one page of each search."""


@dataclass(frozen=True)
class StoredModel:
    """One finished model of the store.

    Attributes:
        uri: its model URI, ``models:/kdops-digits-student/7``.
        run_id: its run.
        role: what it is.
        dataset: the data set.
        chain: the roles it came through.
        temperature: what it was trained at; nan where there is none (an ensemble).
        seed: its replicate; None where there is none.
        transfer: the transfer setting.
        split: digest of the split.
        sources: the URIs it was made from; empty for one that learned from labels.
        parameters: how many; None where unknown.
        val_accuracy: nan where unknown, as the next two.
        val_nll: loss on validation.
        test_accuracy: accuracy on test.
        champion: it has the alias ``champion``.
        registered: its version is still in the registry.
        cut: its list of sources was too long to be kept whole.
        architecture: its network as text; empty where unknown.
        flops: floating point operations of one image; None where unknown.
        val_images: how many validation images it was measured on; None where unknown.
        test_images: how many test images.
    """

    uri: str
    run_id: str
    role: str
    dataset: str
    chain: str
    temperature: float
    seed: int | None
    transfer: str
    split: str
    sources: tuple[str, ...]
    parameters: int | None
    val_accuracy: float
    val_nll: float
    test_accuracy: float
    champion: bool
    registered: bool
    cut: bool = False
    architecture: str = ""
    flops: int | None = None
    val_images: int | None = None
    test_images: int | None = None

    @property
    def name(self) -> str:
        """Its URI without the scheme, ``kdops-digits-student/7``."""
        return self.uri.removeprefix("models:/")

    @property
    def source(self) -> str:
        """What it was made from as text: URIs parted by spaces, or ``labels``."""
        return " ".join(self.sources) or LABELS


@dataclass(frozen=True)
class Catalog:
    """The models of a store.

    Attributes:
        models: every finished model, the latest first, also those whose version was deleted since.
        aliases: model URIs by alias URI, ``models:/kdops-digits-student@champion``.
    """

    models: tuple[StoredModel, ...]
    aliases: Mapping[str, str]

    @cached_property
    def by_uri(self) -> dict[str, StoredModel]:
        """The models by URI; a version that is registered goes before a deleted one of the same URI."""
        found: dict[str, StoredModel] = {}
        for model in self.models:
            if model.registered or model.uri not in found:
                found[model.uri] = model
        return found

    @cached_property
    def made_from(self) -> dict[str, tuple[StoredModel, ...]]:
        """The models made from each URI, in the order of their versions."""
        found: dict[str, list[StoredModel]] = {}
        for model in sorted(self.by_uri.values(), key=_place):
            for source in model.sources:
                found.setdefault(source, []).append(model)
        return {source: tuple(models) for source, models in found.items()}

    def registered(self) -> tuple[StoredModel, ...]:
        """Return the models whose version is in the registry."""
        return tuple(model for model in self.models if model.registered)

    def resolve(self, text: str, parameter: str = "model") -> str:
        """Return the URI of a model that the caller named; it need not be a model of this store.

        Raises:
            UsageError: it is not spelled as a model is, or the alias is not set.
        """
        name, version, alias = check_model(text, parameter)
        if version:
            return f"models:/{name}/{version}"
        uri = self.aliases.get(f"models:/{name}@{alias}")
        if uri is None:
            known = sorted(known.removeprefix("models:/") for known in self.aliases)
            raise UsageError(parameter, text, f"no model has this alias; there are {', '.join(known) or 'none'}")
        return uri

    def find(self, text: str, parameter: str = "model") -> StoredModel:
        """Find a model that the caller named.

        Raises:
            UsageError: there is no such model; the message says which there are.
        """
        uri = self.resolve(text, parameter)
        if uri in self.by_uri:
            return self.by_uri[uri]
        name = uri.removeprefix("models:/").rpartition("/")[0]
        versions: dict[str, list[int]] = {}
        for known in self.registered():
            other, _, version = known.name.rpartition("/")
            versions.setdefault(other, []).append(int(version))
        if name in versions:
            first, last = min(versions[name]), max(versions[name])
            raise UsageError(parameter, text, f"no such version; the versions of {name} are {first} to {last}")
        raise UsageError(parameter, text, f"no such model; there are {', '.join(sorted(versions)) or 'none'}")


def read_catalog(client: MlflowClient) -> Catalog:
    """Read every finished model of the store, of all experiments."""
    # A name that was deleted and made again begins at version 1 again: only URI and run together say which is meant.
    versions = paged(client.search_model_versions, OURS, max_results=VERSIONS)
    registered = {(f"models:/{v.name}/{v.version}", v.run_id): v.tags for v in versions}
    aliases = {
        f"models:/{model.name}@{alias}": f"models:/{model.name}/{version}"
        for model in paged(client.search_registered_models, OURS, max_results=NAMES)
        for alias, version in model.aliases.items()
    }
    champions = {uri for alias, uri in aliases.items() if alias.endswith(f"@{CHAMPION}")}
    where = "tags.`kdops.model` != '' and attributes.status = 'FINISHED'"
    runs = paged(
        client.search_runs, experiments(client), where, max_results=RUNS, order_by=["attributes.start_time DESC"]
    )
    return Catalog(tuple(_model(run, registered, champions) for run in runs), aliases)


def _model(run: Run, registered: Mapping[tuple[str, str], Mapping[str, str]], champions: Iterable[str]) -> StoredModel:
    tags, params, metrics = run.data.tags, run.data.params, run.data.metrics
    uri = tags["kdops.model"]
    version = registered.get((uri, run.info.run_id))
    words = tags.get("kdops.source", LABELS).split()
    return StoredModel(
        uri=uri,
        run_id=run.info.run_id,
        role=tags.get("kdops.role", ""),
        dataset=tags.get("kdops.dataset", ""),
        chain=tags.get("kdops.chain", ""),
        temperature=_number(params.get("temperature")),
        seed=_whole(params.get("seed")),
        transfer=params.get("transfer") or (version or {}).get("transfer", ""),
        split=tags.get("kdops.split", ""),
        sources=tuple(word for word in words if word.startswith("models:/")),
        parameters=_whole(params.get("parameters")),
        **{name: float(metrics.get(name, math.nan)) for name in ("val_accuracy", "val_nll", "test_accuracy")},
        champion=version is not None and uri in champions,
        registered=version is not None,
        cut="..." in words,
        architecture=params.get("architecture", ""),
        flops=_whole(params.get("flops")),
        **{f"{part}_images": _images(run, part) for part in ("val", "test")},
    )


def _images(run: Run, part: str) -> int | None:
    """Return how many images a run saw of a part of its data, as it was logged with the data."""
    for seen in run.inputs.dataset_inputs if run.inputs else ():
        if any((tag.key, tag.value) == ("mlflow.data.context", part) for tag in seen.tags):
            try:
                return int(json.loads(seen.dataset.profile or "{}")["images"])
            except (ValueError, KeyError, TypeError):
                return None
    return None


def _place(model: StoredModel) -> tuple[str, int]:
    name, _, version = model.name.rpartition("/")
    return name, int(version) if version.isdigit() else 0


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _whole(text: str | None) -> int | None:
    number = _number(text)
    return int(number) if math.isfinite(number) else None
