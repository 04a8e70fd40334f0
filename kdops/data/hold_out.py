"""A fixed hold-out: the test set of data that have no official one."""

from __future__ import annotations

import numpy as np

HELD_OUT = 0.2
"""Share of each class's images (of its groups, where they are known) that is held out."""

SEED = 20


def hold_out(labels: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """Choose the same fifth of every class, always; groups stay whole.

    A group counts for its most frequent class. A class of two groups or more has at least one on each side.

    Args:
        labels: class numbers ``[N]``.
        groups: the group of each ``[N]``, below 0 where it is unknown; such an image is a group of its own.

    Returns:
        bool ``[N]``, true for what is held out.
    """
    # Not scikit-learn's splitter: the hold-out must not move with its version.
    random = np.random.default_rng(SEED)
    alone = np.arange(len(labels))
    if groups is None:
        group, label_of = alone, labels
    else:
        known = groups >= 0
        _, group = np.unique(np.where(known, groups, groups.max(initial=-1) + 1 + alone), return_inverse=True)
        label_of = _most_frequent(labels, group)
    held = np.zeros(len(label_of), dtype=bool)
    for label in np.unique(label_of):
        members = random.permutation(np.flatnonzero(label_of == label))
        held[members[: max(round(HELD_OUT * len(members)), int(len(members) > 1))]] = True
    return held[group]


def _most_frequent(labels: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return the most frequent class of each group, of several the lowest."""
    pairs, counts = np.unique(np.stack([group, labels]), axis=1, return_counts=True)
    # By group, then the highest count, then the lowest class: the first of each group is the answer.
    order = np.lexsort((pairs[1], -counts, pairs[0]))
    _, first = np.unique(pairs[0][order], return_index=True)
    return pairs[1][order][first]
