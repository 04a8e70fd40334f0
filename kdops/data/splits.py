"""Which images a teacher, each distillation and the choice among models may see.

Whole tracks are dealt out, class by class: the frames of one track are near-copies, so a split by frames
would test a model on what it was trained on. :mod:`kdops.data.near_duplicates` finds
copies across the parts.

scikit-learn's ``StratifiedGroupKFold`` is not used: in GTSRB the rarest classes have seven tracks, and a
tenth that it takes from them for validation is often empty. Here every class is in every part, or an error
explains why that cannot be. Tracks are taken to be about equally long.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from kdops.data.dataset import Dataset
from kdops.errors import KdopsError, UsageError

MODES = ("disjoint", "shared", "fresh")

VALIDATION = 0.1
"""Share of the images outside the test set that serve the choice among models."""


@dataclass(frozen=True, eq=False)
class Split:
    """The parts of a data set, each a sorted int64 array of indices into it.

    Attributes:
        teacher: what the teacher trains on.
        transfers: for each hop of a chain what its distillation trains on.
        validation: what models are chosen by; the same for all modes of one seed.
        test: the data set's test images.
        mode: one of ``MODES``.
        seed: the split's seed.
        digest: SHA-256 over the data set's digest and all of the above, as 64 hexadecimal digits. How many
            hops were asked for does not count where they all see the same images.
    """

    teacher: np.ndarray
    transfers: tuple[np.ndarray, ...]
    validation: np.ndarray
    test: np.ndarray
    mode: str
    seed: int
    digest: str

    def hop(self, index: int) -> np.ndarray:
        """Return the images of a distillation: 0 is the first one, from the teacher.

        Raises:
            KdopsError: the split was made for fewer hops.
        """
        if not 0 <= index < len(self.transfers):
            raise KdopsError(f"hop {index} is not in a split of {len(self.transfers)} hops (counted from 0)")
        return self.transfers[index]


def make_split(data: Dataset, mode: str, seed: int, hops: int = 2) -> Split:
    """Split a data set: the same arguments always lead to the same split.

    A tenth of what is not test is for validation, unless the data come with images for it. ``disjoint`` halves the
    rest between the teacher and all transfers, ``shared`` gives all of it to both, ``fresh`` deals it equally to the
    teacher and each hop.

    Args:
        data: the data set; tracks stay whole where they are known.
        seed: moves the split, and nothing else does.
        hops: distillations in a row, at least 1.

    Raises:
        UsageError: the mode is unknown, or a class has too few tracks (or images) to be in every part.
    """
    if mode not in MODES:
        raise UsageError("transfer", mode or "(empty)", f"must be one of {', '.join(MODES)}")
    if hops < 1:
        raise ValueError(f"hops must be at least 1, not {hops}")
    names = {
        "disjoint": ["teacher", "transfer"],
        "shared": ["training"],
        "fresh": ["teacher", *(f"transfer {hop + 1}" for hop in range(hops))],
    }[mode]
    validation, *dealt = _deal(data, names, seed)
    teacher, transfers = dealt[0], tuple(dealt[1:]) if mode == "fresh" else (dealt[-1],) * hops
    split = _split(data, teacher, transfers, validation, mode, seed)
    check_split(data, split)
    return split


def check_split(data: Dataset, split: Split) -> None:
    """Check the laws of a split; :func:`make_split` does it on every split that it makes.

    Raises:
        KdopsError: parts that must be disjoint share an image or a track, a part lacks a class, or the
            test part is not the data set's test set.
    """
    if not np.array_equal(split.test, np.flatnonzero(data.test)):
        raise KdopsError("the split's test part is not the data set's test set")
    parts = parts_apart(split)
    for name, part in parts.items():
        missing = np.setdiff1d(data.labels, data.labels[part])
        # The test set is given: what it holds is not the split's doing.
        if missing.size and name != "test":
            raise KdopsError(f"the {name} part has no image of class {data.classes[missing[0]]!r}")
    for (left_name, left), (right_name, right) in combinations(parts.items(), 2):
        if (images := np.intersect1d(left, right)).size:
            raise KdopsError(f"{left_name} and {right_name} share {images.size} images, one is {images[0]}")
        tracks = np.intersect1d(data.tracks[left], data.tracks[right])
        if (tracks := tracks[tracks >= 0]).size:
            raise KdopsError(f"{left_name} and {right_name} share {tracks.size} tracks, one is {tracks[0]}")


def _deal(data: Dataset, names: list[str], seed: int) -> list[np.ndarray]:
    """Deal whole tracks like cards, class by class: a tenth to validation, the rest to the parts in turn.

    Where the data come with validation images these are taken, and all others are dealt to the parts.

    Args:
        names: the parts besides validation, which get equally many tracks.
        seed: seed of the order in which tracks are dealt.

    Returns:
        The sorted indices of validation, then of each part.

    Raises:
        UsageError: a class has too few tracks to be in every part.
    """
    random = np.random.default_rng(seed)
    given = data.validation
    usable = np.flatnonzero(~data.test if given is None else ~(data.test | given))
    group, label_of = groups_of(data, usable)
    part_of = np.empty(len(label_of), dtype=np.int64)
    turn = 0
    for label in range(len(data.classes)):
        groups = random.permutation(np.flatnonzero(label_of == label))
        # Neither the order nor this number depends on the parts, so the mode cannot move validation.
        cut = max(1, round(VALIDATION * len(groups))) if given is None else 0
        rest = groups[cut:]
        if len(rest) < len(names):
            _refuse(data, label, len(groups), names if given is not None else ["validation", *names])
        part_of[groups[:cut]] = 0
        # The next class goes on where this one ends: the odd tracks do not all go to the first part.
        part_of[rest] = 1 + (turn + np.arange(len(rest))) % len(names)
        turn += len(rest)
    validation, *parts = (usable[part_of[group] == part] for part in range(1 + len(names)))
    return [validation if given is None else np.flatnonzero(given), *parts]


def _refuse(data: Dataset, label: int, count: int, names: list[str]) -> None:
    lacking = names[min(count, len(names) - 1)]
    unit = "track" if data.has_tracks else data.unit.removesuffix("s")
    outside = "the test set" if data.validation is None else "the test and validation sets"
    usable = ~data.test if data.validation is None else ~(data.test | data.validation)
    if not count and (inside := np.count_nonzero(data.labels[usable] == label)):
        raise UsageError(
            "dataset",
            data.given,
            f"class {data.classes[label]!r} has {inside} {data.unit} outside {outside}, and in each of their {unit}s "
            f"another class is more frequent: a {unit} goes to one part as a whole, so no part would surely have the "
            f"class; give finer {unit}s or leave the class out",
        )
    instead = ", or take transfer=shared" if lacking != "validation" and "training" not in names else ""
    raise UsageError(
        "dataset",
        data.given,
        f"class {data.classes[label]!r} has {count} {unit}{'s' * (count != 1)} outside {outside}, so the {lacking} "
        f"part would lack it: it needs at least {len(names)}; add {unit}s of it or leave the class out{instead}",
    )


def groups_of(data: Dataset, usable: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the tracks among some images; an image of unknown track is a group of its own.

    Returns:
        The group of each image [len(usable)], and the most frequent class of each group.
    """
    tracks = data.tracks[usable]
    alone = -1 - np.arange(len(usable))
    _, group = np.unique(np.where(tracks >= 0, tracks, alone), return_inverse=True)
    counts = np.zeros((group.max(initial=-1) + 1, len(data.classes)), dtype=np.int64)
    np.add.at(counts, (group, data.labels[usable]), 1)
    return group, counts.argmax(axis=1)


