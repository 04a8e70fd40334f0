"""What holds for all data of one's own: checks before they are split, and the description of the split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kdops.config.datasets import DatasetSpec
from kdops.data.arrays import Arrays
from kdops.data.hold_out import hold_out

PARTS = {
    "train": ("train", "training", "trainset", "trainingset"),
    "val": ("val", "valid", "validation", "dev", "valset", "validationset"),
    "test": ("test", "testing", "testset"),
}
"""The parts of data, and how each may be called: in any case, with ``seg_`` before it, with or without ``_``."""

FEWEST_CLASSES = 2
FEWEST = 3
"""Images (or groups) of a class where a test set is held out: one each for test, validation and training."""


def part_of(name: str) -> str:
    """Return the part that a name stands for; empty where it stands for none."""
    plain = name.strip().lower().removeprefix("seg_").replace("_", "").replace("-", "")
    return next((part for part, names in PARTS.items() if plain in names), "")


def check_classes(origin: DatasetSpec, classes: Sequence[str]) -> None:
    """Check the class names. Raises UsageError if there are fewer than two, or one cannot be printed."""
    if len(classes) < FEWEST_CLASSES:
        found = f"{classes[0]!r}" if classes else "none"
        raise origin.error(f"must have at least {FEWEST_CLASSES} classes, and has {found} alone")
    for name in classes:
        if not name.isprintable() or not name.strip():
            raise origin.error(f"the class name {name!r} cannot be printed; rename it")


def hold_out_rest(
    origin: DatasetSpec, classes: Sequence[str], labels: np.ndarray, tracks: np.ndarray, validation: np.ndarray | None
) -> np.ndarray:
    """Hold out a test set of what is not for validation; see :func:`~kdops.data.hold_out.hold_out`.

    Raises:
        UsageError: a class has too few images or groups to be in every part.
    """
    rest = np.arange(len(labels)) if validation is None else np.flatnonzero(~validation)
    unit = "groups" if (tracks[rest] >= 0).any() else "rows" if origin.kind == "csv" else "images"
    for label, name in enumerate(classes):
        own = rest[labels[rest] == label]
        known = tracks[own][tracks[own] >= 0]
        count = len(np.unique(known)) + len(own) - len(known)
        if count < FEWEST:
            raise origin.error(
                f"class {name!r} has {count} {unit}, and needs at least {FEWEST} ({FEWEST + 1} unless transfer=shared) "
                "for a test set to be held out; add some or leave the class out"
            )
    test = np.zeros(len(labels), dtype=bool)
    test[rest] = hold_out(labels[rest], tracks[rest])
    return test


def check_parts(origin: DatasetSpec, decoded: Arrays, names: Sequence[str] = ()) -> None:
    """Check what comes with the data: parts that share no group, and classes that can be learned.

    Args:
        names: what each image is called, where it has a name.

    Raises:
        UsageError: a group lies in two parts, an image is in two, the test set is empty, or a class is missing outside
            it or in the validation set.
    """
    test = decoded.test
    validation = np.zeros_like(test) if decoded.validation is None else decoded.validation
    if (test & validation).any():
        raise origin.error(f"{int((test & validation).sum())} images are for test and validation both")
    if not test.any():
        raise origin.error("the test set is empty")
    parts = {"train": ~(test | validation), "test": test}
    if decoded.validation is not None:
        parts["val"] = validation
    for name, part in parts.items():
        missing = np.setdiff1d(np.arange(len(decoded.classes)), decoded.labels[part])
        # A test set that lacks a class still tests the others.
        if missing.size and name != "test":
            raise origin.error(f"class {decoded.classes[missing[0]]!r} has no image in the {name} part")
    seen: dict[int, str] = {}
    for name, part in parts.items():
        tracks = np.unique(decoded.tracks[part])
        for track in tracks[tracks >= 0].tolist():
            if track in seen:
                own = (np.flatnonzero(where & (decoded.tracks == track))[0] for where in (parts[seen[track]], part))
                first, second = (names[number] if names else f"image {number}" for number in own)
                raise origin.error(
                    f"{first} and {second} are of one group, and lie in the parts {seen[track]} and {name}; "
                    "a group must lie in one part"
                )
            seen[track] = name


def describe_split(official: bool, decoded: Arrays) -> str:
    """Return where the test and validation images come from."""
    count = int(decoded.test.sum())
    by = "by group and class" if (decoded.tracks >= 0).any() else "by class"
    text = (
        f"{count:,} of them are the test set that they come with"
        if official
        else f"without a test set of their own: {count:,} are held out for it, a fixed fifth {by} that does not depend "
        "on split_seed"
    )
    if decoded.validation is not None:
        text += f"; {int(decoded.validation.sum()):,} are the validation set that they come with"
    return text
