"""Promotes versions of a registered model to an alias of the team's own, and takes promotions back.

The holders of an alias, oldest first, are a tag of the registered model: promoting adds to the list, rolling back
takes from it. Tags of each version hold when it was promoted and when that was taken back.
The alias is moved first and the list written after: where a process is killed in between, the list still leads back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from kdops.config.criterion import VALIDATION
from kdops.errors import KdopsError, UsageError
from kdops.packaging.loading import load_stored
from kdops.registry.lookup import describe_names, existing, find_version, runs_of, uri_of
from kdops.store.client import retry_on_conflict
from kdops.sweeps import schema
from kdops.sweeps.metrics import VAL_ACCURACY, VAL_BASELINE
from kdops.sweeps.ranking import shipping_criterion

MOST = 40
"""Number of holders that are kept: their tag must fit into the 5,000 characters that MLflow's column of a database
server has for it."""

ROUNDING = 1e-9
"""An accuracy that lies on the margin is not beyond it, whatever its last bits."""


@dataclass(frozen=True)
class Holder:
    """One version that held an alias.

    Attributes:
        version: its number.
        run_id: the run that made it; a name that was deleted and made again counts its versions from 1 again.
        at: when it was promoted, in UTC.
    """

    version: str
    run_id: str
    at: str


@dataclass(frozen=True)
class Promotion:
    """A version that was promoted.

    Attributes:
        uri: the version, ``models:/<name>/<version>``.
        accuracy: its validation accuracy.
        before: the version that had the alias until then; empty for none.
        before_accuracy: its validation accuracy; None for none.
        baseline: what always answering the largest class reaches, where classes differ much in size and the version
            reaches no more; None elsewhere.
    """

    uri: str
    accuracy: float
    before: str = ""
    before_accuracy: float | None = None
    baseline: float | None = None

    @property
    def was_there(self) -> bool:
        """It had the alias already, so nothing changed."""
        return self.uri == self.before


@dataclass(frozen=True)
class Rollback:
    """A promotion that was taken back.

    Attributes:
        uri: the version that has the alias now; empty where no version had it before.
        before: the version that had it until then; empty for none.
        gone: the numbers of versions that held it in between and were deleted since.
    """

    uri: str
    before: str
    gone: tuple[str, ...] = ()


def promote(client: MlflowClient, uri: str, alias: str, margin: float) -> Promotion:
    """Move an alias to a version, if it is whole and worse by no more than a margin than the one that has it.

    Args:
        uri: ``models:/name/version`` or ``models:/name@alias``.
        margin: by so much its validation accuracy may be below that of the holder, a fraction.

    Raises:
        UsageError: there is no such version.
        KdopsError: it was not registered by kdops, is not whole, is of other data or another split than the holder, or
            is worse by more than the margin.
    """
    version = find_version(client, uri)
    _check_whole(client, version)
    accuracy = float(version.tags[VAL_ACCURACY])
    holder = existing(client.get_model_version_by_alias, version.name, alias)
    baseline = schema.finite(version.tags.get(VAL_BASELINE))
    promotion = Promotion(uri_of(version), accuracy, baseline=baseline if accuracy <= (baseline or 0) else None)
    if holder is not None:
        if holder.version == version.version:
            return replace(promotion, before=promotion.uri, before_accuracy=accuracy)
        before = _compared(version, holder, alias, margin)
        promotion = replace(promotion, before=uri_of(holder), before_accuracy=before)
    history = holders_of(client, version.name, alias)
    if holder is not None:
        place = _last_place(history, holder)
        # If the alias was moved by hand since, its present holder stays in the history: a rollback returns to it.
        history = [*history, _described(holder)] if place is None else history[: place + 1]
    retry_on_conflict(client.set_registered_model_alias, version.name, alias, version.version)
    _write(client, version.name, alias, [*history, _described(version)])
    retry_on_conflict(client.set_model_version_tag, version.name, version.version, schema.promoted(alias), _now())
    return promotion


def rollback(client: MlflowClient, name: str, alias: str) -> Rollback:
    """Take the last promotion to an alias back: whoever held it before has it again.

    Versions that were deleted since are passed over. Where the alias was moved by hand since the last promotion, that
    is what is taken back. The first promotion of all is taken back by taking the alias away.

    Raises:
        UsageError: there is no such registered model.
        KdopsError: nothing was promoted, or all that held the alias before was deleted.
    """
    holder, history = existing(client.get_model_version_by_alias, name, alias), holders_of(client, name, alias)
    if not history:
        raise KdopsError(f"nothing was promoted to {alias} of {name} (by kdops promote), so nothing can be taken back")
    # A holder that was set by hand came after all of the history.
    earlier = history[: None if holder is None else _last_place(history, holder)]
    there = [_there(client, name, one) for one in earlier]
    alive = [number for number, found in enumerate(there) if found]
    before = "" if holder is None else uri_of(holder)
    gone = tuple(one.version for one, found in zip(earlier, there, strict=True) if not found)
    if alive:
        last = alive[-1]
        retry_on_conflict(client.set_registered_model_alias, name, alias, earlier[last].version)
        _write(client, name, alias, earlier[: last + 1])
        gone = tuple(one.version for one in earlier[last + 1 :])
        uri = f"models:/{name}/{earlier[last].version}"
    elif gone:
        raise KdopsError(
            f"every version of {name} that was {alias} before was deleted ({', '.join(gone)}); {alias} stays as it is: "
            "promote another version"
        )
    else:
        _write(client, name, alias, [])
        client.delete_registered_model_alias(name, alias)
        uri = ""
    if holder is not None:
        retry_on_conflict(client.set_model_version_tag, name, holder.version, schema.rolled_back(alias), _now())
    return Rollback(uri, before, gone)


def holders_of(client: MlflowClient, name: str, alias: str) -> list[Holder]:
    """Return the versions that held an alias through promotions, oldest first.

    Raises:
        UsageError: there is no such registered model.
        KdopsError: the tag that lists them was changed by others.
    """
    model = existing(client.get_registered_model, name)
    if model is None:
        raise UsageError("model", name, f"there is no such registered model; {describe_names(client)}")
    try:
        text = model.tags.get(schema.promotions(alias), "[]")
        return [Holder(str(one["version"]), str(one["run_id"]), str(one["at"])) for one in json.loads(text)]
    except (ValueError, KeyError, TypeError) as error:
        raise KdopsError(
            f"the tag {schema.promotions(alias)} of {name} is not what kdops wrote; delete it to begin anew"
        ) from error


def _check_whole(client: MlflowClient, version: ModelVersion) -> None:
    """Refuse a version that may not be deployed, whoever has the alias.

    Raises:
        KdopsError: it is not of kdops, was chosen on test, its run did not finish, or its files are gone or damaged.
    """
    uri = uri_of(version)
    if not schema.is_own(version):
        raise KdopsError(f"{uri} was not registered by kdops: nothing says how good it is, so it is not promoted")
    if schema.is_chosen_on_test(version):
        raise KdopsError(
            f"{uri} was chosen on the test images (select_on=test), so its test accuracy is too high and it is not "
            "promoted; choose one on validation"
        )
    if version.run_id not in runs_of(client, [version]):
        raise KdopsError(f"the run of {uri} did not finish or was deleted, so it is not promoted")
    load_stored(client, uri)


def _compared(version: ModelVersion, holder: ModelVersion, alias: str, margin: float) -> float:
    """Return the holder's validation accuracy, of which the version's is not more than the margin below.

    Raises:
        KdopsError: it is, or the two were not measured on the same images.
    """
    new, old = uri_of(version), uri_of(holder)
    other = [name for name in schema.GROUP if version.tags.get(name) != holder.tags.get(name)]
    known = schema.finite(holder.tags.get(VAL_ACCURACY))
    if known is None or other:
        why = f"differs in {', '.join(other)}" if other else "does not say its validation accuracy"
        raise KdopsError(
            f"{new} is not compared with {old}, which is {alias} and {why}: choose another --alias, or take {alias} "
            f"away first (kdops rollback {version.name} --alias {alias})"
        )
    own, held = schema.from_version(version), schema.from_version(holder)
    by = shipping_criterion(own) if schema.is_uneven(held) else VALIDATION
    score, bar = own.metrics[by.metric], held.metrics[by.metric]
    if score < bar - margin - ROUNDING:
        raise KdopsError(
            f"{new} is not promoted: its validation {by.by.replace('_', ' ')} {score:.4f} is more than "
            f"margin={margin:g} below the {bar:.4f} of {old}, which is {alias}"
        )
    return known


def _there(client: MlflowClient, name: str, holder: Holder) -> bool:
    """Return whether a version is still the one that was promoted."""
    version = existing(client.get_model_version, name, holder.version)
    return version is not None and version.status == "READY" and version.run_id == holder.run_id


def _last_place(history: Sequence[Holder], version: ModelVersion) -> int | None:
    """Return where a version stands in the history for the last time; None where it does not."""
    own = str(version.version), version.run_id
    return max((place for place, one in enumerate(history) if (one.version, one.run_id) == own), default=None)


def _described(version: ModelVersion) -> Holder:
    return Holder(str(version.version), version.run_id or "", _now())


def _write(client: MlflowClient, name: str, alias: str, history: Sequence[Holder]) -> None:
    entries: list[Mapping[str, str]] = [asdict(one) for one in history[-MOST:]]
    retry_on_conflict(client.set_registered_model_tag, name, schema.promotions(alias), json.dumps(entries))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
