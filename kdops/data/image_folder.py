"""Folders of images: ``imagefolder:FOLDER``, one folder a class.

    FOLDER/<class>/<image>
    FOLDER/train/<class>/<image>, and beside train/ one or both of val/ and test/
    FOLDER/groups.csv with the columns file and group: images of a group stay on one side of every split

Hidden files are left alone; every other file below a class folder must be an image.
"""

from __future__ import annotations

import csv
import os
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from kdops.config.datasets import DatasetSpec
from kdops.data.arrays import Arrays
from kdops.data.cache import SourceFile, cached, signature
from kdops.data.images import FORMATS, decode_all
from kdops.data.own_data import PARTS, check_classes, check_parts, describe_split, hold_out_rest
from kdops.data.tabular.csv_lines import bounded_lines
from kdops.errors import UsageError

__all__ = ["load"]

GROUPS = "groups.csv"
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
LEFT_ALONE = {"thumbs.db", "desktop.ini"}
"""Files that file managers leave behind."""


def load(origin: DatasetSpec, root: Path, progress: Callable[[int, int], object] | None = None) -> tuple[Arrays, str]:
    """Load a folder of images, from the cache where it is already decoded.

    Args:
        origin: the folder, and how to read it.
        root: is there because every loader has it.
        progress: called with (images decoded, images in all) while decoding.

    Returns:
        The data set, and what is to be known about it.

    Raises:
        UsageError: the folder is not as it must be, or an image in it cannot be read.
    """
    listing = _list(origin)
    options = f"{origin.image_size} {origin.channels} {origin.skip_bad}"
    files = [one.file for one in listing.files] + list(listing.table)
    key = signature(listing.folder, files, options)
    decoded = cached(origin.name, key, lambda: _decode(origin, listing, progress))
    return decoded, _notes(listing, decoded)


@dataclass(frozen=True)
class _Image:
    """A file of a class: its path below the folder is with ``/``."""

    file: SourceFile
    part: str
    label: str

    @property
    def path(self) -> str:
        return self.file.path


@dataclass(frozen=True)
class _Listing:
    """What is in the folder: images part by part and class by class, and the table of groups if there is one."""

    folder: Path
    parts: tuple[str, ...]
    classes: tuple[str, ...]
    files: tuple[_Image, ...]
    table: tuple[SourceFile, ...]


def _list(origin: DatasetSpec) -> _Listing:
    """List the folder without opening an image."""
    folder = Path(origin.place).expanduser()
    try:
        if not os.path.exists(folder):
            raise UsageError("dataset", origin, "there is no such folder")
        if not folder.is_dir():
            raise UsageError("dataset", origin, "must be a folder, and this is a file")
        parts = _parts(origin, folder)
        found: dict[str, list[_Image]] = {}
        for name, part in parts.items():
            below = _classes(origin, folder, name)
            found[part] = [file for label in below for file in _images(origin, folder, name, label, part)]
        table = [entry for entry in os.scandir(folder) if entry.name == GROUPS]
        tables = tuple(_found(entry.name, entry) for entry in table)
    except OSError as error:
        path = error.filename or folder
        raise UsageError("dataset", origin, f"{path} cannot be read ({error.strerror or error})") from error
    labels = {part: {file.label for file in files} for part, files in found.items()}
    classes = tuple(sorted(labels.get("train", labels.get("", ()))))
    check_classes(origin, classes)
    for part, there in labels.items():
        for label in sorted(there ^ set(classes)):
            lacking = "train" if label in there else part
            raise UsageError(
                "dataset", origin, f"class {label!r} has no folder in {lacking}/; every part must have all classes"
            )
    files = tuple(file for part in ("", "train", "val", "test") for file in found.get(part, ()))
    return _Listing(folder, tuple(parts.values()), classes, files, tables)


def _parts(origin: DatasetSpec, folder: Path) -> dict[str, str]:
    """Return the folders that are parts; one without a name stands for a folder that is not parted."""
    with os.scandir(folder) as entries:
        below = sorted(entry.name for entry in entries if entry.is_dir() and entry.name[0] != ".")
    # A class may be called train too; then images lie in it, not folders.
    parts = {name: PARTS[name] for name in below if name in PARTS and _has_folders(folder / name)}
    if not parts:
        return {"": ""}
    if others := [name for name in below if name not in parts]:
        raise UsageError(
            "dataset", origin, f"has {others[0]}/ beside {next(iter(parts))}/; give class folders, or parts, not both"
        )
    if len(set(parts.values())) < len(parts):
        raise UsageError("dataset", origin, f"has one part twice: {', '.join(parts)}")
    if "train" not in parts.values():
        raise UsageError("dataset", origin, f"has {', '.join(f'{name}/' for name in parts)} and no train/")
    return parts


