"""The arrays of a data set, with the digest of their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

ARRAYS = {"images": np.uint8, "labels": np.int64, "tracks": np.int64, "test": np.bool_}

VALIDATION = "validation"
"""The array that few data sets have; it counts for the digest only where it is there."""


@dataclass(frozen=True, eq=False)
class Arrays:
    """The arrays of a data set, with the digest of their content.

    Attributes:
        images: uint8 [N, C, H, W], possibly a read-only memory map.
        labels: int64 [N], indices into ``classes``.
        tracks: int64 [N], unique over the whole set, -1 where unknown.
        test: bool [N], the official test set or a fixed hold-out.
        classes: the class names.
        digest: SHA-256 over all others, as 64 hexadecimal digits.
        validation: bool [N], the images that come with the data for the choice among models; None without such.
        encoding: how rows of a table became these arrays, as JSON; empty for images. See
            :mod:`kdops.data.tabular.rows`.
        turned: how many photos lie otherwise than they were taken; a remark, which the digest has not.

    Raises:
        ValueError: the arrays do not fit together.
    """

    images: np.ndarray
    labels: np.ndarray
    tracks: np.ndarray
    test: np.ndarray
    classes: tuple[str, ...]
    digest: str
    validation: np.ndarray | None = None
    encoding: str = ""
    turned: int = 0

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

    @classmethod
    def of(
        cls,
        images: np.ndarray,
        labels: np.ndarray,
        tracks: np.ndarray,
        test: np.ndarray,
        classes: Iterable[str],
        validation: np.ndarray | None = None,
        encoding: str = "",
    ) -> Arrays:
        """Put arrays together and compute their digest."""
        arrays: dict[str, Any] = {"images": images, "labels": labels, "tracks": tracks, "test": test}
        if validation is not None:
            arrays[VALIDATION] = validation
        classes = tuple(classes)
        return cls(**arrays, classes=classes, digest=_digest(arrays, classes, encoding), encoding=encoding)


def _digest(arrays: Mapping[str, np.ndarray], classes: tuple[str, ...], encoding: str) -> str:
    """Hash every array with its name, type and shape, the class names and the encoding if there is one."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        dtype = ARRAYS.get(name, np.bool_)
        if array.dtype != dtype:
            raise ValueError(f"{name} must be {np.dtype(dtype)}, not {array.dtype}")
        digest.update(f"{name} {np.dtype(dtype).name} {array.shape}\n".encode())
        # "<" makes the digest the same on a big-endian machine; on the others it copies nothing.
        plain = np.ascontiguousarray(array).astype(np.dtype(dtype).newbyteorder("<"), copy=False)
        digest.update(plain.reshape(-1).view(np.uint8).data)
    digest.update(json.dumps(list(classes)).encode())
    digest.update(encoding.encode())
    return digest.hexdigest()
