"""The model registry: one name for each data set and role, tags that can be ranked, a card, and the champion."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from kdops.config.roles import ROLES
from kdops.data.dataset import Dataset
from kdops.data.splits import Split
from kdops.errors import UsageError
from kdops.registry.card import card
from kdops.store.client import paged, retry_on_conflict
from kdops.store.duplicates import drop_double_versions
from kdops.sweeps import schema
from kdops.sweeps.metrics import VAL_ACCURACY, VAL_NLL
from kdops.sweeps.model import Model, rank_key

__all__ = [
    "CHAMPION",
    "Registry",
    "delete_version",
    "group_of",
    "known_names",
    "quoted",
    "registered_name",
    "versions_of",
]

CHAMPION = "champion"
PAGE = 1000


def registered_name(dataset: str, role: str) -> str:
    """Return the registered name of a role, ``kdops-digits-student``; characters MLflow refuses become ``-``."""
    return f"kdops-{re.sub(r'[^A-Za-z0-9_.-]+', '-', dataset)}-{role}"


def quoted(text: str, parameter: str = "model") -> str:
    """Write text into a filter of MLflow, which knows no escapes.

    Args:
        text: what is looked for.
        parameter: what a mistake is told of.

    Raises:
        UsageError: it could end the quotes, or is more than one line.
    """
    if not text.isprintable() or set(text) & set("'\"`\\"):
        raise UsageError(parameter, text, "must have no quotes, backslashes or line breaks")
    return f"'{text}'"


def known_names(client: MlflowClient) -> list[str]:
    """Return the name of every registered model."""
    return sorted(model.name for model in paged(client.search_registered_models, max_results=PAGE))


def versions_of(client: MlflowClient, name: str) -> list[ModelVersion]:
    """Return every finished version of a registered model, the oldest first; none where there is no such model.

    Raises:
        UsageError: the name has quotes.
    """
    found = paged(client.search_model_versions, f"name = {quoted(name)}", max_results=PAGE)
    return sorted((version for version in found if version.status == "READY"), key=lambda version: int(version.version))


def delete_version(client: MlflowClient, version: ModelVersion) -> None:
    """Delete a version; where it is the champion, the best other one of its data and split succeeds it."""
    name, number = version.name, version.version
    before, group = _champion(client, name), {tag: version.tags.get(tag, "") for tag in schema.GROUP}
    if before == str(number):
        # Before it goes: an alias on nothing would stay if this process were killed in between.
        _update_champion(client, name, group, number)
    client.delete_model_version(name, number)
    if before and not _champion(client, name):
        # Another process had set the alias on it meanwhile, and the alias went with it.
        _update_champion(client, name, group)


def group_of(data: Dataset, split: Split) -> dict[str, str]:
    """Return the tags that versions must share to be compared, of these data and this split."""
    return dict(zip(schema.GROUP, (data.digest, split.mode, split.digest), strict=True))


class Registry:
    """The registered models of one data set and split.

    Args:
        client: an MLflow client.
        data: the data set.
        split: the split; versions of another split, transfer setting or data digest are never ranked here.
    """

    def __init__(self, client: MlflowClient, data: Dataset, split: Split):
        self.client, self.data, self.split = client, data, split
        self._made: set[str] = set()

    def register(self, record: Model, study: str, fingerprint: str) -> str:
        """Register a stored model with its card, link it to its version, and give ``models:/<name>/<version>``."""
        name = registered_name(self.data.name, record.role)
        self._make(name)
        version = retry_on_conflict(
            self.client.create_model_version,
            name,
            source=f"models:/{record.model_id}",
            run_id=record.run_id,
            model_id=record.model_id,
            description=card(record, self.data, self.split),
            await_creation_for=None,
            tags={
                **schema.to_version(record),
                "study": study,
                "fingerprint": fingerprint,
                **group_of(self.data, self.split),
            },
        )
        drop_double_versions(self.client, name, record.run_id, version.version)
        # MLflow's own register_model writes this tag; the model's page shows its versions from it.
        link = json.dumps([{"name": name, "version": version.version}])
        self.client.set_logged_model_tags(record.model_id, {"mlflow.modelVersions": link})
        return f"models:/{name}/{version.version}"

    def update_champion(self, role: str) -> str | None:
        """Set the alias ``champion`` on the role's best version of this split; return its URI.

        Best is the highest ``val_accuracy``, then the lowest ``val_nll``, then the lowest version, among the versions
        whose run is finished and was not deleted. It is computed from the versions, and computed again once it is set:
        a version that another study registered in between is seen by the study that set the alias last, so that racing
        writers end right. Where there is no such version, the alias is taken from one whose run was deleted.
        """
        name = registered_name(self.data.name, role)
        best = _update_champion(self.client, name, group_of(self.data, self.split))
        return None if best is None else f"models:/{name}/{best}"

    def delete_versions_of(self, run_id: str) -> None:
        """Delete the versions of a run that ended before its model was whole; a champion among them has a successor."""
        for version in list(_search(self.client, f"run_id = '{run_id}'")):
            try:
                delete_version(self.client, version)
            except MlflowException as error:
                # The answer to a first request may have been lost.
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise

    def made(self) -> set[tuple[str, str]]:
        """Return the URI of every version of this data set and split, each with the id of the run that made it.

        A name that was deleted and made again counts its versions from 1 again, so a URI alone does not name a model.
        """
        where = f"name LIKE '{registered_name(self.data.name, '')}%' and tags.split = '{self.split.digest}'"
        return {(f"models:/{v.name}/{v.version}", v.run_id or "") for v in _search(self.client, where)}

    def of_other_data(self) -> int:
        """Count the versions that are called as this data set's and are of other data: a name can stand for several."""
        names = {registered_name(self.data.name, role) for role in (*ROLES, "ensemble")}
        where = f"name LIKE '{registered_name(self.data.name, '')}%' and tags.data_digest != '{self.data.digest}'"
        return sum(v.name in names for v in _search(self.client, where))

    def _make(self, name: str) -> None:
        if name in self._made:
            return
        try:
            self.client.create_registered_model(name, tags={"dataset": self.data.name})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        self._made.add(name)


