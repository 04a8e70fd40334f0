"""What is known of a trained model, and of a sweep of them. Plain values: no tensors, no MLflow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from kdops.config.kept_epochs import NONE, KeptEpochs
from kdops.config.recipes import LATER
from kdops.config.uris import SCHEME
from kdops.errors import UsageError
from kdops.sweeps.metrics import TEST_ACCURACY, VAL_ACCURACY, VAL_NLL
from kdops.sweeps.params import ARCHITECTURE, FLOPS, KEEP_EPOCHS, LEARNER, METHOD, PARAMETERS, TRANSFER

if TYPE_CHECKING:
    import numpy as np

COPY_SEEDS = 1_000_000
"""Copy k of a replicate's model has the replicate's seed and k times this, so that no two seeds meet."""

LABELS = "labels"
"""The source of a model that learned from labels alone."""

ELSEWHERE = "elsewhere"
"""The source of a registered model that others trained."""

FOREIGN = "foreign"
"""The role of a model that kdops did not train."""

COPIES = ("reseeded", "peer")
"""The roles of copies of a replicate's model, and of the nets of its company, which have seeds of their own."""


@dataclass(frozen=True)
class Model:
    """One model: of a study, of the store or of the registry.

    Attributes:
        role: what it is: teacher, student, middle, reversed ...; ``foreign`` where kdops did not train it.
        seed: its replicate, or that of a copy of it; see ``replicate``.
        temperature: what it was trained at; 0 for hard labels, nan where there is none (an ensemble).
        chain: the roles it came through, ``teacher>middle>student``.
        source: model URI distilled from, or ``labels``; of an ensemble its members' URIs, parted by spaces.
        uri: its own model URI, ``models:/kdops-digits-student/7``; empty for one that is only planned.
        run_id: its MLflow run.
        model_id: its logged model.
        weights: digest of its weights.
        metrics: final metrics by name.
        params: logged parameters by name.
        pass_seeds: the seeds of the dense models that were trained in the same pass; empty for a model trained alone.
        pass_digest: the digest of all that was trained in that pass.
        reused: it was there before this study.
        dataset: the data set.
        split: the digest of the split.
        images: how many images its run saw of ``train``, ``val`` and ``test``, where the run records it.
        registered: its version is in the registry, as far as the registry was asked.
        champion: it has the alias ``champion``, likewise.
        select_on: what it, or a source of it, was chosen on where it was chosen: ``validation`` or ``test``.
    """

    role: str
    seed: int
    temperature: float
    chain: str
    source: str
    uri: str
    run_id: str = ""
    model_id: str = ""
    weights: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    pass_seeds: tuple[int, ...] = ()
    pass_digest: str = ""
    reused: bool = False
    dataset: str = ""
    split: str = ""
    images: Mapping[str, int] = field(default_factory=dict)
    registered: bool = False
    champion: bool = False
    select_on: str = "validation"

    def __str__(self) -> str:
        at = "" if math.isnan(self.temperature) else f" T={self.temperature:g}"
        return f"{self.role}{at} seed={self.seed}"

    @property
    def own(self) -> bool:
        """Whether kdops trained it, so that ``weights.safetensors`` lies beside it."""
        return self.role != FOREIGN

    @property
    def replicate(self) -> int:
        """The seed of the chain it belongs to; copies of a replicate's model have seeds of their own."""
        return self.seed % COPY_SEEDS if self.role in COPIES else self.seed

    @property
    def name(self) -> str:
        """Its URI without the scheme, ``kdops-digits-student/7``."""
        return self.uri.removeprefix(SCHEME)

    @property
    def place(self) -> tuple[str, int]:
        """Its registered name and its version, 0 where it has none."""
        name, _, version = self.name.rpartition("/")
        return name, int(version) if version.isdigit() else 0

    @property
    def sources(self) -> tuple[str, ...]:
        """The URIs it was made from; empty for one that learned from labels."""
        return tuple(word for word in self.source.split() if word.startswith(SCHEME))

    @property
    def cut(self) -> bool:
        """Whether its list of sources was too long to be kept whole."""
        return "..." in self.source.split()

    @property
    def architecture(self) -> str:
        """Its network as text, all that is deployed; empty where unknown."""
        return self.params.get(ARCHITECTURE, "")

    @property
    def method(self) -> str:
        """What it was distilled by, as text; empty for one that was not, and where it is unknown."""
        return self.params.get(METHOD, "")

    @property
    def recipe_params(self) -> Mapping[str, str]:
        """Its parameters, with the architecture that its recipe has: of a model that is more, the student's alone.

        What runs of earlier versions do not record of a recipe has the value that they were trained with.
        """
        return {**LATER, **self.params, ARCHITECTURE: self.params.get(LEARNER, self.architecture)}

    @property
    def kept_epochs(self) -> tuple[int, ...]:
        """The epochs after which its weights were kept, beside the last ones, which are its own."""
        try:
            return KeptEpochs.read(self.params.get(KEEP_EPOCHS, NONE)).listed
        except UsageError:  # anybody may have written the parameter
            return ()

    @property
    def transfer(self) -> str:
        """The transfer setting; empty where unknown."""
        return self.params.get(TRANSFER, "")

    @property
    def parameters(self) -> int | None:
        """How many parameters it has; None where unknown."""
        return _count(self.params.get(PARAMETERS, ""))

    @property
    def flops(self) -> int | None:
        """Floating point operations of one image; None where unknown."""
        return _count(self.params.get(FLOPS, ""))

    @property
    def val_accuracy(self) -> float:
        """Accuracy on validation; nan where unknown, as the next two."""
        return self.metrics.get(VAL_ACCURACY, math.nan)

    @property
    def val_nll(self) -> float:
        """Loss on validation."""
        return self.metrics.get(VAL_NLL, math.nan)

    @property
    def test_accuracy(self) -> float:
        """Accuracy on test."""
        return self.metrics.get(TEST_ACCURACY, math.nan)


