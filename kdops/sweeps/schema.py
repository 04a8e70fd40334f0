"""How a run and a registered version describe a model: the only file that names the tags ``kdops.*``.

Parameters are named in :mod:`kdops.sweeps.params`, metrics in :mod:`kdops.sweeps.metrics`.

It stands below the rooms that know MLflow, since the store, the packages, the registry and the search use its names
too; runs and versions are taken as they are, and MLflow is not loaded.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from kdops.sweeps import params
from kdops.sweeps.metrics import (
    TEST_ACCURACY,
    TEST_NLL,
    VAL_ACCURACY,
    VAL_BALANCED_ACCURACY,
    VAL_BASELINE,
    VAL_NLL,
)
from kdops.sweeps.model import FOREIGN, LABELS, Model

logger = logging.getLogger(__name__)

# Tags of the run of a model.
ROLE = "kdops.role"
SOURCE = "kdops.source"
CHAIN = "kdops.chain"
WEIGHTS = "kdops.weights"
COMPANY = "kdops.company"
"""Of a peer: how the nets of its company learn from each other. Those of one company share ``FLEET_DIGEST``."""
FLEET = "kdops.fleet"
FLEET_DIGEST = "kdops.fleet_digest"
FINGERPRINT = "kdops.fingerprint"
TRAINING = "kdops.training"
TRAINED_ON = "kdops.trained_on"
ATTACK = "kdops.attack"
KNOWLEDGE = "kdops.knowledge"
OPEN_SET = "kdops.open_set"
MODEL = "kdops.model"
"""The model URI; set last, so that a run that has it is whole."""

# Tags of the run of a model and of a study.
STUDY = "kdops.study"
DATASET = "kdops.dataset"
SPLIT = "kdops.split"
PROCESS = "kdops.process"
OWNER = "kdops.owner"

# Tags of the run of a study.
NOTES = "kdops.notes"
PAPER = "kdops.paper"
"""Whose claims the study tests; before there were several it was the one of the other studies."""
ENGINE = "kdops.engine"
HEARTBEAT = "kdops.heartbeat"
ERROR = "kdops.error"
SELECT_ON = "kdops.select_on"
"""Also of the run of a model that was chosen on test."""
REUSED = "kdops.reused"
VERDICT = "kdops.verdict"

# Tags of the run of a search's trial.
TRIAL = "kdops.trial"
TRIAL_STATE = "kdops.trial_state"
SEARCH = "kdops.search"
"""Also an attribute of the search in Optuna's storage."""

# Attributes of a trial in Optuna's storage, beside PROCESS.
TRIAL_AGAIN = "kdops.again"
TRIAL_WITHDRAWN = "kdops.withdrawn"
"""Of earlier versions: the trial was asked for too much and never trained."""
TRIAL_RUN = "kdops.run"
TRIAL_HOPELESS = "kdops.hopeless"

# Tag of an experiment.
DATABASE = "kdops.database"
"""The sqlite file that it was made in."""

# Tags that MLflow itself reads.
PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"

# Tags of a version. Those of its parameters and metrics are named as these are, see ``to_version``.
DATA_DIGEST = "data_digest"
SPLIT_DIGEST = "split"
LEARNED_FROM = "source"
CHAIN_OF_ROLES = "chain"

CHAMPION = "champion"
"""The alias that every study sets on the best version of a role."""

GROUP = (DATA_DIGEST, params.TRANSFER, SPLIT_DIGEST)
"""Tags that versions must share to be compared."""

CHOSEN_ON = "select_on"
"""Tag of a version that was chosen on test, as :data:`SELECT_ON` is of its run."""

RANKED = (VAL_ACCURACY, VAL_NLL, TEST_ACCURACY)
"""Metrics that a version has as tags."""

RANKED_UNEVEN = (VAL_BALANCED_ACCURACY, VAL_BASELINE)
"""Those that it has where classes differ much in size, see :mod:`kdops.data.imbalance`."""

OWN_PARAMS = (params.SEED, params.TEMPERATURE)
"""Parameters of a run that are fields of a model."""

LONGEST = 7900
"""MLflow's tags end at 8,000 characters."""

