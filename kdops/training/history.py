"""What a training returns: each member's weights and what was measured of it, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from kdops.distillation.objective import LABELS_TERM
from kdops.sweeps.metrics import TRAIN_KL, TRAIN_LOSS, VAL_ACCURACY
from kdops.utils.progress import Progress

COMPLETE, DIVERGED, PRUNED = "complete", "diverged", "pruned"
"""How the training of a member ends."""

TERM = "loss_"
"""The prefix of the metric of a term of the loss."""


@dataclass(frozen=True)
class Trained:
    """One trained network.

    Attributes:
        seed: its replicate.
        temperature: what it was trained at.
        state: its weights, on the CPU; empty unless it is complete.
        history: the metrics of each epoch by name: ``train_loss``, the mean loss; ``val_accuracy``;
            ``train_kl``, the divergence from the source, of a member of a sweep that has one; of a trial also
            ``val_nll``, in nats; and ``loss_`` with the name of each term where the loss has several, nan where a
            phase lacks it. Of a diverged member up to the epoch with a value that is not finite, included.
        seconds: wall time; each epoch's is shared equally by those that were trained together in it.
        number: its place among all that were to be trained.
        ended: ``complete``, ``pruned`` or ``diverged``.
        beside: how many values the method trained beside it, which are dropped.
        beside_bytes: the bytes of these, and of what else the method keeps of the training images.
        kept: its weights after the epochs that were to be kept, likewise, by epoch, counted from 1.
    """

    seed: int
    temperature: float
    state: dict[str, Tensor]
    history: Mapping[str, tuple[float, ...]]
    seconds: float
    number: int = 0
    ended: str = COMPLETE
    beside: int = 0
    beside_bytes: int = 0
    kept: Mapping[int, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def train_loss(self) -> tuple[float, ...]:
        """Mean loss of each epoch."""
        return self.history[TRAIN_LOSS]

    @property
    def val_accuracy(self) -> tuple[float, ...]:
        """Validation accuracy after each epoch."""
        return self.history[VAL_ACCURACY]

    @property
    def train_kl(self) -> tuple[float, ...]:
        """Divergence from the source after each epoch; empty where there is none."""
        return self.history.get(TRAIN_KL, ())

    @property
    def terms(self) -> dict[str, tuple[float, ...]]:
        """The mean of each term of the loss in each epoch; empty where there is one term."""
        return {name.removeprefix(TERM): own for name, own in self.history.items() if name.startswith(TERM)}


def add_epoch(histories: Sequence[dict[str, list[float]]], measured: Mapping[str, Sequence[float]]) -> None:
    """Add an epoch to the history of every member: what was measured of each, by name; what a phase lacks is nan."""
    for place, history in enumerate(histories):
        epoch = len(history.get(TRAIN_LOSS, ()))
        for name in dict.fromkeys([*history, *measured]):
            value = measured[name][place] if name in measured else math.nan
            history.setdefault(name, [math.nan] * epoch).append(value)


def own_history(
    history: Mapping[str, Sequence[float]], is_hard: bool, weighs_labels: bool
) -> dict[str, tuple[float, ...]]:
    """Return what a history has of a member itself, whatever is trained beside it.

    Terms of the loss only where the member's own loss has several.

    Args:
        history: what was measured in each epoch, by name.
        is_hard: the member learns hard labels.
        weighs_labels: the labels have a weight in its loss.
    """
    terms = {name for name in history if name.startswith(TERM)}
    own = set() if is_hard else {name for name in terms if name != TERM + LABELS_TERM or weighs_labels}
    left_out = terms - own if len(own) > 1 else terms
    left_out |= {TRAIN_KL} if is_hard else set()
    return {name: tuple(values) for name, values in history.items() if name not in left_out}


class Meter:
    """Adds up the images passed over all passes."""

    def __init__(self, progress: Progress | None, total: int):
        self.progress, self.total, self.done = progress, total, 0

    def add(self, images: int) -> None:
        """Count images that were passed."""
        self.done += images
        if self.progress is not None:
            self.progress(self.done, self.total)
