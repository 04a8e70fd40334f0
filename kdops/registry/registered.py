"""Registered versions and their models as plain values, for rooms that do not know MLflow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from sys import intern

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from kdops.config.uris import ModelUri
from kdops.registry.lookup import describe_names, find_version, newest_versions, runs_of, versions_of
from kdops.registry.sources import Sources
from kdops.sweeps import schema
from kdops.sweeps.model import COPY_SEEDS, Model
from kdops.sweeps.params import SEED, SPLIT_SEED


@dataclass(frozen=True)
class RegisteredVersion:
    """A version as the registry describes it.

    Attributes:
        name: the registered model.
        version: its number.
        run_id: the run that made it; empty where the registry names none.
        source: where its files are from.
        tags: its tags.
    """

    name: str
    version: str
    run_id: str
    source: str
    tags: Mapping[str, str]

    @classmethod
    def of(cls, version: ModelVersion) -> RegisteredVersion:
        """Return the plain value of MLflow's version."""
        # Of thousands of versions most texts are the same; a database gives each a text of its own.
        tags = {intern(name): text and intern(text) for name, text in version.tags.items()}
        return cls(version.name, str(version.version), version.run_id or "", version.source or "", tags)

    @property
    def uri(self) -> str:
        """Its model URI."""
        return str(ModelUri(self.name, self.version))


class RegisteredModels:
    """Reads a model registry."""

    def __init__(self, client: MlflowClient):
        self._client = client
        self._runs: dict[str, Run] = {}

    def versions(self, name: str) -> list[RegisteredVersion]:
        """Return every finished version of a registered model, the oldest first; none where there is no such model."""
        return list(map(RegisteredVersion.of, versions_of(self._client, name)))

    def newest_first(self, name: str) -> Iterator[RegisteredVersion]:
        """Yield the finished versions of a registered model, the newest first, read as far as they are asked for."""
        return map(RegisteredVersion.of, newest_versions(self._client, name))

    def of_replicates(self, name: str, replicates: range) -> list[RegisteredVersion]:
        """Return the versions of :meth:`versions` that may be of some replicates, which takes two requests for each.

        Copies of a replicate's model have its seed in the last digits, see :data:`~kdops.sweeps.model.COPY_SEEDS`.
        """
        digits = len(str(COPY_SEEDS - 1))
        likes = [f"LIKE '%{seed:0{digits}}'" for seed in replicates if seed < COPY_SEEDS]
        found = {
            version.version: version
            for condition in (*(f"= '{seed}'" for seed in replicates), *likes)
            for version in versions_of(self._client, name, f"tags.{SEED} {condition}")
        }
        return [RegisteredVersion.of(found[number]) for number in sorted(found, key=int)]

    def find(self, uri: str) -> RegisteredVersion:
        """Return the version that a URI names; see :func:`~kdops.registry.lookup.find_version`."""
        return RegisteredVersion.of(find_version(self._client, uri))

    def names(self) -> str:
        """Return in words which registered models there are."""
        return describe_names(self._client)

    def models(self, versions: Iterable[RegisteredVersion]) -> dict[str, Model]:
        """Return the models of those versions whose run finished, by URI."""
        versions = list(versions)
        runs = runs_of(self._client, versions)
        self._runs |= runs
        there = (version for version in versions if version.run_id in runs)
        read = schema.readable(there, lambda version: schema.from_version(version, runs[version.run_id]))
        return {version.uri: model for version, model in read}

    def sources(self, models: Iterable[Model]) -> dict[str, Model]:
        """Return what models that were read here were distilled from, by the URI of each, as far as it is there."""
        sources, found = Sources(self._client), {}
        for model in models:
            if model.run_id in self._runs and ModelUri.fits(model.source):
                source = sources.source_of(self._runs[model.run_id], model.source)
                for _, read in schema.readable([source] if source else []):
                    found[model.uri] = read
        return found

    def split_seed(self, version: RegisteredVersion) -> str:
        """Return the seed of the split that a version was trained on, as its run records it; empty where none does."""
        runs = runs_of(self._client, [version])
        return runs[version.run_id].data.params.get(SPLIT_SEED, "") if version.run_id in runs else ""
