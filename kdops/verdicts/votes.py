"""Ensembles of classifiers: how they vote, how good the first N are, and what their members have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from kdops.verdicts.claims import DECIMALS

Vote = Literal["majority", "probability"]

TINY = 1e-6
"""A correlation below it is none: of the large arguments that it gives the beta function is no longer exact."""


@dataclass(frozen=True)
class Disagreement:
    """What the members of an ensemble have in common.

    Attributes:
        members: how many.
        accuracy: the mean of their accuracies.
        disagreement: share of images on which one of two members is right and the other wrong, mean over all
            pairs (Kuncheva and Whitaker 2003, equation 5). 0: all are right on the same images.
        q_statistic: Yule's Q of two members being right, mean over pairs (the same source, equation 1), from
            -1 to 1: 0 for independent members, 1 where one is right only on images that the other is right
            on too. A pair has none (a zero denominator) where one of the two is right, or wrong, on all images;
            it is left out of the mean. None where no pair has one.
        wrong_alike: share that give the same wrong class, among all pairs of members and images where both are
            wrong; None where no two members are wrong together.
    """

    members: int
    accuracy: float
    disagreement: float
    q_statistic: float | None
    wrong_alike: float | None


@dataclass(frozen=True)
class McNemar:
    """McNemar's exact test of a single model against an ensemble, on one set of images.

    Attributes:
        p: two-sided p-value against "both are right equally often".
        only_single: images that only the single model has right.
        only_ensemble: images that only the ensemble has right.
    """

    p: float
    only_single: int
    only_ensemble: int


def vote_scores(probabilities: ArrayLike) -> np.ndarray:
    """Return the scores of a majority vote: (votes + mean probability) / (members + 1).

    They sum to 1 for each image, and the class with the highest score is the simple majority, ties broken by the
    mean probability. The mean probability cannot outweigh a vote: a member that votes for a class gives it at
    least the probability of any other class, so only the members that vote otherwise can speak against a class
    with a vote, and their mean is below one. A class that ties in both goes to the lower number, as does a
    member's vote.

    Args:
        probabilities: [members, images, classes], each row summing to 1.

    Returns:
        [images, classes], float32 as a served ensemble has them (:class:`kdops.packaging.vote.Vote`), so that both
        break ties alike.

    Raises:
        ValueError: for another shape, an empty one, or rows that are no probabilities.
    """
    probabilities = np.asarray(probabilities)
    *_, (votes, total) = _running_votes(probabilities)
    return _scores(votes, total, len(probabilities))


def binomial_vote_error(accuracy: float, members: int) -> float:
    r"""Return the share of images on which more than half of the members are wrong, if their errors are independent.

    With :math:`p` the share that one member gets wrong and :math:`N` members,
    :math:`\sum_{k > N/2} \binom{N}{k} p^k (1-p)^{N-k}`; half of a tie counts as wrong.

    Source: Hansen and Salamon, "Neural network ensembles", 1990.
    """
    wrong = 1 - accuracy
    return _beyond_half([comb(members, k) * wrong**k * accuracy ** (members - k) for k in range(members + 1)])


def beta_binomial_vote_error(accuracy: float, disagreement: float, members: int) -> float:
    r"""Return the share of images on which more than half of the members are wrong, if images differ in difficulty.

    Members err independently on each image, at a rate that is drawn for it from a beta distribution. Its mean is the
    share :math:`p` that one member gets wrong, and two members are correlated by
    :math:`\rho = 1 - d / (2 p (1 - p))` with :math:`d` their disagreement. With
    :math:`a = p (1 / \rho - 1)` and :math:`b = (1 - p) (1 / \rho - 1)`,
    :math:`\sum_{k > N/2} \binom{N}{k} B(k + a, N - k + b) / B(a, b)`; half of a tie counts as wrong.

    Source: Skellam, "A probability distribution derived from the binomial distribution by regarding the probability of
    success as variable between the sets of trials", 1948.

    Args:
        accuracy: the mean of the members' accuracies.
        disagreement: share of images on which one of two members is right and the other wrong.
        members: how many vote.
    """
    wrong = 1 - accuracy
    if not 0 < wrong < 1:
        return float(wrong)
    correlation = 1 - disagreement / (2 * wrong * accuracy)
    if correlation < TINY:
        return binomial_vote_error(accuracy, members)
    if correlation >= 1:
        return wrong
    from scipy.stats import betabinom  # here, for scipy.stats takes long to import

    a, b = (share * (1 / correlation - 1) for share in (wrong, accuracy))
    return _beyond_half(betabinom.pmf(range(members + 1), members, a, b).tolist())


def _beyond_half(terms: Sequence[float]) -> float:
    """Return the share of more than half of the members, given that of each number of them; of a tie it is half."""
    members = len(terms) - 1
    return sum(term * (1.0 if 2 * k > members else 0.5 if 2 * k == members else 0.0) for k, term in enumerate(terms))


def accuracy_curve(probabilities: ArrayLike, labels: ArrayLike, vote: Vote = "majority") -> np.ndarray:
    """Return the accuracy of the first N members for every N, in one pass over the members.

    Args:
        probabilities: [members, images, classes], the best member first.
        labels: [images], class numbers.
        vote: ``majority``, by :func:`vote_scores`, or ``probability``, by the mean of the members' probabilities.

    Returns:
        [members], the accuracy of the first 1, 2, ... members.

    Raises:
        ValueError: as :func:`vote_scores`, for labels that do not fit, or another vote.
    """
    if vote not in ("majority", "probability"):
        raise ValueError(f"vote must be majority or probability, not {vote!r}")
    probabilities = _checked(probabilities)
    labels = _labels(labels, probabilities.shape[1])
    curve = []
    for n, (votes, total) in enumerate(_running_votes(probabilities), 1):
        scores = _scores(votes, total, n) if vote == "majority" else total
        curve.append(np.mean(scores.argmax(axis=1) == labels))
    return np.array(curve)


def disagreement(predictions: ArrayLike, labels: ArrayLike) -> Disagreement:
    """Measure what members have in common, over all their pairs.

    Source: Kuncheva and Whitaker, "Measures of Diversity in Classifier Ensembles", 2003.

    Args:
        predictions: [members, images], the classes chosen, two members or more.
        labels: [images], class numbers.

    Raises:
        ValueError: for shapes that do not fit, fewer than two members, or what is no class number.
    """
    predictions = np.asarray(predictions)
    if predictions.ndim != 2 or len(predictions) < 2 or not predictions.shape[1]:
        raise ValueError(f"predictions must be [members, images], two members or more, not {list(predictions.shape)}")
    if predictions.dtype.kind not in "iu" or predictions.min() < 0:
        raise ValueError("predictions must be class numbers from 0")
    members, images = predictions.shape
    labels = _labels(labels, images)
    right = predictions == labels
    # Sums of products of 0 and 1, exact in float64 and far faster there than as whole numbers.
    ones = right.astype(np.float64)
    first, second = np.triu_indices(members, 1)
    both = (ones @ ones.T)[first, second]
    count = ones.sum(axis=1)
    only_first, only_second = count[first] - both, count[second] - both
    neither = images - both - only_first - only_second

    alike, apart = both * neither, only_first * only_second
    known = alike + apart > 0
    q = (alike[known] - apart[known]) / (alike[known] + apart[known])

    # k members with one wrong class on an image make k (k - 1) / 2 pairs that are wrong alike.
    classes = int(max(predictions.max(), labels.max())) + 1
    cells = (np.arange(images) * classes + predictions)[~right]
    same = np.bincount(cells)
    wrong_pairs, same_pairs = neither.sum(), (same * (same - 1) / 2).sum()
    return Disagreement(
        members=members,
        accuracy=float(right.mean()),
        disagreement=float(((only_first + only_second) / images).mean()),
        q_statistic=float(q.mean()) if known.any() else None,
        wrong_alike=float(same_pairs / wrong_pairs) if wrong_pairs else None,
    )


def mcnemar(single_right: ArrayLike, ensemble_right: ArrayLike) -> McNemar:
    """Test a single model against an ensemble on the same images, exactly (McNemar 1947, by the binomial).

    It takes the images as independent. Those of one track are near-copies, so on a test set of tracks the
    p-value is too small; and it speaks of these two models alone, not of others trained alike.

    Args:
        single_right: [images], whether the single model is right.
        ensemble_right: [images], whether the ensemble is.

    Raises:
        ValueError: for shapes that do not fit or values that are not booleans.
    """
    from scipy.stats import binomtest  # here, for scipy.stats takes long to import

    single_right, ensemble_right = np.asarray(single_right), np.asarray(ensemble_right)
    if single_right.ndim != 1 or not single_right.size or single_right.shape != ensemble_right.shape:
        shapes = f"{list(single_right.shape)} and {list(ensemble_right.shape)}"
        raise ValueError(f"both must be [images] and not empty, not {shapes}")
    if not single_right.dtype == ensemble_right.dtype == bool:
        raise ValueError(f"both must be booleans, not {single_right.dtype} and {ensemble_right.dtype}")
    only_single = int((single_right & ~ensemble_right).sum())
    only_ensemble = int((ensemble_right & ~single_right).sum())
    discordant = only_single + only_ensemble
    p = float(binomtest(only_single, discordant, 0.5).pvalue) if discordant else 1.0
    return McNemar(p, only_single, only_ensemble)


def choose_size(validation_curves: ArrayLike) -> int:
    """Choose how many members to vote with: the best mean accuracy over replicates, ties to the fewest.

    Args:
        validation_curves: [replicates, members], of :func:`accuracy_curve` on validation images.

    Raises:
        ValueError: for another shape, an empty one, or values that are not finite.
    """
    curves = np.asarray(validation_curves, dtype=float)
    if curves.ndim != 2 or not curves.size or not np.isfinite(curves).all():
        raise ValueError(f"validation_curves must be finite [replicates, members], not {list(curves.shape)}")
    return int(curves.mean(axis=0).round(DECIMALS).argmax()) + 1


def _running_votes(probabilities: ArrayLike) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """After each member yield the votes and the summed probabilities so far, [images, classes] each.

    One member at a time bounds the memory; adding in one order leads every function here to the same sums to the
    last bit, so that none breaks a tie in its own way. Both arrays change with the next member.
    """
    probabilities = _checked(probabilities)
    _, images, classes = probabilities.shape
    votes, total = np.zeros((images, classes)), np.zeros((images, classes))
    rows = np.arange(images)
    for member in probabilities:
        if not (member.min() >= 0 and np.abs(member.sum(axis=1) - 1).max() < 1e-3):  # nan fails both
            raise ValueError("probabilities must not be below 0, and each row must sum to 1")
        votes[rows, member.argmax(axis=1)] += 1
        total += member
        yield votes, total


def _scores(votes: np.ndarray, total: np.ndarray, members: int) -> np.ndarray:
    return ((votes + total / members) / (members + 1)).astype(np.float32)


def _checked(probabilities: ArrayLike) -> np.ndarray:
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 3 or not probabilities.size:
        raise ValueError(
            f"probabilities must be [members, images, classes] and not empty, not {list(probabilities.shape)}"
        )
    return probabilities


def _labels(labels: ArrayLike, images: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != (images,) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ValueError(f"labels must be {images} class numbers from 0, not {labels.dtype} {list(labels.shape)}")
    return labels
