"""Which models a study need not train: those of the store, and those of its own earlier sweeps."""

from __future__ import annotations

from collections.abc import Sequence

from kdops.data.dataset import Dataset
from kdops.data.splits import Split
from kdops.sweeps.model import Model
from kdops.sweeps.unit import Unit
from kdops.tracking.known_models import KnownModels, Wanted


class ModelIndex:
    """The models that are there, by what decides their weights and by URI; one for a study and all its parts."""

    def __init__(self, data: Dataset, split: Split, fresh: bool = False):
        self._stored = KnownModels(data, split)
        self._fresh = fresh
        self._models: dict[str, Model] = {}

    def look(self, wanted: Sequence[Wanted]) -> None:
        """Look for models in the store as it is now: other studies may have made what this one wants next."""
        missing = [one for one in wanted if one.fingerprint not in self._models]
        if missing and not self._fresh:
            self._models = {**self._stored.find(missing), **self._models}

    def of_fingerprint(self, fingerprint: str) -> Model | None:
        """Return the model of a fingerprint that may be used again."""
        return self._models.get(fingerprint)

    def of_uri(self, uri: str) -> Model | None:
        """Return a finished model by its URI."""
        return self._models.get(uri) or self._stored.of_uri(uri)

    def of_role(self, role: str) -> list[Model]:
        """Return every finished and registered model of a role."""
        return self._stored.of_role(role)

    def sort(self, units: Sequence[Unit]) -> tuple[dict[str, Model], list[Unit]]:
        """Return the models of units that are there, by fingerprint, and the units that are missing.

        A model is there if it was trained in the very same pass, or else in another one, and has the weights of all
        epochs that are to be kept: one that lacks some is trained again.
        """
        found = {
            unit.fingerprint: self._with_epochs(unit.fingerprint, unit) or self._with_epochs(unit.training, unit)
            for unit in units
        }
        there = {fingerprint: model for fingerprint, model in found.items() if model is not None}
        return there, [unit for unit in units if unit.fingerprint not in there]

    def _with_epochs(self, key: str, unit: Unit) -> Model | None:
        model = self._models.get(key)
        return model if model and {*unit.task.keep_epochs} <= {*model.kept_epochs} else None

    def add(self, model: Model, *keys: str) -> None:
        """Add a model by its URI and by other keys: a later sweep may ask for it again, also where it trains afresh."""
        self._models |= dict.fromkeys((*keys, model.uri), model)
