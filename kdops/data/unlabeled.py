"""Images without labels, ``unlabeled=imagefolder:FOLDER``, which join what distilled students learn from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from kdops.config.datasets import DatasetSpec
from kdops.data.arrays import Arrays
from kdops.data.cache import cached, signature
from kdops.data.folder_files import Listing, is_image
from kdops.data.image_folder import remarks
from kdops.data.images import decode_all, opener
from kdops.data.near_duplicates import digests_of
from kdops.errors import UsageError
from kdops.utils.progress import Progress


@dataclass(frozen=True, eq=False)
class Unlabeled:
    """Images without labels, brought to the size and the channels of the data that they are beside.

    Their order is that of their content: neither their names nor the folders that they lie in decide anything.

    Attributes:
        images: uint8 ``[U, C, H, W]``, possibly a read-only memory map.
        rows: those that are learned from, int64: each image once, and none that the labeled data have too.
        digest: SHA-256 of these, as 64 hexadecimal digits; the same whatever the files are called.
        notes: a sentence about them.
    """

    images: np.ndarray = field(repr=False)
    rows: np.ndarray = field(repr=False)
    digest: str
    notes: str


AS_THEY_LIE = "turn the files, for upright=true is for data that are an image folder too"
"""What to do about turned photos beside data that ``upright`` is not for."""


def load_unlabeled(
    origin: DatasetSpec, labeled: Arrays, progress: Progress | None = None, *, can_turn: bool = True
) -> Unlabeled:
    """Read a folder of images, whatever folders it has, from the cache where it is already decoded.

    Args:
        origin: the folder, the size and channels that images are brought to, and whether bad files are left out.
        labeled: the data that they are beside. An image that is equal to one of these to the byte is left out: it has a
            label, or models are measured on it.
        progress: called with (images decoded, images in all) while decoding.
        can_turn: whether the parameter ``upright`` is for the data that they are beside.

    Raises:
        UsageError: there is no such folder, no new image in it, or a file cannot be read.
    """
    folder = Path(origin.place).expanduser()

    def refuse(reason: str) -> UsageError:
        return UsageError("unlabeled", origin, reason)

    if origin.channels not in (1, 3):
        raise refuse(f"is for images of 1 or 3 channels, and these data have {origin.channels}")
    if not folder.is_dir():
        raise refuse("must be a folder" if folder.exists() else "there is no such folder")
    try:
        files = [one for one in Listing(folder, refuse).below("") if is_image(one.path)]
    except OSError as error:
        raise refuse(f"{error.filename or folder} cannot be read ({error.strerror or error})") from error
    if not files:
        raise refuse("has no image in it")

    def decode() -> Arrays:
        names = [one.path for one in files]
        try:
            images, _, turned = decode_all(origin, names, opener(folder, names), progress)
        except UsageError as error:
            raise refuse(error.allowed) from None
        return replace(_without_labels(images), turned=turned)

    options = f"unlabeled {origin.image_size} {origin.channels} {origin.skip_bad} {origin.upright}"
    decoded = cached(origin.name, signature(folder, files, options), decode)
    found = _chosen(origin, decoded, len(files), labeled, refuse)
    return replace(found, notes=found.notes + (remarks(decoded) if can_turn else remarks(decoded, AS_THEY_LIE)))


def _without_labels(images: np.ndarray) -> Arrays:
    nothing = np.zeros(len(images), dtype=np.int64)
    return Arrays.of(images, nothing, nothing - 1, nothing.astype(bool), ("unlabeled",))


def _digests(arrays: Arrays) -> list[bytes]:
    """Return a digest of each image, from the cache where they are known by the digest of the whole."""

    def compute() -> Arrays:
        found = np.frombuffer(b"".join(digests_of(arrays.images)), dtype=np.uint8)
        return _without_labels(found.reshape(len(arrays.images), 1, 1, -1))

    return [one.tobytes() for one in cached("digests-of-images", arrays.digest, compute).images]


def _chosen(
    origin: DatasetSpec, decoded: Arrays, found: int, labeled: Arrays, refuse: Callable[[str], UsageError]
) -> Unlabeled:
    """Choose the images that are new, each once."""
    images, known = decoded.images, set(_digests(labeled))
    rows = {digest: row for row, digest in enumerate(_digests(decoded)) if digest not in known}
    if not rows:
        raise refuse(f"all {len(images):,} images are in the labeled data too")
    order = sorted(rows)
    left_out = {
        "that are no readable images": found - len(images),
        "that the labeled data or the folder itself have already": len(images) - len(rows),
    }
    words = [f"{count:,} {what}" for what, count in left_out.items() if count]
    without = f"; {' and '.join(words)} are left out" if words else ""
    chosen = np.array([rows[digest] for digest in order], dtype=np.int64)
    digest = hashlib.sha256(f"{images.shape[1:]}\n".encode() + b"".join(order)).hexdigest()
    return Unlabeled(images, chosen, digest, f"{len(rows):,} images of {origin.name}{without}")