@dataclass(frozen=True)
class Sweep:
    """Models of one role over temperatures and replicates.

    Attributes:
        records: the models.
        hops: how many distillations lie between the first source and these models: 0 for a teacher.
    """

    records: tuple[Model, ...]
    hops: int = 0

    def of_seed(self, seed: int) -> tuple[Model, ...]:
        """Return the models of one replicate."""
        return tuple(record for record in self.records if record.seed == seed)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The replicates, ascending."""
        return tuple(sorted({record.seed for record in self.records}))

    @property
    def temperatures(self) -> tuple[float, ...]:
        """The temperatures above zero, ascending."""
        return tuple(sorted({record.temperature for record in self.records if record.temperature > 0}))

    def hard(self) -> Sweep:
        """Return the models trained on hard labels."""
        return replace(self, records=tuple(record for record in self.records if record.temperature == 0))

    def soft(self) -> Sweep:
        """Return the models trained at a temperature."""
        return replace(self, records=tuple(record for record in self.records if record.temperature > 0))

    def at(self, temperatures: Sequence[float]) -> Sweep:
        """Return the models of some temperatures."""
        return replace(self, records=tuple(record for record in self.records if record.temperature in temperatures))

    def copies_of(self, seed: int) -> tuple[Model, ...]:
        """Return the models of one replicate's copies; see ``COPY_SEEDS``."""
        return tuple(record for record in self.records if (record.seed - seed) % COPY_SEEDS == 0)

    def copies_table(self, seeds: Sequence[int]) -> np.ndarray:
        """Return the test accuracy of the copies of some replicates as ``[replicates, copies]``."""
        import numpy as np  # as in table

        return np.array([[one.test_accuracy for one in self.copies_of(seed)] for seed in seeds])

    def first(self, replicates: int) -> Sweep:
        """Return the models of the first replicates."""
        seeds = self.seeds[:replicates]
        return replace(self, records=tuple(record for record in self.records if record.seed in seeds))

    def table(self, metric: str = TEST_ACCURACY) -> np.ndarray:
        """Return a metric as ``[replicates, temperatures]``, both ascending, hard labels included.

        With one model a replicate it is ``[replicates, 1]``, whatever their temperatures.

        Raises:
            ValueError: a replicate lacks a temperature that another has.
        """
        import numpy as np  # not above: the command line reads the names of tags, and with them this file

        if len(self.records) == len(self.seeds):
            # One model a replicate, chosen perhaps at a temperature of its own.
            by_seed = sorted(self.records, key=lambda record: record.seed)
            return np.array([[record.metrics.get(metric, math.nan)] for record in by_seed], dtype=float)
        temperatures = sorted({record.temperature for record in self.records})
        place = {(r.seed, r.temperature): r.metrics.get(metric, math.nan) for r in self.records}
        try:
            return np.array([[place[seed, t] for t in temperatures] for seed in self.seeds], dtype=float)
        except KeyError as missing:
            raise ValueError(f"the sweep lacks the model of (seed, temperature) = {missing}") from None

    def accuracies(self) -> np.ndarray:
        """Return the test accuracy of a sweep with one model a replicate, as ``[replicates]``.

        Raises:
            ValueError: there are several temperatures.
        """
        table = self.table(TEST_ACCURACY)
        if table.shape[1] != 1:
            raise ValueError(
                f"a sweep of {table.shape[1]} temperatures has several accuracies a replicate; choose one with at(), "
                "hard() or Study.best(), or take table()"
            )
        return table[:, 0]


def _count(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
