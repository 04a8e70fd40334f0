"""The German Traffic Sign Recognition Benchmark, in the folder layout of ``torchvision.datasets.GTSRB``.

    <root>/gtsrb/GTSRB/Training/<class>/<track>_<frame>.ppm
    <root>/gtsrb/GTSRB/Final_Test/Images/<image>.ppm
    <root>/gtsrb/GT-final_test.csv

torchvision does the downloading. Listing and decoding are done here: torchvision numbers the class folders
that it finds, so that a missing one would silently shift every label, and it has no tracks; and its import
takes seconds that a data set already on disk does not need. A test holds both to the same result.
"""

from __future__ import annotations

import csv
import io
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image

from kdops.config.datasets import DatasetSpec
from kdops.data.arrays import Arrays
from kdops.data.cache import ReadAhead, SourceFile, cached, signature
from kdops.data.download import socket_timeout
from kdops.data.images import MOST_PIXELS, check_size, pixels_of
from kdops.errors import KdopsError, UsageError
from kdops.utils.progress import Progress

CLASSES = (
    "speed limit 20",
    "speed limit 30",
    "speed limit 50",
    "speed limit 60",
    "speed limit 70",
    "speed limit 80",
    "end of speed limit 80",
    "speed limit 100",
    "speed limit 120",
    "no overtaking",
    "no overtaking by trucks",
    "right of way at next crossing",
    "priority road",
    "give way",
    "stop",
    "no vehicles",
    "no trucks",
    "no entry",
    "danger",
    "bend left",
    "bend right",
    "double bend",
    "uneven road",
    "slippery road",
    "road narrows on the right",
    "road works",
    "traffic lights",
    "pedestrians",
    "children",
    "bicycles",
    "snow or ice",
    "wild animals",
    "end of all limits",
    "turn right ahead",
    "turn left ahead",
    "ahead only",
    "ahead or right",
    "ahead or left",
    "keep right",
    "keep left",
    "roundabout",
    "end of no overtaking",
    "end of no overtaking by trucks",
)

SIZE = 32
"""Height and width that every image is brought to, in pixels."""
SHAPE = (3, SIZE, SIZE)

MOST_BYTES = 4 * MOST_PIXELS

FINAL_TRAINING = 39_209
DOWNLOADED_TRAINING = 26_640
PROGRESS_EVERY = 512

_GAP = rb"(?:\s|#[^\n]*\n)+"
_PPM = re.compile(rb"P6" + _GAP + rb"(\d{1,6})" + _GAP + rb"(\d{1,6})" + _GAP + rb"255\s")
_TRACK = re.compile(r"(\d+)_\d+\.ppm", re.IGNORECASE)


def load(origin: DatasetSpec, root: Path, progress: Progress | None = None) -> tuple[Arrays, str]:
    """Load the benchmark, from the cache where it is already decoded; download it where it is missing.

    It is in the folder ``gtsrb`` of ``root``.

    Returns:
        The data set, images uint8 [N, 3, 32, 32], training images first, and which set it is.

    Raises:
        UsageError: the folder is incomplete, or an image in it cannot be read.
        KdopsError: it is missing and could not be downloaded.
    """
    folder = root / "gtsrb"
    if not folder.exists():
        if (root / "GTSRB" / "Training").is_dir():
            raise UsageError("data_root", root, f"give the folder above it: {root.parent}")
        _download(root)
    ahead = ReadAhead("gtsrb")
    listing = _list(folder)
    key = signature(folder, listing.files())
    decoded = cached("gtsrb", key, lambda: _decode_all(listing, progress), ahead)
    return decoded, _notes(decoded)


@dataclass(frozen=True)
class _Listing:
    """The files of one copy."""

    folder: Path
    training: tuple[tuple[SourceFile, ...], ...]
    test: tuple[SourceFile, ...]
    table: SourceFile

    def files(self) -> Iterator[SourceFile]:
        return chain(*self.training, self.test, [self.table])


