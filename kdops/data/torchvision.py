"""Data sets that torchvision has: ``torchvision:NAME``, its official test set, downloaded where it is missing.

A copy is looked for in the data folder, in torchvision's own layout. Two of them (CIFAR10, CIFAR100) are pickled
files; torchvision opens these only after it has compared their checksums with the published ones, and so they are read.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image

from kdops.config.datasets import DatasetSpec
from kdops.data.arrays import Arrays
from kdops.data.download import socket_timeout
from kdops.data.images import decode_all
from kdops.data.own_data import check_classes, check_parts, describe_split, hold_out_rest
from kdops.errors import KdopsError
from kdops.utils.progress import Progress

ARGUMENTS: Mapping[str, Mapping[str, object]] = {"EMNIST": {"split": "balanced"}}
"""Arguments that a data set requires beside the part that is wanted."""

TRAINING = ("train", "trainval")
VALIDATION = ("val", "valid")
COMMON = "MNIST, FashionMNIST, KMNIST, EMNIST, CIFAR10, CIFAR100, SVHN, STL10"


def load(origin: DatasetSpec, root: Path, progress: Progress | None = None) -> tuple[Arrays, str]:
    """Load one of torchvision's data sets.

    Returns:
        The data set, and what is to be known about it.

    Raises:
        UsageError: there is no such data set, or it is none of single images with one class each.
        KdopsError: it is missing and could not be downloaded.
    """
    parts = _parts(origin, _class(origin), root)
    labels = [_labels(origin, part) for part in parts.values()]
    images, kept = _images(origin, list(parts.values()), progress)
    numbers, classes = _classes(origin, np.concatenate(labels), parts["train"])
    part_of = np.repeat(list(parts), list(map(len, labels)))[kept]
    numbers, tracks = numbers[kept], np.full(len(kept), -1, dtype=np.int64)
    validation = part_of == "val" if "val" in parts else None
    test = part_of == "test" if "test" in parts else hold_out_rest(origin, classes, numbers, tracks, validation)
    decoded = Arrays.of(images, numbers, tracks, test, classes, validation)
    check_parts(origin, decoded)
    kind, (height, width) = "gray" if images.shape[1] == 1 else "color", images.shape[2:]
    variant = "".join(f", {name} {value}" for name, value in ARGUMENTS.get(origin.place, {}).items())
    found = f"{len(images):,} {kind} images of {len(classes)} classes, {height} x {width}"
    return decoded, f"torchvision {origin.place}{variant}: {found}; {describe_split('test' in parts, decoded)}"


def _class(origin: DatasetSpec) -> type:
    """Find the data set's class by its name, as torchvision spells it."""
    from torchvision import datasets  # with torch behind it, takes seconds to import

    found = getattr(datasets, origin.place, None)
    if origin.place not in datasets.__all__ or not inspect.isclass(found):
        by_lower = {name.lower(): name for name in datasets.__all__}
        near = difflib.get_close_matches(origin.place.lower(), by_lower, 1)
        meant = f"; {by_lower[near[0]]} is near" if near else ""
        raise origin.error(f"torchvision has no such data set{meant}; among others it has {COMMON}")
    return found


def _parts(origin: DatasetSpec, found: type, root: Path) -> dict[str, Sequence]:
    """Open training, test and, where there is one, validation part; download what is missing."""
    options = inspect.signature(found).parameters
    extra = ARGUMENTS.get(origin.place, {})
    needed = [
        name
        for name, option in options.items()
        if option.default is option.empty and option.kind is not option.VAR_KEYWORD and name not in ("root", *extra)
    ]
    if "root" not in options or needed or not ("download" in options or extra):
        lacking = f" (it needs {', '.join(needed)})" if needed else ""
        raise origin.error(f"is not a data set that torchvision downloads by itself{lacking}")
    if "train" in options or extra:
        wanted: dict[str, dict[str, object]] = {"train": {"train": True}, "test": {"train": False}}
    elif "split" in options:
        wanted = {"train": {"split": TRAINING}, "val": {"split": VALIDATION}, "test": {"split": ("test",)}}
    else:
        wanted = {"train": {}}
    opened = {part: _open(origin, found, root, {**extra, **how}) for part, how in wanted.items()}
    if opened["train"] is None or ("split" in options and not extra and opened["test"] is None):
        raise origin.error("has no parts that are called train and test")
    return {part: one for part, one in opened.items() if one is not None}


