"""The model registry: one name for each data set and role, tags that can be ranked, a card, and the champion."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from kdops.config.roles import ROLES
from kdops.data.dataset import Dataset
from kdops.data.imbalance import majority_of
from kdops.data.splits import Split
from kdops.registry.card import card
from kdops.registry.champion import champion_of, update_champion
from kdops.registry.lookup import ABSENT, existing
from kdops.store.client import paged, retry_on_conflict
from kdops.store.duplicates import drop_double_versions
from kdops.sweeps import schema
from kdops.sweeps.metrics import VAL_BASELINE
from kdops.sweeps.model import ELSEWHERE, Model
from kdops.sweeps.params import TRANSFER


def registered_name(dataset: str, role: str) -> str:
    """Return the registered name of a role, ``kdops-digits-student``; characters MLflow refuses become ``-``."""
    return f"kdops-{re.sub(r'[^A-Za-z0-9_.-]+', '-', dataset)}-{role}"


def delete_version(client: MlflowClient, version: ModelVersion) -> None:
    """Delete a version; where it is the champion, the best other one of its data and split succeeds it."""
    name, number = version.name, version.version
    before, group = champion_of(client, name), {tag: version.tags.get(tag, "") for tag in schema.GROUP}
    if before == str(number):
        # Before it goes: an alias on nothing would stay if this process were killed in between.
        update_champion(client, name, group, number)
    client.delete_model_version(name, number)
    if before and not champion_of(client, name):
        # Another process had set the alias on it meanwhile, and the alias went with it.
        update_champion(client, name, group)


def group_of(data: Dataset, split: Split) -> dict[str, str]:
    """Return the tags that versions must share to be compared, of these data and this split."""
    return dict(zip(schema.GROUP, (data.digest, split.mode, split.digest), strict=True))


class Registry:
    """The registered models of one data set and split.

    Args:
        split: the split; versions of another split, transfer setting or data digest are never ranked here.
    """

    def __init__(self, client: MlflowClient, data: Dataset, split: Split):
        self.client, self.data, self.split = client, data, split
        self._made: set[str] = set()
        largest, labels = majority_of(data), data.labels[split.validation]
        self._baseline = {} if largest is None else {VAL_BASELINE: float((labels == largest.label).mean())}

    def register(self, record: Model, study: str, fingerprint: str) -> str:
        """Register a stored model with its card, link it to its version, and return ``models:/<name>/<version>``."""
        name = registered_name(self.data.name, record.role)
        record = replace(record, metrics={**record.metrics, **self._baseline})
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

        Best is the first of :func:`kdops.sweeps.ranking.shipping_order` among the versions whose
        run is finished and was not deleted, and that were not chosen on test. It is computed from the versions, and
        computed again once it is set: a version that another study registered in between is seen by the study that
        set the alias last, so that racing writers end right. Where there is no such version, the alias is taken from
        one whose run was deleted.
        """
        name = registered_name(self.data.name, role)
        best = update_champion(self.client, name, group_of(self.data, self.split))
        return None if best is None else f"models:/{name}/{best}"

    def delete_versions_of(self, run_id: str) -> None:
        """Delete the versions of a run that ended before its model was whole; a champion among them has a successor."""
        for version in list(_search(self.client, f"run_id = '{run_id}'")):
            # The answer to a first request may have been lost.
            existing(delete_version, self.client, version, codes=(ABSENT,))

    def of_role(self, role: str) -> list[ModelVersion]:
        """Return every version of a role of this data set and split."""
        name = registered_name(self.data.name, role)
        return list(_search(self.client, f"name = '{name}' and tags.{schema.SPLIT_DIGEST} = '{self.split.digest}'"))

    def of_other_data(self) -> int:
        """Count the versions that are called as this data set's and are of other data: a name can stand for several."""
        names = {registered_name(self.data.name, role) for role in (*ROLES, "ensemble")}
        where = (
            f"name LIKE '{registered_name(self.data.name, '')}%' and tags.{schema.DATA_DIGEST} != '{self.data.digest}'"
        )
        return sum(v.name in names for v in _search(self.client, where))

    def transfers_of(self, role: str) -> Counter[str]:
        """Count the versions of a role that learned here from these data, whatever the split, by ``transfer``."""
        where = f"name = '{registered_name(self.data.name, role)}' and tags.{schema.DATA_DIGEST} = '{self.data.digest}'"
        here = (v.tags for v in _search(self.client, where) if v.tags.get(schema.LEARNED_FROM) != ELSEWHERE)
        return Counter(tags.get(TRANSFER, "") for tags in here)

    def _make(self, name: str) -> None:
        if name in self._made:
            return
        try:
            self.client.create_registered_model(name, tags={"dataset": self.data.name})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        self._made.add(name)


def _search(client: MlflowClient, where: str) -> Iterator[ModelVersion]:
    return paged(client.search_model_versions, where)
