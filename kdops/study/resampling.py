"""Members of an ensemble that differ in the images they learn from: without a fold each, or boosted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdops.data.image_selection import fold_of, noisy_labels
from kdops.sweeps.model import Model, Sweep

if TYPE_CHECKING:
    from kdops.study.study import Study

ROLE = "reseeded"
LEAST_ERROR = 1e-10
"""What the error of a member that is never wrong counts as."""


def without_folds(study: Study[Any], folds: int, left_out: Sequence[int]) -> Sweep:
    """Train a copy of the student for each fold that is left out, once for each replicate, on hard labels.

    Folds are of equal numbers of tracks, or of images where there are none; they are the same for every replicate.
    Source: Hansen and Salamon, "Neural Network Ensembles", 1990, section on cross-validation.

    Args:
        study: whose transfer images are dealt into folds.
        folds: how many.
        left_out: the fold that each copy does not see.
    """
    images = study.transfer_images(0)
    own = fold_of(study.data, images.rows, folds, study.settings.split_seed)
    records: list[Model] = []
    for fold in dict.fromkeys(left_out):
        part = images.subset(images.rows[own != fold], f" without fold {fold + 1} of {folds}")
        copies = [number for number, one in enumerate(left_out) if one == fold]
        records += study.train(ROLE, images=part, copies=copies).records
    return Sweep(tuple(records))


@dataclass(frozen=True)
class Boosted:
    """The members of AdaBoost.M1 of each replicate.

    Attributes:
        models: round by round, copies of the student.
        weights: the weight of each vote by replicate and round, ``[replicates, rounds]``.
    """

    models: Sweep
    weights: np.ndarray

    def votes(self, study: Study[Any]) -> np.ndarray:
        """Return the test accuracy of the weighted vote of each replicate, ``[replicates]``."""
        labels, classes = study.data.labels[study.split.test], np.arange(len(study.data.classes))
        found = []
        for seed, weights in zip(study.settings.replicates(), self.weights, strict=True):
            chosen = np.stack([study.predictions(one) for one in self.models.copies_of(seed)])
            scores = np.tensordot(weights, chosen[:, :, None] == classes, axes=1)
            found.append(float((scores.argmax(axis=1) == labels).mean()))
        return np.array(found)


def boosted(study: Study[Any], rounds: int) -> Boosted:
    """Train copies of the student one after another, each on images that those before it got wrong more often.

    AdaBoost.M1 by resampling: the images of a round are drawn with replacement by their weights. Where a member errs
    on half of the weight or more its vote counts nothing, and as after one that never errs all weights are equal again.
    Source: Freund and Schapire, "Experiments with a New Boosting Algorithm", 1996, figure 1.

    Args:
        study: whose transfer images are drawn from. A dry run plans each round with images drawn evenly.
        rounds: how many members a replicate has.
    """
    images, data, split = study.transfer_images(0), study.data, study.split
    share = study.settings.selection.label_noise
    labels = noisy_labels(data, share, split.seed, np.concatenate([split.validation, split.test]))[images.rows]
    records, votes = list[Model](), []
    for seed in study.settings.replicates():
        weights, own = np.full(len(labels), 1 / len(labels)), []
        for number in range(rounds):
            random = np.random.default_rng([seed, number, 2])
            drawn = images.rows[random.choice(len(labels), len(labels), p=weights)]
            part = images.subset(drawn, ", boosted")
            (model,) = study.train(ROLE, images=part, seeds=[seed], copies=[number]).records
            records.append(model)
            if study.settings.dry_run:
                continue
            weights, vote = reweighted(weights, study.logits(model, images.rows).argmax(dim=1).numpy() != labels)
            own.append(vote)
        votes.append(own)
    return Boosted(Sweep(tuple(records)), np.array(votes))


def reweighted(weights: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the weights of images after a member of AdaBoost.M1, and the weight of its vote.

    Args:
        weights: of the images before it, whose sum is 1.
        wrong: which of them it got wrong.
    """
    error = float(weights[wrong].sum())
    if error >= 0.5:
        return np.full_like(weights, 1 / len(weights)), 0.0
    if error < LEAST_ERROR:
        return np.full_like(weights, 1 / len(weights)), -float(np.log(LEAST_ERROR))
    ratio = error / (1 - error)
    changed = weights * np.where(wrong, 1.0, ratio)
    return changed / changed.sum(), -float(np.log(ratio))
