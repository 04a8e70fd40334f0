"""The inputs of a prediction: image files, or for a model of a table the rows of CSV files."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdops.config.datasets import parse_dataset
from kdops.data.cache import user_cache_folder
from kdops.data.dataset import Dataset, load
from kdops.data.examples import evenly
from kdops.data.folder_files import is_left_alone
from kdops.data.images import SUFFIXES, ImageError, read_image
from kdops.data.tabular.rows import Encoding, RowError
from kdops.data.tabular.table_file import Table, TableError, read_table
from kdops.errors import KdopsError, UsageError
from kdops.packaging.loading import Loaded

TABLES = {".csv", ".tsv", ".txt", ".parquet"}
COMPARED = 256
"""Images that an export is compared on."""


@dataclass
class Examples:
    """Examples as a model takes them.

    Attributes:
        values: uint8 ``[N, C, H, W]``.
        names: what each is called: its file, of a row with its line.
        refused: the files that could not be read, as a whole or in part, and why.
        remark: what was done to those that could; empty for nothing.
    """

    values: np.ndarray
    names: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    remark: str = ""


def read_examples(files: Sequence[str], loaded: Loaded) -> Examples:
    """Read files as a model takes them.

    Args:
        files: image files, or CSV files of which other columns than the model's are left alone; or folders of them.
    """
    if loaded.encoding:
        return _rows(_with_files_of_folders(files, TABLES), loaded, loaded.encoding)
    return _images(_with_files_of_folders(files, SUFFIXES), loaded)


def _with_files_of_folders(files: Sequence[str], suffixes: Collection[str]) -> list[str]:
    """Return the files, and for each folder the files in it and below that end in one of the suffixes.

    As in training, what is hidden or left behind by programs is no file of a folder.
    """
    found = []
    for file in files:
        below: list[str] = []
        for folder, folders, names in os.walk(file, onerror=_refuse):
            folders[:] = [name for name in folders if not is_left_alone(name)]
            below += [os.path.join(folder, name) for name in names if not is_left_alone(name)]
        kept = [path for path in below if os.path.splitext(path.lower().removesuffix(".gz"))[1] in suffixes]
        found += sorted(kept) or [file]
    return found


def _refuse(error: OSError) -> None:
    # A file is no folder; that it is not there is reported where it is read.
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise UsageError("files", error.filename, f"cannot be read ({error.strerror})")


def _images(files: Sequence[str], loaded: Loaded) -> Examples:
    found, pixels = Examples(np.zeros((0, *loaded.shape), np.uint8)), []
    channels, height, width = loaded.shape
    for file in files:
        try:
            image = read_image(Path(file), loaded.shape, loaded.upright)
        except ImageError as error:
            found.refused.append((file, str(error)))
            continue
        found.names.append(file)
        pixels.append(image.pixels)
        if image.changed and not found.remark:
            mode = "gray" if channels == 1 else "RGB"
            found.remark = f"converted to {mode} {width} x {height}, what the model takes ({file} is {image.was})"
    found.values = np.stack(pixels) if pixels else found.values
    return found


def _rows(files: Sequence[str], loaded: Loaded, encoding: Encoding) -> Examples:
    found, encoded = Examples(np.zeros((0, *loaded.shape), np.uint8)), []
    columns = [column.name for column in encoding.columns]
    remarks: list[str] = []
    for file in files:
        try:
            table = read_table(Path(file), columns.__contains__)
            if lacking := [column for column in columns if column not in table.columns]:
                raise TableError(f"has no column {lacking[0]}")
        except TableError as error:
            found.refused.append((file, str(error)))
            continue
        values, bad, odd = _encoded(table, columns, encoding)
        encoded.append(values)
        remarks += [f"{file}: {remark}" for remark in odd]
        found.refused += [(file, reason) for reason in bad.values()]
        lines = [line.removeprefix("line ") for row, line in enumerate(table.lines) if row not in bad]
        found.names += [f"{file}:{line}" for line in lines]
    found.values = np.concatenate([found.values, *encoded])
    if remarks:
        more = f", and {len(remarks) - 1} more rows likewise" if len(remarks) > 1 else ""
        found.remark = f"answered as none of the known categories: {remarks[0]}{more}"
    return found


def _encoded(table: Table, columns: list[str], encoding: Encoding) -> tuple[np.ndarray, dict[int, str], list[str]]:
    """Encode the rows of a table.

    Returns:
        Those that can be encoded, of the others why not by their place, and a remark on each odd one of the former.
    """
    rows, remarks = table.rows(columns), dict[int, str]()
    try:
        return encoding.encode(rows, table.lines, remarks.setdefault), {}, list(remarks.values())
    except RowError:
        encoded, bad, odd = list[np.ndarray](), dict[int, str](), list[str]()
    # One of them is wrong: only now is each encoded for itself, which is slow.
    for place, (row, line) in enumerate(zip(rows, table.lines, strict=True)):
        remarks = {}
        try:
            encoded.append(encoding.encode([row], [line], remarks.setdefault))
            odd += remarks.values()
        except RowError as error:
            bad[place] = str(error)
    return np.concatenate([np.zeros((0, encoding.width, 1, 1), np.uint8), *encoded]), bad, odd


def images_to_compare(name: str, origin: Mapping[str, str], loaded: Loaded, data_root: str) -> tuple[Tensor, str]:
    """Return images to compare an export on, uint8 ``[N, C, H, W]``, and a phrase that describes them.

    They are images of the data set where it is here, since none is downloaded, else random ones.

    Args:
        name: what the data set is called that the model was trained on.
        origin: the parameters by which it was read, as far as they are known.
        data_root: the folder with the data; empty for the usual ones.

    Raises:
        UsageError: there is no such folder.
    """
    taken, problem = _own_images(origin or {"dataset": name}, data_root, loaded)
    if taken is not None:
        return torch.from_numpy(taken), f"{'encoded rows' if loaded.encoding else 'images'} of {name}"
    random = np.random.default_rng(0).integers(0, 256, (COMPARED, *loaded.shape), dtype=np.uint8)
    what = "encoded rows, drawn at random" if loaded.encoding else "random images"
    return torch.from_numpy(random), f"{what} ({name} {problem})"


def rows_to_probe(origin: Mapping[str, str], loaded: Loaded, data_root: str, count: int) -> tuple[Dataset, np.ndarray]:
    """Return the data set that a model was trained on, and the rows of some of its test images.

    Args:
        origin: the parameters by which the data set was read.
        loaded: the model.
        data_root: the folder with the data; empty for the usual ones.
        count: how many, which lie evenly among all.

    Raises:
        UsageError: the data set cannot be read, or its images are not what the model takes.
    """
    found = parse_dataset(origin)
    if found.kind == "function":
        raise UsageError("dataset", found, "is read by code of yours, which no stored model may name")
    data = load(found, data_root)
    if data.shape != loaded.shape or tuple(data.classes) != loaded.classes:
        raise UsageError("dataset", found, "is of another form now than when the model was trained")
    return data, evenly(np.flatnonzero(data.test), count)


def _own_images(origin: Mapping[str, str], data_root: str, loaded: Loaded) -> tuple[np.ndarray | None, str]:
    """Return images of a data set that are not test images, or why there are none."""
    root = Path(os.path.expanduser(data_root or os.environ.get("KDOPS_DATA_ROOT") or user_cache_folder()))
    if data_root and not root.is_dir():
        raise UsageError("data_root", data_root, "there is no such folder")
    try:
        found = parse_dataset(origin)
    except UsageError:
        return None, "is not here"
    if found.kind == "function":
        return None, "is read by code of yours, which no stored model may name"
    if found.kind == "torchvision" or not (found.place or found.kind == "digits" or (root / found.kind).is_dir()):
        return None, "is not read here, since it may have to be downloaded" if found.place else "is not here"
    try:
        data = load(found, data_root)
    except KdopsError:
        return None, "is not here"
    if data.shape != loaded.shape or (loaded.encoding and data.encoding != loaded.encoding.to_json()):
        return None, "is of another form now"
    return np.array(data.images[evenly(np.flatnonzero(~data.test), COMPARED)]), ""