def _list(folder: Path) -> _Listing:
    """List a copy without opening an image."""
    training = "GTSRB/Training"
    try:
        names = sorted(e.name for e in os.scandir(folder / training) if e.is_dir() and e.name[0] != ".")
        if not names or names != [f"{label:05d}" for label in range(len(names))] or len(names) > len(CLASSES):
            raise UsageError(
                "data_root",
                folder / training,
                f"must hold the class folders 00000 to {len(CLASSES) - 1:05d} and no others; unpack it again",
            )
        classes = tuple(_images(folder, f"{training}/{name}") for name in names)
        table = folder / "GT-final_test.csv"
        table_file = SourceFile.of(table.name, table.stat())
        test = _images(folder, "GTSRB/Final_Test/Images")
    except OSError as error:
        path = error.filename or folder
        raise UsageError("data_root", path, f"cannot be read ({error.strerror}); unpack it again") from error
    return _Listing(folder, classes, test, table_file)


def _images(folder: Path, below: str) -> tuple[SourceFile, ...]:
    found = []
    with _opened(folder / below) as place, os.scandir(place) as entries:
        for entry in entries:
            name = entry.name
            if name[-4:].lower() == ".ppm" and name[0] != ".":
                status = entry.stat()
                found.append(SourceFile.of(f"{below}/{name}", status))
    if not found:
        raise UsageError("data_root", folder / below, "has no .ppm image in it; unpack it again")
    found.sort()
    return tuple(found)


@contextmanager
def _opened(folder: Path) -> Iterator[Path | int]:
    """Open a folder to be listed: below an open one the system need not look up its path for each file again."""
    if os.scandir not in os.supports_fd:
        yield folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)


def _decode_all(listing: _Listing, progress: Progress | None) -> Arrays:
    """Decode every image; one thread does it in seconds, and threads or processes were not faster."""
    labels = [label for label, images in enumerate(listing.training) for _ in images]
    paths = [path for images in listing.training for path, *_ in images]
    tracks = _tracks(listing.folder, paths)
    test_paths, test_labels = _test_table(listing)
    count, total = len(paths), len(paths) + len(test_paths)
    images = np.empty((total, 3, SIZE, SIZE), dtype=np.uint8)
    for index, path in enumerate(paths + test_paths):
        if progress is not None and index % PROGRESS_EVERY == 0:
            progress(index, total)
        images[index] = _decode(listing.folder / path)
    if progress is not None:
        progress(total, total)
    return Arrays.of(
        images,
        np.array(labels + test_labels, dtype=np.int64),
        np.concatenate([tracks, np.full(len(test_paths), -1, dtype=np.int64)]),
        np.arange(total) >= count,
        CLASSES[: len(listing.training)],
    )


def _tracks(folder: Path, paths: list[str]) -> np.ndarray:
    """Number the tracks 0, 1, ... over all classes, from file names such as 00003_00017.ppm."""
    numbers: dict[tuple[str, str], int] = {}
    tracks = np.empty(len(paths), dtype=np.int64)
    for index, path in enumerate(paths):
        below, _, name = path.rpartition("/")
        match = _TRACK.fullmatch(name)
        if match is None:
            # Without its track an image's near-copies could land on both sides of a split.
            raise UsageError("data_root", folder / path, "must be named <track>_<frame>.ppm")
        tracks[index] = numbers.setdefault((below, match[1]), len(numbers))
    return tracks


def _test_table(listing: _Listing) -> tuple[list[str], list[int]]:
    """Read the labels of the test images; every image must have one, of a class there is."""
    table = listing.folder / listing.table.path
    images = {path.rpartition("/")[2]: path for path, *_ in listing.test}
    labels: dict[str, int] = {}
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file, delimiter=";", skipinitialspace=True):
                labels[row["Filename"]] = int(row["ClassId"])
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UsageError("data_root", table, "must have the columns Filename and ClassId") from error
    for name, label in labels.items():
        if not 0 <= label < len(listing.training):
            raise UsageError("data_root", table, f"{name} is of class {label}, which has no training folder")
    if odd := sorted(labels.keys() ^ images.keys()):
        fault = f"{odd[0]} is only in one of the table and the folder of test images"
        raise UsageError("data_root", table, f"{fault} ({len(odd)} such); unpack it again")
    return [images[name] for name in labels], list(labels.values())


