"""Folders of images: ``imagefolder:FOLDER``; :mod:`kdops.data.folder_layout` has what may lie in one.

``FOLDER/groups.csv`` with the columns file and group says which images stay on one side of every split.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from kdops.config.datasets import DatasetSpec
from kdops.data.arrays import Arrays
from kdops.data.cache import cached, signature
from kdops.data.folder_layout import GROUPS, Layout, read_layout, table_rows
from kdops.data.images import decode_all, opener
from kdops.data.own_data import check_parts, describe_split, hold_out_rest
from kdops.utils.progress import Progress

DARK = 32
"""Images whose brightest pixel is darker than this, of 255, are remarked on."""
SAMPLE = 1000
"""About how many images are looked at for it."""


def load(origin: DatasetSpec, root: Path, progress: Progress | None = None) -> tuple[Arrays, str]:
    """Load a folder of images, from the cache where it is already decoded.

    Returns:
        The data set, and what is to be known about it.

    Raises:
        UsageError: the folder is not as it must be, or an image in it cannot be read.
    """
    layout = read_layout(origin)
    options = f"{origin.image_size} {origin.channels} {origin.skip_bad}" + " upright" * origin.upright
    files = [one.file for one in layout.files] + list(layout.tables)
    key = signature(layout.folder, files, options)
    decoded = cached(origin.name, key, lambda: _decode(origin, layout, progress))
    return decoded, _notes(layout, decoded)


def names_of(origin: DatasetSpec, count: int) -> list[str]:
    """Return the path of each image below its folder, in the order of the data set; nothing where that is not known.

    Args:
        origin: where the data come from, which may be no folder of images.
        count: how many images were read.
    """
    if origin.kind != "imagefolder":
        return []
    files = read_layout(origin).files
    return [file.path for file in files] if len(files) == count else []


def _decode(origin: DatasetSpec, layout: Layout, progress: Progress | None) -> Arrays:
    names = [file.path for file in layout.files]
    tracks = _tracks(origin, layout)
    images, kept, turned = decode_all(origin, names, opener(layout.folder, names), progress)
    files, tracks = [layout.files[number] for number in kept], tracks[kept]
    number_of = {label: number for number, label in enumerate(layout.classes)}
    labels = np.array([number_of[file.label] for file in files], dtype=np.int64)
    parts = np.array([file.part for file in files])
    validation = parts == "val" if "val" in layout.parts else None
    if "test" in layout.parts:
        test = parts == "test"
    else:
        test = hold_out_rest(origin, layout.classes, labels, tracks, validation)
    decoded = replace(Arrays.of(images, labels, tracks, test, layout.classes, validation), turned=turned)
    check_parts(origin, decoded, [file.path for file in files])
    return decoded


def _tracks(origin: DatasetSpec, layout: Layout) -> np.ndarray:
    """Read the group of each file from the table; -1 where none is given."""
    tracks = np.full(len(layout.files), -1, dtype=np.int64)
    if all(table.path != GROUPS for table in layout.tables):
        return tracks
    place = {file.path: number for number, file in enumerate(layout.files)}
    numbers: dict[str, int] = {}
    for line, path, group, _ in table_rows(origin, layout.folder / GROUPS, "group"):
        if path not in place:
            if origin.skip_bad and (layout.folder / path).is_file():
                continue  # it is there, and is left out
            raise origin.error(f"{GROUPS} line {line} names {path}, and there is no such image")
        number = numbers.setdefault(group, len(numbers))
        if tracks[place[path]] not in (-1, number):
            raise origin.error(f"{GROUPS} line {line} gives {path} a second group")
        tracks[place[path]] = number
    return tracks


def _notes(layout: Layout, decoded: Arrays) -> str:
    channels, height, width = decoded.images.shape[1:]
    kind = "gray" if channels == 1 else "color"
    left_out = list(layout.left_out)
    if skipped := len(layout.files) - len(decoded.labels):
        left_out.insert(0, f"{skipped:,} that {'are' if skipped > 1 else 'is'} no readable image")
    without = f", {' and '.join(left_out)} left out" if left_out else ""
    found = f"{len(decoded.labels):,} {kind} images of {len(layout.classes)} classes, {height} x {width}{without}"
    split = describe_split("test" in layout.parts, decoded)
    return f"folder of images: {found}; {split}{remarks(decoded)}"


def remarks(decoded: Arrays, advice: str = "upright=true turns them back") -> str:
    """Return what is odd about decoded images, to follow a sentence about them; empty where nothing is.

    Args:
        decoded: the images.
        advice: what to do about photos that lie turned.
    """
    brightest = int(decoded.images[:: max(1, len(decoded.images) // SAMPLE)].max())
    dark = f"; no pixel is brighter than {brightest} of 255, as where 16-bit files hold fewer bits: scale them"
    turned = f"; {decoded.turned:,} are turned by their EXIF data and seen as they lie: {advice}"
    return (dark if brightest < DARK else "") + (turned if decoded.turned else "")