LONGEST_NAME = 250
"""Characters that MLflow's column of a database server has for the name of a run; a file of sqlite takes any."""

Item = TypeVar("Item")


def promotions(alias: str) -> str:
    """Return the tag of a registered model that lists which versions held an alias."""
    return f"kdops.promotions.{alias}"


def promoted(alias: str) -> str:
    """Return the tag of a version with the time at which it was promoted to an alias."""
    return f"kdops.promoted.{alias}"


def champion_note(group: Mapping[str, str]) -> str:
    """Return the tag of a registered model that has the best version of a group (see ``GROUP``) up to some number."""
    digest = hashlib.sha256(json.dumps([group[name] for name in GROUP]).encode()).hexdigest()
    return f"kdops.champion.{digest[:16]}"


def rolled_back(alias: str) -> str:
    """Return the tag of a version with the time at which its promotion to an alias was taken back."""
    return f"kdops.rolled_back.{alias}"


def fitted(uris: Sequence[str]) -> str:
    """Join URIs into a tag, cut where it would be too long; ``results.csv`` has them all."""
    text = " ".join(uris)
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rsplit(' ', 1)[0]} ..."


def fitted_name(name: str) -> str:
    """Return the name of a run, cut where it would be too long."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..."


def finite(text: str | None) -> float | None:
    """Read a finite number from a tag, which any user may have written; None where there is none."""
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def is_chosen_on_test(version: Any) -> bool:
    """Return whether a registered version, or a source of it, was chosen on the test images."""
    return bool(version.tags.get(CHOSEN_ON) == "test")


def to_run(model: Model) -> tuple[dict[str, str], dict[str, str]]:
    """Return the parameters and the tags of the run of a model.

    A model that is not trained yet has no tags of weights; one that is not registered yet has none of its URI.
    """
    logged = {**model.params, params.TEMPERATURE: _number(model.temperature), params.SEED: str(model.seed)}
    tags = {
        ROLE: model.role,
        SOURCE: fitted(model.source.split()),
        CHAIN: model.chain,
        DATASET: model.dataset,
        SPLIT: model.split,
    }
    if model.weights:
        seeds = ",".join(map(str, model.pass_seeds))
        tags |= {WEIGHTS: model.weights, FLEET: seeds, FLEET_DIGEST: model.pass_digest}
    if model.select_on == "test":
        tags[SELECT_ON] = model.select_on
    if params.COMPANY in model.params:
        tags[COMPANY] = model.params[params.COMPANY]
    if model.uri:
        tags[MODEL] = model.uri
    return {name: str(value) for name, value in logged.items()}, tags


def from_run(run: Any) -> Model:
    """Return the model of an MLflow run. Raises ValueError if a tag or parameter cannot be read."""
    tags, logged = run.data.tags, run.data.params
    outputs = run.outputs.model_outputs if run.outputs else []
    return Model(
        role=tags.get(ROLE, ""),
        seed=_read(run, params.SEED, logged.get(params.SEED, "0"), int),
        temperature=_read(run, params.TEMPERATURE, logged.get(params.TEMPERATURE, "nan"), float),
        chain=tags.get(CHAIN, ""),
        source=tags.get(SOURCE, LABELS),
        uri=tags.get(MODEL, ""),
        run_id=run.info.run_id,
        model_id=outputs[0].model_id if outputs else "",
        weights=tags.get(WEIGHTS, ""),
        metrics=dict(run.data.metrics),
        params={name: value for name, value in logged.items() if name not in OWN_PARAMS},
        pass_seeds=_read(run, FLEET, tags.get(FLEET, ""), _seeds),
        pass_digest=tags.get(FLEET_DIGEST, ""),
        dataset=tags.get(DATASET, ""),
        split=tags.get(SPLIT, ""),
        images=_images(run),
        reused=True,
        # Anybody may have written the tag.
        select_on="test" if tags.get(SELECT_ON) == "test" else "validation",
    )


def readable(items: Iterable[Item], read: Any = from_run) -> Iterator[tuple[Item, Model]]:
    """Yield runs with their models; a run that cannot be read is left out, with one line in the log."""
    for item in items:
        try:
            yield item, read(item)
        except ValueError as error:
            logger.warning("a model is left out: %s", error)


def to_version(model: Model) -> dict[str, str]:
    """Return the tags of the version of a model."""
    return {
        params.TEMPERATURE: _number(model.temperature),
        params.SEED: str(model.seed),
        LEARNED_FROM: model.source,
        CHAIN_OF_ROLES: model.chain,
        params.ARCHITECTURE: model.architecture,
        **({params.METHOD: model.method} if model.method else {}),
        **{name: repr(model.metrics[name]) for name in RANKED},
        **({name: repr(model.metrics[name]) for name in RANKED_UNEVEN} if is_uneven(model) else {}),
        **({CHOSEN_ON: model.select_on} if model.select_on == "test" else {}),
    }


def is_uneven(model: Model) -> bool:
    """Return whether a model's data have classes that differ much in size, so that accuracy hardly sees small ones."""
    return model.metrics.keys() >= {*RANKED_UNEVEN}


