"""The models of a store: every finished one as its run and the registry describe it. It only reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from mlflow import MlflowClient

from kdops.config.uris import check_model
from kdops.errors import UsageError
from kdops.registry.champion import CHAMPION
from kdops.registry.lookup import find_version, finished_run, uri_of
from kdops.store.client import paged
from kdops.sweeps import schema
from kdops.sweeps.model import Model
from kdops.tracking.stored_study import experiments

__all__ = ["Catalog", "find_registered", "in_registry", "read_aliases", "read_catalog"]

OURS = "name LIKE 'kdops-%'"
RUNS, VERSIONS, NAMES = 1000, 1000, 100
"""Results on one page of each search."""


@dataclass(frozen=True)
class Catalog:
    """The models of a store.

    Attributes:
        models: every finished model, the latest first, also those whose version was deleted since.
        aliases: model URIs by alias URI, ``models:/kdops-digits-student@champion``.
    """

    models: tuple[Model, ...]
    aliases: Mapping[str, str]

    @cached_property
    def by_uri(self) -> dict[str, Model]:
        """The models by URI; a version that is registered goes before a deleted one of the same URI."""
        found: dict[str, Model] = {}
        for model in self.models:
            if model.registered or model.uri not in found:
                found[model.uri] = model
        return found

    @cached_property
    def made_from(self) -> dict[str, tuple[Model, ...]]:
        """The models made from each URI, in the order of their versions."""
        found: dict[str, list[Model]] = {}
        for model in sorted(self.by_uri.values(), key=lambda model: model.place):
            for source in model.sources:
                found.setdefault(source, []).append(model)
        return {source: tuple(models) for source, models in found.items()}

    def registered(self) -> tuple[Model, ...]:
        """Return the models whose version is in the registry."""
        return tuple(model for model in self.models if model.registered)

    def resolve(self, text: str, parameter: str = "model") -> str:
        """Return the URI of a model that the caller named; it need not be a model of this store.

        Raises:
            UsageError: it is not spelled as a model is, or the alias is not set.
        """
        given = check_model(text, parameter)
        if given.version:
            return str(given)
        uri = self.aliases.get(str(given))
        if uri is None:
            known = sorted(known.removeprefix("models:/") for known in self.aliases)
            raise UsageError(parameter, text, f"no model has this alias; there are {', '.join(known) or 'none'}")
        return uri

    def find(self, text: str, parameter: str = "model") -> Model:
        """Find a model that the caller named.

        Raises:
            UsageError: there is no such model; the message lists those that there are.
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
    # A name that was deleted and made again begins at version 1 again: only URI and run together identify a version.
    versions = paged(client.search_model_versions, OURS, max_results=VERSIONS)
    registered = {(f"models:/{v.name}/{v.version}", v.run_id or ""): v.tags for v in versions}
    aliases = read_aliases(client)
    where = f"tags.`{schema.MODEL}` != '' and attributes.status = 'FINISHED'"
    runs = paged(
        client.search_runs, experiments(client), where, max_results=RUNS, order_by=["attributes.start_time DESC"]
    )
    found = ((model, registered.get((model.uri, model.run_id))) for _, model in schema.readable(runs))
    return Catalog(tuple(m if tags is None else in_registry(m, tags, aliases) for m, tags in found), aliases)


def find_registered(client: MlflowClient, text: str, parameter: str = "model") -> Model:
    """Find a registered model that the caller named, in a few requests.

    Raises:
        UsageError: there is no such version, its run did not finish, or it is a copy of another version.
    """
    version = find_version(client, str(check_model(text, parameter)), parameter)
    run = finished_run(client, version)
    model = None if run is None else next((model for _, model in schema.readable([run])), None)
    if model is None or not model.uri:
        raise UsageError(parameter, text, "its run did not finish or was deleted")
    if model.uri != uri_of(version):
        raise UsageError(parameter, text, f"is a copy of {model.uri}, which its run made; name that version")
    return in_registry(model, version.tags, {})


def read_aliases(client: MlflowClient) -> dict[str, str]:
    """Return the model URIs by alias URI."""
    return {
        f"models:/{model.name}@{alias}": f"models:/{model.name}/{version}"
        for model in paged(client.search_registered_models, OURS, max_results=NAMES)
        for alias, version in model.aliases.items()
    }


def in_registry(model: Model, tags: Mapping[str, str], aliases: Mapping[str, str]) -> Model:
    """Return a model with the tags of its version and its aliases in the registry."""
    name, _ = model.place
    # Runs of before have no such parameter.
    params = {"transfer": tags.get("transfer", ""), **model.params}
    champion = aliases.get(f"models:/{name}@{CHAMPION}") == model.uri
    return replace(model, params=params, registered=True, champion=champion)
