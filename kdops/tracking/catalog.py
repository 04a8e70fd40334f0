"""The models of a store, as their runs and the registry describe them. It only reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mlflow import MlflowClient

from kdops.config.uris import check_model
from kdops.errors import UsageError
from kdops.registry.champion import CHAMPION
from kdops.registry.lookup import find_version, finished_run, uri_of
from kdops.store.client import paged
from kdops.sweeps import schema
from kdops.sweeps.model import Model
from kdops.sweeps.params import TRANSFER

OURS = "name LIKE 'kdops-%'"
PAGE = 100


@dataclass(frozen=True)
class Catalog:
    """The models of a store.

    Attributes:
        models: finished models.
        aliases: model URIs by alias URI, ``models:/kdops-digits-student@champion``.
    """

    models: tuple[Model, ...]
    aliases: Mapping[str, str]

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
        for model in paged(client.search_registered_models, OURS, max_results=PAGE)
        for alias, version in model.aliases.items()
    }


def in_registry(model: Model, tags: Mapping[str, str], aliases: Mapping[str, str]) -> Model:
    """Return a model with the tags of its version and its aliases in the registry."""
    name, _ = model.place
    # Runs of before have no such parameter.
    params = {TRANSFER: tags.get(TRANSFER, ""), **model.params}
    champion = aliases.get(f"models:/{name}@{CHAMPION}") == model.uri
    return replace(model, params=params, registered=True, champion=champion)