def _champion(client: MlflowClient, name: str) -> str:
    # A database gives numbers of versions, a server text.
    return str(client.get_registered_model(name).aliases.get(CHAMPION, ""))


def _update_champion(client: MlflowClient, name: str, group: Mapping[str, str], but: str = "") -> str | None:
    """Set the alias on the best version of a group, a version that is to go left out; return the version's number."""
    champion = None
    while (best := _best(client, name, group, but)) is not None and best != champion:
        try:
            client.set_registered_model_alias(name, CHAMPION, best)
        except MlflowException as error:
            # Deleted by another process since it was found.
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            continue
        champion = best
    if champion is None and not but:
        _drop_dead_champion(client, name)
    return champion


def _drop_dead_champion(client: MlflowClient, name: str) -> None:
    """Take the alias from a version whose run was deleted."""
    try:
        holder = client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return
    if not _is_whole(client, holder.run_id or ""):
        client.delete_registered_model_alias(name, CHAMPION)


def _best(client: MlflowClient, name: str, group: Mapping[str, str], but: str) -> str | None:
    where = f"name = '{name}'"
    # Somebody's edit may have left anything there.
    if group["split"].isalnum():
        where += f" and tags.split = '{group['split']}'"
    found = [v for v in _search(client, where) if str(v.version) != str(but) and group.items() <= v.tags.items()]
    models = [model for model in map(schema.from_version, found) if {VAL_ACCURACY, VAL_NLL} <= model.metrics.keys()]
    ranked = sorted(models, key=lambda model: (*rank_key(model), *model.place))
    return next((str(model.place[1]) for model in ranked if _is_whole(client, model.run_id)), None)


def _is_whole(client: MlflowClient, run_id: str) -> bool:
    """Return whether the run of a version is finished and was not deleted."""
    try:
        info = client.get_run(run_id).info
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return False
    return info.status == "FINISHED" and info.lifecycle_stage == "active"


def _search(client: MlflowClient, where: str) -> Iterator[ModelVersion]:
    return paged(client.search_model_versions, where, max_results=PAGE)
