"""Images from the caller's own code: ``module:function``.

The function is called without arguments and returns a dict, or an object with the same attributes:

    images      uint8 [N, C, H, W] or [N, H, W]
    labels      [N], class numbers from 0, or class names
    tracks      [N], optional (or groups): numbers or names of what must stay on one side of a split; -1, None or ""
                where unknown
    test        bool [N], optional: the test set; without it one is held out
    validation  bool [N], optional: the images that choose among models
    classes     the class names, optional
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kdops.config.datasets import DatasetSpec
from kdops.data.arrays import Arrays
from kdops.data.own_data import check_classes, check_parts, describe_split, hold_out_rest
from kdops.errors import KdopsError
from kdops.utils.imports import describe_error, import_function, importable
from kdops.utils.progress import Progress

FIELDS = ("images", "labels", "tracks", "groups", "test", "validation", "classes")
NEEDED = ("images", "labels")


def load(origin: DatasetSpec, root: Path, progress: Progress | None = None) -> tuple[Arrays, str]:
    """Call the caller's function and check what it returns.

    Its module is looked for on Python's path, then in the caller's folder.

    Returns:
        The data set, and what is to be known about it. The images are not copied where they are uint8 already.

    Raises:
        UsageError: there is no such function, it fails, or it returns something else.
    """
    given = _fields(origin, _called(origin))
    images = _images(origin, given["images"])
    labels, classes = _labels(origin, given["labels"], given.get("classes"), len(images))
    tracks = _tracks(origin, given, len(images))
    validation = _mask(origin, "validation", given.get("validation"), len(images))
    official = _mask(origin, "test", given.get("test"), len(images))
    test = hold_out_rest(origin, classes, labels, tracks, validation) if official is None else official
    decoded = Arrays.of(images, labels, tracks, test, classes, validation)
    check_parts(origin, decoded)
    kind = {1: "gray", 3: "color"}.get(images.shape[1], f"{images.shape[1]}-channel")
    found = f"{len(images):,} {kind} images of {len(classes)} classes, {images.shape[2]} x {images.shape[3]}"
    return decoded, f"images from {origin}: {found}; {describe_split(official is not None, decoded)}"


def _called(origin: DatasetSpec) -> object:
    """Call the function; whatever the caller's code raises is reported in one line."""
    wanted = import_function(origin.place, "dataset")
    with importable():
        try:
            return wanted()
        except KdopsError:
            raise
        except (Exception, SystemExit) as error:
            raise origin.error(f"the function failed ({describe_error(error)})") from error


def _fields(origin: DatasetSpec, returned: object) -> dict[str, object]:
    """Return what was returned by name."""
    if isinstance(returned, Mapping):
        if odd := [name for name in returned if name not in FIELDS]:
            raise origin.error(f"the function returned {odd[0]!r}; there are {', '.join(FIELDS)}")
        given = {name: value for name, value in returned.items() if value is not None}
    else:
        given = {name: getattr(returned, name) for name in FIELDS if getattr(returned, name, None) is not None}
    if missing := [name for name in NEEDED if name not in given]:
        what = f"a {type(returned).__name__} without {missing[0]}"
        raise origin.error(f"the function returned {what}; it must return a dict with {' and '.join(NEEDED)}")
    return given


def _array(origin: DatasetSpec, name: str, value: object) -> np.ndarray:
    try:
        return np.asarray(value)
    except Exception as error:
        # A tensor on a GPU, a ragged list: whatever NumPy or the caller's type raises.
        raise origin.error(f"{name} cannot be read as an array ({describe_error(error)})") from error


def _images(origin: DatasetSpec, value: object) -> np.ndarray:
    images = _array(origin, "images", value)
    found = f"{images.dtype} {list(images.shape)}"
    if images.dtype != np.uint8:
        raise origin.error(f"images must be uint8, 0 to 255, and are {found}")
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or not images.size:
        raise origin.error(f"images must be uint8 [N, C, H, W] or [N, H, W], and are {found}")
    if images.shape[3] in (1, 3) and images.shape[1] not in (1, 3):
        raise origin.error(f"images are {found}, channels last; give [N, C, H, W], as of images.transpose(0, 3, 1, 2)")
    return images


def _per_image(origin: DatasetSpec, name: str, value: object, count: int) -> np.ndarray:
    array = _array(origin, name, value)
    if array.shape != (count,):
        raise origin.error(f"{name} must have one value for each of the {count} images, and is {list(array.shape)}")
    return array


def _labels(origin: DatasetSpec, value: object, classes: object, count: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return class numbers and class names."""
    labels = _per_image(origin, "labels", value, count)
    names = None
    if classes is not None:
        listed = [] if isinstance(classes, str) else _array(origin, "classes", classes).tolist()
        names = tuple(map(str, listed)) if isinstance(listed, list) else ()
        if len(set(names)) < max(len(names), 1):
            raise origin.error("classes must be a list of names, each once")
    if labels.dtype.kind in "iu":
        names = names or tuple(map(str, range(int(labels.max()) + 1)))
        if not 0 <= labels.min() <= labels.max() < len(names):
            raise origin.error(f"labels are {labels.min()} to {labels.max()}, and there are {len(names)} classes")
        numbers = labels.astype(np.int64)
    elif labels.dtype.kind in "UO" and all(isinstance(label, str) for label in labels.tolist()):
        names = names or tuple(sorted(set(labels.tolist())))
        number_of = {name: number for number, name in enumerate(names)}
        if unknown := sorted(set(labels.tolist()) - set(names)):
            raise origin.error(f"the label {unknown[0]!r} is not among the classes")
        numbers = np.array([number_of[label] for label in labels.tolist()], dtype=np.int64)
    else:
        raise origin.error(f"labels must be whole numbers or names, and are {labels.dtype}")
    check_classes(origin, names)
    return numbers, names


def _tracks(origin: DatasetSpec, given: Mapping[str, object], count: int) -> np.ndarray:
    """Number what must stay together, -1 where it is unknown."""
    names = [name for name in ("tracks", "groups") if name in given]
    if len(names) > 1:
        raise origin.error("the function returned tracks and groups; they are the same, give one")
    if not names:
        return np.full(count, -1, dtype=np.int64)
    tracks = _per_image(origin, names[0], given[names[0]], count)
    if tracks.dtype.kind in "iu":
        return np.where(tracks < 0, -1, tracks).astype(np.int64)
    if tracks.dtype.kind not in "UO":
        raise origin.error(f"{names[0]} must be whole numbers or names, and are {tracks.dtype}")
    numbers: dict[str, int] = {}
    return np.array(
        [-1 if one in (None, "", -1) else numbers.setdefault(str(one), len(numbers)) for one in tracks.tolist()],
        dtype=np.int64,
    )


def _mask(origin: DatasetSpec, name: str, value: object, count: int) -> np.ndarray | None:
    if value is None:
        return None
    mask = _per_image(origin, name, value, count)
    if mask.dtype != np.bool_:
        raise origin.error(f"{name} must be true or false for each image, and is {mask.dtype}")
    return mask
