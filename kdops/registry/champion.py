"""The champion of a registered model: the best version of one data set and split.

The best so far is noted on the registered model, with the number up to which versions were ranked, so that a study
reads only those that were registered since. The note is never more than that: where its version is gone, its run
deleted, or a number of it cannot be read, all versions are ranked again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from kdops.registry.lookup import ABSENT, NOTHING, existing, finished_run, runs_of
from kdops.store.client import paged, retry_on_conflict
from kdops.sweeps import schema
from kdops.sweeps.metrics import VAL_ACCURACY, VAL_BALANCED_ACCURACY, VAL_BASELINE, VAL_NLL
from kdops.sweeps.model import ELSEWHERE, Model
from kdops.sweeps.ranking import shipping_order


def champion_of(client: MlflowClient, name: str) -> str:
    """Return the version that is champion of a registered model; empty where there is none."""
    # A database returns numbers of versions, a server text.
    return str(client.get_registered_model(name).aliases.get(schema.CHAMPION, ""))


def update_champion(client: MlflowClient, name: str, group: Mapping[str, str], but: str = "") -> str | None:
    """Set the alias on the best version of a group, a version that is to go left out; return the version's number."""
    champion = None
    while (best := _best(client, name, group, but)) is not None and best != champion:
        try:
            retry_on_conflict(client.set_registered_model_alias, name, schema.CHAMPION, best)
        except MlflowException as error:
            # Deleted by another process since it was found.
            if error.error_code != ABSENT:
                raise
            continue
        champion = best
    if champion is None and not but:
        _drop_dead_champion(client, name)
    return champion


def _drop_dead_champion(client: MlflowClient, name: str) -> None:
    """Take the alias from a version whose run was deleted."""
    holder = existing(client.get_model_version_by_alias, name, schema.CHAMPION)
    if holder is not None and finished_run(client, holder) is None:
        client.delete_registered_model_alias(name, schema.CHAMPION)


def _best(client: MlflowClient, name: str, group: Mapping[str, str], but: str) -> str | None:
    """Return the best version of a group whose run is finished, one that is to go left out; None without one."""
    noted, last = (None, 0) if but else _noted(client, name, group)
    where = f"name = '{name}' and version_number > {last}"
    # Somebody's edit may have left anything there.
    if group[schema.SPLIT_DIGEST].isalnum():
        where += f" and tags.{schema.SPLIT_DIGEST} = '{group[schema.SPLIT_DIGEST]}'"
    newer = [v for v in paged(client.search_model_versions, where) if str(v.version) != str(but)]
    models = [model for version in newer for model in _rankable(version, group)] + ([noted] if noted else [])
    uneven = next(filter(schema.is_uneven, models), None)
    if uneven and noted and not schema.is_uneven(noted):
        # It was the best by accuracy, so that another one of before may be better.
        existing(client.delete_registered_model_tag, name, schema.champion_note(group))
        return _best(client, name, group, but)
    if uneven:
        models = _balanced(client, models, uneven.metrics[VAL_BASELINE])
    comparable = not uneven or all(map(schema.is_uneven, models))
    unfinished: list[int] = []
    for model in shipping_order(models):
        number = model.place[1]
        if model is noted or finished_run(client, model) is not None:
            if newer and not but and comparable:
                # A better version whose run goes on yet is ranked again once it is finished.
                last = min(unfinished, default=max(int(version.version) for version in newer) + 1) - 1
                note = json.dumps({"best": number, "last": last})
                retry_on_conflict(client.set_registered_model_tag, name, schema.champion_note(group), note)
            return str(number)
        unfinished.append(number)
    return None


def _balanced(client: MlflowClient, models: Sequence[Model], baseline: float) -> list[Model]:
    """Return models with their balanced accuracy, where their runs know it; versions that lack it get it as tags.

    Args:
        baseline: what always answering the largest class reaches.
    """
    runs = runs_of(client, [model for model in models if not schema.is_uneven(model)])
    found = []
    for model in models:
        balanced = runs[model.run_id].data.metrics.get(VAL_BALANCED_ACCURACY) if model.run_id in runs else None
        if balanced is not None:
            metrics = {VAL_BALANCED_ACCURACY: balanced, VAL_BASELINE: baseline}
            name, number = model.place
            for metric, value in metrics.items():
                # The version may have been deleted since.
                existing(retry_on_conflict, client.set_model_version_tag, name, str(number), metric, repr(value))
            model = replace(model, metrics={**model.metrics, **metrics})
        found.append(model)
    return found


def _noted(client: MlflowClient, name: str, group: Mapping[str, str]) -> tuple[Model | None, int]:
    """Return the best version of a group up to some number, and that number; None and 0 where that is not known."""
    try:
        note = json.loads(client.get_registered_model(name).tags[schema.champion_note(group)])
        best, last = str(int(note["best"])), int(note["last"])
        (model,) = _rankable(client.get_model_version(name, best), group)
    except MlflowException as error:
        if error.error_code not in NOTHING:
            raise
        return None, 0
    except (KeyError, TypeError, ValueError):
        # This group was not ranked yet, or the note or the version was edited by hand.
        return None, 0
    return (model, last) if finished_run(client, model) else (None, 0)


def _rankable(version: ModelVersion, group: Mapping[str, str]) -> list[Model]:
    """Return the model of a version, alone in a list; none of another group, without numbers, or chosen on test.

    Nor is one that was trained elsewhere, which may have seen the validation images.
    """
    model = schema.from_version(version)
    if schema.is_chosen_on_test(version) or version.tags.get(schema.LEARNED_FROM) == ELSEWHERE:
        return []
    is_rankable = group.items() <= version.tags.items() and {VAL_ACCURACY, VAL_NLL} <= model.metrics.keys()
    return [model] if is_rankable else []