def _has_folders(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(entry.is_dir() and entry.name[0] != "." for entry in entries)


def _classes(origin: DatasetSpec, folder: Path, part: str) -> list[str]:
    """Return the class folders of a part; an image beside them belongs to no class."""
    classes, stray = [], []
    with os.scandir(folder / part) as entries:
        for entry in entries:
            if entry.name[0] == ".":
                continue
            if entry.is_dir():
                classes.append(entry.name)
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                stray.append(entry.name)
    where = f"{part}/" if part else "the folder"
    if not classes:
        lying = f"; {min(stray)} lies in no class folder" if stray else ""
        raise UsageError("dataset", origin, f"{where} has no class folders in it, one for each class{lying}")
    if stray and not origin.skip_bad:
        first = posixpath.join(part, min(stray))
        raise UsageError(
            "dataset", origin, f"{first} lies beside the class folders, in none ({len(stray)} such); move it, or give "
            "skip_bad=true to leave it out"
        )  # fmt: skip
    return sorted(classes)


def _images(origin: DatasetSpec, folder: Path, part: str, label: str, kind: str) -> list[_Image]:
    """List the files of one class, folders within included."""
    files, waiting = [], [posixpath.join(part, label)]
    # Links may lead to a folder above: back to where we are, or to all that is on the machine.
    above = (folder.resolve(), *folder.resolve().parents)
    seen = {(stat.st_dev, stat.st_ino) for stat in map(os.stat, above)}
    while waiting:
        below = waiting.pop()
        stat = os.stat(folder / below)
        if (stat.st_dev, stat.st_ino) in seen:
            continue
        seen.add((stat.st_dev, stat.st_ino))
        with os.scandir(folder / below) as entries:
            for entry in entries:
                if entry.name[0] == "." or entry.name.lower() in LEFT_ALONE:
                    continue
                path = f"{below}/{entry.name}"
                if entry.is_dir():
                    waiting.append(path)
                else:
                    files.append(_Image(_found(path, entry), kind, label))
    if not files:
        raise UsageError("dataset", origin, f"{posixpath.join(part, label)}/ has no image in it")
    return sorted(files, key=lambda file: file.path)


def _found(path: str, entry: os.DirEntry) -> SourceFile:
    # A link to nothing has no size; that it cannot be opened is reported where images are read.
    return SourceFile.of(path, entry.stat(follow_symlinks=os.path.exists(entry.path)))


def _decode(origin: DatasetSpec, listing: _Listing, progress: Callable[[int, int], object] | None) -> Arrays:
    names = [file.path for file in listing.files]
    tracks = _tracks(origin, listing)

    def open_one(number: int) -> Image.Image:
        path = listing.folder / names[number]
        # A pipe would be waited for without end.
        if not path.is_file():
            raise ValueError("no file" if path.exists() else "leads nowhere")
        return Image.open(path, formats=FORMATS)

    images, kept = decode_all(origin, names, open_one, progress)
    files, tracks = [listing.files[number] for number in kept], tracks[kept]
    number_of = {label: number for number, label in enumerate(listing.classes)}
    labels = np.array([number_of[file.label] for file in files], dtype=np.int64)
    parts = np.array([file.part for file in files])
    validation = parts == "val" if "val" in listing.parts else None
    if "test" in listing.parts:
        test = parts == "test"
    else:
        test = hold_out_rest(origin, listing.classes, labels, tracks, validation)
    decoded = Arrays.of(images, labels, tracks, test, listing.classes, validation)
    check_parts(origin, decoded, [file.path for file in files])
    return decoded


def _tracks(origin: DatasetSpec, listing: _Listing) -> np.ndarray:
    """Read the group of each file from the table; -1 where none is given."""
    tracks = np.full(len(listing.files), -1, dtype=np.int64)
    if not listing.table:
        return tracks
    place = {file.path: number for number, file in enumerate(listing.files)}
    numbers: dict[str, int] = {}
    for line, path, group in _rows(origin, listing.folder / GROUPS):
        if path not in place:
            raise UsageError("dataset", origin, f"{GROUPS} line {line} names {path}, and there is no such image")
        number = numbers.setdefault(group, len(numbers))
        if tracks[place[path]] not in (-1, number):
            raise UsageError("dataset", origin, f"{GROUPS} line {line} gives {path} a second group")
        tracks[place[path]] = number
    return tracks


def _rows(origin: DatasetSpec, table: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line number, file and group of every row."""
    if not table.is_file():
        raise UsageError("dataset", origin, f"{GROUPS} must be a file")
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(bounded_lines(file), skipinitialspace=True)
            for row in reader:
                path, group = (row["file"] or "").strip(), (row["group"] or "").strip()
                if not path or not group:
                    raise UsageError("dataset", origin, f"{GROUPS} line {reader.line_num} lacks a file or a group")
                yield reader.line_num, posixpath.normpath(path), group
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise UsageError("dataset", origin, f"{GROUPS} must be a table with the columns file and group") from error


def _notes(listing: _Listing, decoded: Arrays) -> str:
    channels, height, width = decoded.images.shape[1:]
    kind = "gray" if channels == 1 else "color"
    skipped = len(listing.files) - len(decoded.labels)
    left_out = f", {skipped:,} that {'are' if skipped > 1 else 'is'} no readable image left out" if skipped else ""
    found = f"{len(decoded.labels):,} {kind} images of {len(listing.classes)} classes, {height} x {width}{left_out}"
    return f"folder of images: {found}; {describe_split('test' in listing.parts, decoded)}"