def _split(
    data: Dataset,
    teacher: np.ndarray,
    transfers: tuple[np.ndarray, ...],
    validation: np.ndarray,
    mode: str,
    seed: int,
) -> Split:
    """Freeze the parts and compute the digest."""
    test = np.flatnonzero(data.test)
    # Where all hops see the same images, their number must not keep a model from being used again.
    hashed = transfers if mode == "fresh" else transfers[:1]
    digest = hashlib.sha256(f"{data.digest} {mode} {seed}\n".encode())
    for part in (teacher, validation, test, *hashed):
        digest.update(f"{len(part)}\n".encode())
        digest.update(part.astype("<i8").tobytes())
    for part in (teacher, validation, test, *transfers):
        part.setflags(write=False)
    return Split(teacher, transfers, validation, test, mode, seed, digest.hexdigest())


def parts_apart(split: Split) -> dict[str, np.ndarray]:
    """Return the parts that must have nothing in common; an image set that serves twice comes once."""
    parts = {"validation": split.validation, "test": split.test, "teacher": split.teacher}
    if split.mode == "fresh":
        parts |= {f"transfer {hop + 1}": part for hop, part in enumerate(split.transfers)}
    elif split.mode == "disjoint":
        parts["transfer"] = np.unique(np.concatenate(split.transfers))
    else:
        parts["teacher"] = np.unique(np.concatenate([split.teacher, *split.transfers]))
    return parts
