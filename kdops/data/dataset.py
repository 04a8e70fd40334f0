"""Data sets by name: uint8 images with labels, tracks, a test set and a digest.

A new data set is a file here with its loader, and one entry in :mod:`kdops.config.datasets`. All loaders take where the
data come from and how they are read, the folder that a known set lies in or is downloaded into, and what is called with
(images decoded, images in all) while images are decoded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kdops.config.datasets import DATASETS, DatasetSpec, parse_dataset
from kdops.data.arrays import Arrays
from kdops.data.cache import user_cache_folder
from kdops.errors import UsageError
from kdops.utils.imports import load_place
from kdops.utils.progress import Progress

if TYPE_CHECKING:
    from kdops.data.unlabeled import Unlabeled


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset(Arrays):
    """A data set: its arrays, and what it is called.

    Attributes:
        name: what it is called in runs and registered models.
        notes: one sentence that describes the set.
        asked: the text of the parameter ``dataset``, where that is not its name.
        upright: photos were turned as their EXIF data say, so those that a model of them is asked about are too.
        unlabeled: images without labels that distilled students learn from too; None for none. They have the rows that
            follow those of the data set itself.
    """

    name: str
    notes: str
    asked: str = ""
    upright: bool = False
    unlabeled: Unlabeled | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return tuple(self.images.shape[1:])

    @property
    def unlabeled_rows(self) -> np.ndarray:
        """The rows of the images without labels that are learned from, behind those of the data set itself."""
        return np.array([], dtype=np.int64) if self.unlabeled is None else len(self.labels) + self.unlabeled.rows

    @property
    def given(self) -> str:
        """The text of the parameter ``dataset`` that selects it."""
        return self.asked or self.name

    @property
    def metadata(self) -> dict[str, object]:
        """The metadata that every model of these data stores about them."""
        upright = {"upright": True} if self.upright else {}
        return {"class_names": list(self.classes), **({"table": self.encoding} if self.encoding else {}), **upright}

    @property
    def unit(self) -> str:
        """The plural noun for its examples: images or rows."""
        return "rows" if self.encoding else "images"

    @property
    def has_tracks(self) -> bool:
        """Whether tracks are known, for those images that are not test images."""
        return bool((self.tracks[~self.test] >= 0).any())


def load(origin: DatasetSpec | str, data_root: str = "", progress: Progress | None = None) -> Dataset:
    """Load a data set.

    Args:
        origin: where it comes from and how it is read, or the text of the parameter ``dataset`` alone.
        data_root: folder with the data; empty: ``KDOPS_DATA_ROOT``, else the user's cache folder.
        progress: called with (images decoded, images in all), where images have to be decoded.

    Raises:
        UsageError: the name is unknown, the folder cannot be used, or what is in it is incomplete.
        KdopsError: the data set could not be downloaded.
    """
    if isinstance(origin, str):
        origin = parse_dataset({"dataset": origin})
    root = data_folder(data_root)
    loader = load_place(DATASETS[origin.kind].loader)
    arrays, notes = loader(origin, root, progress)
    unlabeled = None
    if origin.unlabeled:
        from kdops.data.unlabeled import load_unlabeled

        channels, height, width = arrays.images.shape[1:]
        beside, can_turn = origin.beside((height, width), channels), "upright" in DATASETS[origin.kind].options
        unlabeled = load_unlabeled(beside, arrays, progress, can_turn=can_turn)
    return Dataset(
        name=origin.name,
        notes=notes,
        asked=str(origin),
        upright=origin.upright,
        unlabeled=unlabeled,
        **vars(arrays),
    )


def data_folder(data_root: str) -> Path:
    """Return the folder with the data sets; only our own default may be missing, since a download makes it.

    Args:
        data_root: the folder; empty: ``KDOPS_DATA_ROOT``, else the user's cache folder.

    Raises:
        UsageError: there is no such folder, or it cannot be read.
    """
    given = data_root or os.environ.get("KDOPS_DATA_ROOT", "")
    if not given:
        return user_cache_folder()
    folder = Path(given).expanduser()
    if not os.path.exists(folder):  # unlike Path.exists, False for a folder inside an unreadable one
        raise UsageError("data_root", given, "there is no such folder")
    if not folder.is_dir():
        raise UsageError("data_root", given, "must be a folder, and this is a file")
    try:
        os.scandir(folder).close()
        os.stat(os.path.join(folder, "."))  # listing a folder and entering it are two permissions
    except OSError as error:
        raise UsageError("data_root", given, f"cannot be read ({error.strerror}); change its rights") from error
    return folder