def test_boxes(root: Path) -> np.ndarray:
    """Return the box of the sign in each test image, as the table of the benchmark has it.

    Args:
        root: the folder with ``gtsrb`` in it.

    Returns:
        Left, top, right and bottom as shares of width and height, ``[N, 4]``, in the order of the images of
        :func:`load`.

    Raises:
        UsageError: the table cannot be read, or has a box that is none.
    """
    table = root / "gtsrb" / "GT-final_test.csv"
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            rows = {row["Filename"]: row for row in csv.DictReader(file, delimiter=";", skipinitialspace=True)}
        found = [
            [
                int(row[f"Roi.{side}"]) / int(row[extent])
                for side, extent in zip(("X1", "Y1", "X2", "Y2"), ("Width", "Height") * 2, strict=True)
            ]
            for row in rows.values()
        ]
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError, csv.Error) as error:
        raise UsageError("data_root", table, "must have the columns Width, Height and Roi.X1 to Roi.Y2") from error
    boxes = np.array(found)
    if odd := np.flatnonzero(~((boxes >= 0) & (boxes <= 1)).all(1) | (boxes[:, :2] >= boxes[:, 2:]).any(1)).tolist():
        raise UsageError("data_root", table, f"has a box outside of its image, or an empty one: {[*rows][odd[0]]}")
    return boxes


def _decode(path: Path) -> np.ndarray:
    """Decode one image to uint8 [3, 32, 32], resized (bilinear) where it is of another size."""
    try:
        with open(path, "rb") as file:
            return _pixels(file.read(MOST_BYTES + 1))
    except Exception as error:
        # Any bytes may be in a file of the caller's, and Pillow raises many kinds of errors over them.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError("data_root", path, f"is cut off or no image ({reason}); replace it") from error


def _pixels(content: bytes) -> np.ndarray:
    if len(content) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES:,} bytes")
    # Reading the plain header here is five times faster than Pillow's general reader.
    header = _PPM.match(content)
    if header is None:
        with Image.open(io.BytesIO(content)) as opened:
            check_size(opened.size)
            return pixels_of(opened, SHAPE)
    width, height = int(header[1]), int(header[2])
    check_size((width, height))
    body = memoryview(content)[header.end() : header.end() + 3 * width * height]
    if (width, height) == (SIZE, SIZE):
        return np.frombuffer(body, dtype=np.uint8).reshape(SIZE, SIZE, 3).transpose(2, 0, 1)
    return pixels_of(Image.frombytes("RGB", (width, height), bytes(body)), SHAPE)


def _notes(decoded: Arrays) -> str:
    count, tests = int((~decoded.test).sum()), int(decoded.test.sum())
    kind = {
        FINAL_TRAINING: "the official Final Training set",
        DOWNLOADED_TRAINING: "the older training set that torchvision downloads, not the official Final "
        f"Training set of {FINAL_TRAINING:,}",
    }.get(count, f"neither the Final Training set of {FINAL_TRAINING:,} nor the {DOWNLOADED_TRAINING:,} that "
                 "torchvision downloads")  # fmt: skip
    return f"GTSRB: {count:,} training images ({kind}) and {tests:,} test images, {SIZE} x {SIZE}"


def _download(root: Path) -> None:
    """Download both parts beside their place and move them there whole.

    Raises:
        KdopsError: in one line, with both ways out.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".gtsrb.lock"):
            if not (root / "gtsrb").exists():
                _fetch(root)
    except Exception as error:
        # The network, the disk, a checksum, torchvision itself: the caller's ways out are the same.
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
        raise KdopsError(
            f"dataset=gtsrb is not in {root} and its download failed ({reason}): give a local copy with "
            "data_root=FOLDER, where FOLDER/gtsrb/GTSRB/Training is, or take dataset=digits"
        ) from error


def _fetch(root: Path) -> None:
    from torchvision.datasets import GTSRB

    # An interrupted extraction leaves a folder that looks complete: only a whole one gets the name.
    with tempfile.TemporaryDirectory(dir=root, prefix=".gtsrb-") as temporary, socket_timeout():
        for split in ("train", "test"):
            GTSRB(temporary, split, download=True)
        for archive in Path(temporary, "gtsrb").glob("*.zip"):
            archive.unlink()
        os.rename(Path(temporary, "gtsrb"), root / "gtsrb")