def is_own(version: Any) -> bool:
    """Return whether a registered version has the tags of a kdops model."""
    tags = version.tags
    numbers = all(finite(tags.get(name)) is not None for name in RANKED)
    texts = all(name in tags for name in (*GROUP, LEARNED_FROM, CHAIN_OF_ROLES, params.ARCHITECTURE))
    # An ensemble's temperature is nan.
    return numbers and texts and _can_read(tags, params.SEED, int) and _can_read(tags, params.TEMPERATURE, float)


def from_version(version: Any, run: Any = None) -> Model:
    """Return the model of a registered version.

    Args:
        run: the run that trained it, of one that kdops registered; None for any other, of which hardly more than its
            name is known.

    Raises:
        ValueError: a tag or parameter of the run cannot be read.
    """
    tags = version.tags
    values = {name: finite(tags.get(name)) for name in (*RANKED, *RANKED_UNEVEN, TEST_NLL)}
    metrics = {name: value for name, value in values.items() if value is not None}
    uri = f"models:/{version.name}/{version.version}"
    # From a database a version has the id of its logged model only in what it was made from.
    source = (version.source or "").removeprefix("models:/")
    run_id, model_id = version.run_id or "", source if source.startswith("m-") else ""
    if run is None:
        chain = tags.get(CHAIN_OF_ROLES, "")
        return Model(FOREIGN, 0, math.nan, chain, "", uri, run_id=run_id, model_id=model_id, metrics=metrics)
    trained = from_run(run)
    return replace(
        trained,
        seed=int(tags[params.SEED]),
        temperature=float(tags[params.TEMPERATURE]),
        chain=tags[CHAIN_OF_ROLES],
        source=tags[LEARNED_FROM],
        uri=uri,
        run_id=run_id,
        model_id=model_id,
        params={**trained.params, params.ARCHITECTURE: tags[params.ARCHITECTURE]},
        metrics={**trained.metrics, **metrics},
    )


def _read(run: Any, name: str, text: str, read: Any) -> Any:
    try:
        return read(text)
    except (ValueError, OverflowError):
        raise ValueError(f"{name}={text} of the run {run.info.run_id} cannot be read; correct or delete it") from None


def _can_read(tags: Mapping[str, str], name: str, read: Any) -> bool:
    try:
        read(tags[name])
    except (KeyError, ValueError):
        return False
    return True


def _number(value: float) -> str:
    """Return a number as a text that reads as the same number: ``4``, ``2.5``, ``4.123456789``."""
    short = f"{value:g}"
    return short if math.isnan(value) or float(short) == value else repr(value)


def _seeds(text: str) -> tuple[int, ...]:
    return tuple(int(seed) for seed in text.split(",") if seed)


def _images(run: Any) -> Mapping[str, int]:
    """Return how many images a run saw of each part of its data, as far as that was logged with the data."""
    found = {}
    for seen in run.inputs.dataset_inputs if run.inputs else ():
        part = next((tag.value for tag in seen.tags if tag.key == "mlflow.data.context"), "")
        try:
            found[part] = int(json.loads(seen.dataset.profile or "{}")["images"])
        except (ValueError, KeyError, TypeError):
            continue
    return found
