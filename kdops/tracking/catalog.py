"""The models of a store, as their runs and the registry describe them. It only reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import get_model_info

from kdops.config.uris import check_model
from kdops.errors import UsageError
from kdops.registry.lookup import existing, find_version, finished_run, uri_of, with_parents
from kdops.store.client import paged
from kdops.sweeps import schema
from kdops.sweeps.metrics import VAL_BASELINE
from kdops.sweeps.model import Model
from kdops.sweeps.params import TRANSFER
from kdops.utils.quiet import without_bars

OURS = "name LIKE 'kdops-%'"


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


def find_registered(client: MlflowClient, text: str) -> Model:
    """Find a registered model that the caller named, in a few requests.

    Raises:
        UsageError: there is no such version, others made it, its run did not finish, or it is a copy of another one.
    """
    version = find_version(client, str(check_model(text)))
    model = made_by_run(client, version)
    # A copy may lack the tags of the version that it was made from.
    if model is not None and model.uri != uri_of(version):
        raise UsageError("model", text, f"is a copy of {model.uri}, which its run made; name that version")
    if is_of_others(version):
        raise UsageError("model", text, describe_foreign(version))
    if model is None:
        raise UsageError("model", text, "its run did not finish or was deleted")
    return in_registry(model, version.tags, {})


def made_by_run(client: MlflowClient, version: ModelVersion) -> Model | None:
    """Return the model that the finished run of a version made; None where the run is none of kdops'."""
    run = finished_run(client, version)
    return next((model for _, model in schema.readable([run] if run else []) if model.uri), None)


def is_of_others(version: ModelVersion) -> bool:
    """Return whether kdops did not make a version; one of a run that did not finish may lack the tags of its own."""
    return not schema.is_own(version) and not version.name.startswith("kdops-")


def describe_foreign(version: ModelVersion) -> str:
    """Return what a registered version is that kdops did not make, and what can be done with it."""
    uri = uri_of(version)
    try:
        flavors = [name for name in get_model_info(uri).flavors if name != "python_function"]
    except Exception:  # its files may be gone, or of a newer MLflow
        flavors = []
    what = f"a model of {flavors[0]}" if flavors else "Python code"
    return (
        f"is {what} that others registered, not kdops: distill from it with kdops students --source {uri}, ask it with "
        f"mlflow models predict --model-uri {uri}; kdops lineage shows what came of it"
    )


def data_of(client: MlflowClient, model: Model) -> dict[str, str]:
    """Return the parameters by which the data of a model were read, as its study wrote them; none if it did not."""
    read = partial(existing, client.get_run)
    for run in islice(with_parents(read(model.run_id), read), 1, None):
        try:
            with without_bars():
                text = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/settings.json")
            described = json.loads(text)["settings"]
            origin = described["origin"] or {"dataset": described["dataset"]}
            words = {True: "true", False: "false"}
            return {str(name): words.get(value, str(value)) for name, value in origin.items()}
        except (MlflowException, OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return {}


def read_aliases(client: MlflowClient) -> dict[str, str]:
    """Return the model URIs by alias URI."""
    return {
        f"models:/{model.name}@{alias}": f"models:/{model.name}/{version}"
        for model in paged(client.search_registered_models, OURS)
        for alias, version in model.aliases.items()
    }


def in_registry(model: Model, tags: Mapping[str, str], aliases: Mapping[str, str]) -> Model:
    """Return a model with the tags of its version and its aliases in the registry."""
    name, _ = model.place
    # Runs of before have no such parameter.
    params = model.params if TRANSFER in model.params else {TRANSFER: tags.get(TRANSFER, ""), **model.params}
    champion = aliases.get(f"models:/{name}@{schema.CHAMPION}") == model.uri
    baseline = schema.finite(tags.get(VAL_BASELINE))
    metrics = model.metrics if baseline is None else {**model.metrics, VAL_BASELINE: baseline}
    return replace(model, params=params, metrics=metrics, registered=True, champion=champion)