def _open(origin: DatasetSpec, found: type, root: Path, how: Mapping[str, object]) -> Sequence | None:
    """Open one part, by the first of several names that it knows; None where it knows none."""
    names = how.get("split")
    if isinstance(names, tuple):
        # A part of this name is not there: torchvision raises before it looks at any file.
        for name in names:
            try:
                return _fetched(origin, found, root, {**how, "split": name})
            except _UnknownPartError:
                continue
        return None
    return _fetched(origin, found, root, how)


class _UnknownPartError(Exception):
    """A data set has no part of this name."""


def _fetched(origin: DatasetSpec, found: type, root: Path, how: Mapping[str, object]) -> Sequence:
    try:
        try:
            # First without: a whole copy may lie where nothing can be written.
            return found(str(root), download=False, **how)
        except (RuntimeError, OSError):
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / f".{origin.place.lower()}.lock"), socket_timeout():
                return found(str(root), download=True, **how)
    except Exception as error:
        # The network, the disk, a checksum, a library that is missing: the caller's ways out are the same.
        reason = " ".join(str(error).split())
        if isinstance(error, ValueError) and "split" in how and "argument split" in reason:
            raise _UnknownPartError from error
        raise KdopsError(
            f"dataset={origin} is not whole in {root} and could not be downloaded "
            f"({f'{type(error).__name__}: {reason}'[:200]}): give a copy in torchvision's layout with data_root=FOLDER"
        ) from error


def _labels(origin: DatasetSpec, part: Sequence) -> np.ndarray:
    """Return the class number of each image."""
    for name in ("targets", "labels", "_labels"):
        if (given := getattr(part, name, None)) is not None and len(given) == len(part):
            break
    else:
        given = [part[number][1] for number in range(len(part))]
    try:
        labels = np.asarray(given)
        if labels.ndim == 1 and labels.dtype.kind in "iu":
            return labels.astype(np.int64)
    except ValueError:
        pass
    raise origin.error("does not have one class number for each image")


def _classes(origin: DatasetSpec, labels: np.ndarray, train: Sequence) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return class numbers from 0 on without gaps, and the class names."""
    there, numbers = np.unique(labels, return_inverse=True)
    names = getattr(train, "classes", ())
    known = isinstance(names, list | tuple) and there[0] >= 0 and there[-1] < len(names)
    classes = tuple(str(names[label]) if known else str(label) for label in there.tolist())
    check_classes(origin, classes)
    return numbers.astype(np.int64), classes


def _images(origin: DatasetSpec, parts: Sequence[Sequence], progress: Progress | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the images of all parts, and which of them were kept."""
    held = [images for part in parts if (images := _held(part)) is not None]
    if not (origin.image_size or origin.channels) and len(held) == len(parts):
        images = np.ascontiguousarray(np.concatenate(held))
        return images, np.arange(len(images))
    starts = np.cumsum([0, *map(len, parts)])

    def open_one(number: int) -> Image.Image:
        part = int(np.searchsorted(starts, number, side="right")) - 1
        image = parts[part][number - int(starts[part])][0]
        if not isinstance(image, Image.Image):
            raise ValueError(f"{type(image).__name__}, and no image")
        return image

    images, kept, _ = decode_all(origin, [f"image {number}" for number in range(starts[-1])], open_one, progress)
    return images, kept


def _held(part: Sequence) -> np.ndarray | None:
    """Return the images that a data set holds in memory, uint8 ``[N, C, H, W]``; None where it reads files."""
    images = getattr(part, "data", None)
    if images is None or not hasattr(images, "shape"):
        return None
    images = np.asarray(images)
    if images.dtype != np.uint8 or len(images) != len(part):
        return None
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[3] == 3:
        return images.transpose(0, 3, 1, 2)
    return images if images.ndim == 4 and images.shape[1] == 3 else None
