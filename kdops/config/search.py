"""The settings of a search: the text of each parameter that it has beside those of all studies, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kdops.config.augmentation import NONE
from kdops.config.criterion import SCORES
from kdops.config.methods import LOGITS
from kdops.config.parameters import EntryPoint
from kdops.config.parsing import one_of, whole
from kdops.config.samplers_and_pruners import PRUNERS, SAMPLERS, parse_objectives
from kdops.config.search_space import Space
from kdops.config.space_parser import parse_space
from kdops.config.specs import Spec, parse_spec, write_spec
from kdops.config.studies import OneSourceSettings, check_views
from kdops.errors import UsageError
from kdops.utils.secrets import redact_password

SEARCHED = ("student", "middle")
"""The roles that can be searched for."""

MOST_TRIALS = 100_000

STORAGE = "KDOPS_SEARCH_STORAGE"
"""The environment variable for a storage whose address holds a password."""


@dataclass(frozen=True)
class SearchSettings(OneSourceSettings):
    """What to search for, where, and how.

    Attributes:
        role: what is searched for, one of ``SEARCHED``.
        space: what may be tried.
        objectives: what it looks for, a key of :data:`kdops.config.samplers_and_pruners.OBJECTIVES`.
        trials: number of finished trials.
        batch: number of trials that are trained together.
        sampler: what chooses the values of trials, canonical text with what differs from its defaults.
        pruner: what ends trials early, likewise.
        storage: where the trials are kept: path of a journal or URL of a database; empty for one beside the store.
        study_name: of the search in its storage; empty for one derived from what is searched.
    """

    role: str
    space: Space
    objectives: tuple[str, ...]
    trials: int
    batch: int
    sampler: str
    pruner: str
    storage: str
    study_name: str

    method_of: ClassVar[str] = "in the sweep "

    @classmethod
    def read(cls, point: EntryPoint, text: Mapping[str, str]) -> dict[str, Any]:
        """Return the value of every field."""
        if text["select_on"] != "validation":
            raise UsageError("select_on", text["select_on"], "must be validation: a search never sees the test set")
        if text["select_by"] != SCORES[0]:
            advice = f"must be {SCORES[0]}: objective={text['select_by']} says what a search looks for"
            raise UsageError("select_by", text["select_by"], advice)
        if redact_password(text["storage"]) != text["storage"]:
            advice = f"would be logged with its password; set {STORAGE} in the environment to it instead"
            raise UsageError("storage", redact_password(text["storage"]), advice)
        if not text["study_name"].isprintable() or len(text["study_name"]) > 200:
            raise UsageError("study_name", repr(text["study_name"][:40]), "must be one line of at most 200 characters")
        if text["order"] != "shared":
            raise UsageError("order", text["order"], "must be shared: the trials of a search see the same batches")
        values = super().read(point, text)
        values["selection"].refuse("a search", "leave_out", "frames", "label_noise", "bootstrap")
        role = one_of("role", text["role"], SEARCHED)
        recipe = values["recipes"][role]
        if not recipe.architecture.searched:
            raise UsageError(role, recipe.architecture, "a search is over dense and convolutional nets, mlp and cnn")
        space = parse_space(text["space"], values["method"], type(recipe.architecture))
        trials = whole("trials", text["trials"], 1, MOST_TRIALS)
        if values["method"] != LOGITS and space.names_methods:
            advice = "is not tried where the space names methods; write it there, or leave out method=... in the space"
            raise UsageError("method", values["method"], advice)
        # The taps that the smallest network has all have.
        least, seen = space.least(), [*space.tried("augment", recipe.augment)]
        least_recipes = [recipe.replace(architecture=recipe.architecture.varied(least), augment=one) for one in seen]
        if values["origin"].kind == "csv" and {*seen} != {NONE}:
            raise UsageError("space", text["space"], "augment is for images, and the data are a table")
        check_views(text, seen)
        for method in space.methods:
            for one in least_recipes:
                method.check_recipe(one, role)
            if method.deploys_more:
                raise UsageError("method", method, "deploys more than the student, and a search tries students alone")
        if not any(dimension.is_range for dimension in space.dimensions) and space.size(1) < trials:
            advice = f"the space has {space.size(1)} points; give at most so many trials, or a wider space"
            raise UsageError("trials", trials, advice)
        return {
            **values,
            "role": role,
            "space": space,
            "objectives": parse_objectives(text["objective"]),
            "trials": trials,
            "batch": whole("batch", text["batch"], 1, 1000),
            "sampler": _canonical("sampler", text["sampler"], SAMPLERS),
            "pruner": _canonical("pruner", text["pruner"], PRUNERS),
            "storage": text["storage"],
            "study_name": text["study_name"],
        }

    def describe_seeds(self) -> str:
        """Return which seeds the study's numbers are of: the fresh ones follow that of the trials."""
        return f"trials with seed {self.seed}, the best again with seeds {self.seed + 1} to {self.seed + self.seeds}"

    def as_dict(self) -> dict[str, object]:
        """Return the settings as plain JSON values, the space as text."""
        return {**super().as_dict(), "space": str(self.space), "objectives": list(self.objectives)}


def _canonical(parameter: str, text: str, table: Mapping[str, Spec]) -> str:
    name, options = parse_spec(text, parameter, table)
    return write_spec(name, options, table)
