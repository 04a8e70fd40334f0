"""Data sets by name: uint8 images with labels, tracks, a test set and a digest.

A new data set is a file here with its loader, and one entry in :mod:`kdops.config.dataset`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdops.config.dataset import DATASETS, DatasetSpec, parse_dataset
from kdops.data.cache import Decoded, user_cache_folder
from kdops.errors import UsageError
from kdops.utils.imports import load_place
from kdops.utils.progress import Progress

__all__ = ["Dataset", "load"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set.

    Attributes:
        name: what it is called in runs and registered models.
        images: uint8 [N, C, H, W], possibly a read-only memory map.
        labels: int64 [N], indices into ``classes``.
        tracks: int64 [N], unique over the whole set, -1 where unknown.
        test: bool [N], the official test set or a fixed hold-out.
        classes: the class names.
        digest: SHA-256 over images, labels, tracks, test and class names, as 64 hexadecimal digits.
        notes: one sentence that says which set this is.
        validation: bool [N], images that come with the data for the choice among models; None where the split
            chooses them.
        encoding: how rows of a table became these arrays, as JSON; empty for images. See
            :mod:`kdops.data.tabular.rows`.
        asked: the text of the parameter ``dataset``, where that is not its name.

    Raises:
        ValueError: the arrays do not fit together.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    tracks: np.ndarray
    test: np.ndarray
    classes: tuple[str, ...]
    digest: str
    notes: str
    validation: np.ndarray | None = None
    encoding: str = ""
    asked: str = ""

    def __post_init__(self):
        """Refuse arrays that do not fit together."""
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            found = f"{self.images.dtype} {self.images.shape}"
            raise ValueError(f"images must be uint8 [N, C, H, W], not {found}")
        for name in ("labels", "tracks", "test", *(() if self.validation is None else ("validation",))):
            if getattr(self, name).shape != (len(self.images),):
                raise ValueError(f"{name} must have one value for each of the {len(self.images)} images")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ValueError(f"labels must lie in 0 to {len(self.classes) - 1}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return tuple(self.images.shape[1:])

    @property
    def given(self) -> str:
        """How a caller asks for it: the text of the parameter ``dataset``."""
        return self.asked or self.name

    @property
    def metadata(self) -> dict[str, object]:
        """What every model of these data says of them."""
        return {"class_names": list(self.classes), **({"table": self.encoding} if self.encoding else {})}

    @property
    def unit(self) -> str:
        """What it has many of."""
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
    root = _data_folder(data_root)
    loader = load_place(DATASETS[origin.kind].loader)
    decoded, notes = loader(origin, root, progress)
    arrays = {field: getattr(decoded, field) for field in Decoded.__dataclass_fields__}
    return Dataset(name=origin.name, notes=notes, asked=str(origin), **arrays)


def _data_folder(data_root: str) -> Path:
    """Find the folder; only our own default may be missing, since a download makes it."""
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
