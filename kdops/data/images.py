"""Image files of any size and mode as uint8 arrays, read as if they came from a stranger.

:func:`decode_all` surveys all images of a data set before it decodes one, so that all faults are reported together;
:func:`read_image` reads a single file.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from kdops.config.datasets import DatasetSpec
from kdops.data.cache import allocate
from kdops.data.pixels import FORMATS, MOST_PIXELS, orientation, pixels_of
from kdops.utils.progress import Progress

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
"""How their files are called."""

GRAY = {"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"}
BLOCK = 64
"""Images that a thread takes at a time."""

QUARTER = 5
"""EXIF orientations from this one on are a quarter turn, which exchanges height and width."""

NAMED = 3
"""How many bad files, and how many sizes, an error names."""

Open = Callable[[int], Image.Image]


def opener(folder: Path, names: Sequence[str]) -> Open:
    """Return what opens an image by its number.

    Args:
        folder: where the images are.
        names: the path of each below it.
    """

    def open_one(number: int) -> Image.Image:
        path = folder / names[number]
        # A pipe would be waited for without end.
        if not path.is_file():
            raise ValueError("no file" if path.exists() else "leads nowhere")
        return Image.open(path, formats=FORMATS)

    return open_one


@dataclass(frozen=True)
class _Shape:
    height: int
    width: int
    channels: int


def decode_all(
    origin: DatasetSpec,
    names: Sequence[str],
    open_one: Open,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Decode images into one array, in the cache's place on disk where there is room.

    Gray and color images together become color; transparency is dropped, and of several frames the first counts.
    Where the origin has a size, images of another one are resized to it (bilinear, area-weighted).

    Args:
        origin: the size, the channels, and whether bad images are left out.
        names: what each image is called.
        open_one: opens an image by its number, in any thread; it need not be decoded yet.
        progress: called with (images decoded, images in all).

    Returns:
        uint8 ``[kept, C, H, W]``, the numbers of those that were kept, ascending, and how many lie turned: their EXIF
        orientation says how the camera was held, and the origin does not ask to follow it.

    Raises:
        UsageError: an image cannot be read, none can, or they differ in size and no size is given.
    """
    # Here, since threads that load Pillow's formats at once would each do it.
    Image.init()
    # Pillow's warnings about large or odd files: what counts is reported of each file by its name.
    with warnings.catch_warnings(action="ignore"):
        sizes, color, turned, bad = _survey(origin, len(names), open_one)
        _judge(origin, names, bad)
        kept = np.flatnonzero(sizes[:, 0])
        shape = _shape(origin, sizes[kept], color[kept])
        images = allocate((len(kept), shape.channels, shape.height, shape.width))
        bad |= _decode(images, kept, open_one, shape, origin.upright, progress)
    _judge(origin, names, bad)
    good = np.array([number not in bad for number in kept.tolist()])
    lying = 0 if origin.upright else int(turned[kept[good]].sum())
    return (images, kept, lying) if good.all() else (_compacted(images, good), kept[good], lying)


def _survey(
    origin: DatasetSpec, count: int, open_one: Open
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[int, str]]:
    """Read every image's header; return its (height, width), whether it is in color and turned, and why it is bad."""
    sizes, (color, turned) = np.zeros((count, 2), dtype=np.int32), np.zeros((2, count), dtype=bool)
    bad: dict[int, str] = {}

    def look(number: int) -> None:
        try:
            with open_one(number) as image:
                check_size(image.size)
                if image.mode == "F":
                    raise ValueError("32-bit floating point")
                turn = orientation(image)
                sizes[number] = image.size if origin.upright and turn >= QUARTER else image.size[::-1]
                color[number], turned[number] = image.mode not in GRAY, turn != 1
        except Exception as error:
            # Any bytes may be in a file of the caller's, and Pillow raises many kinds of errors over them.
            bad[number] = _reason(error)

    for _ in _in_threads(look, count):
        pass
    return sizes, color, turned, bad


def _decode(
    images: np.ndarray,
    kept: np.ndarray,
    open_one: Open,
    shape: _Shape,
    upright: bool,
    progress: Progress | None,
) -> dict[int, str]:
    """Decode images into their rows; return why some could not be."""
    bad: dict[int, str] = {}

    def decode(row: int) -> None:
        try:
            with open_one(int(kept[row])) as image:
                # Again: a file may have been changed since it was looked at.
                check_size(image.size)
                images[row] = pixels_of(image, (shape.channels, shape.height, shape.width), upright)
        except Exception as error:
            bad[int(kept[row])] = _reason(error)

    for done in _in_threads(decode, len(kept)):
        if progress is not None:
            progress(done, len(kept))
    return bad


def check_size(size: tuple[int, int]) -> None:
    """Refuse an image without pixels or with more than ``MOST_PIXELS``.

    Raises:
        ValueError: the size is not allowed.
    """
    if not 1 <= size[0] * size[1] <= MOST_PIXELS:
        raise ValueError(f"{size[0]} x {size[1]} pixels, and 1 to {MOST_PIXELS:,} in all are allowed")


def _shape(origin: DatasetSpec, sizes: np.ndarray, color: np.ndarray) -> _Shape:
    """Settle the size and the channels that all images are brought to."""
    channels = origin.channels or (3 if color.any() else 1)
    if origin.image_size:
        return _Shape(*origin.image_size, channels)
    found = Counter((int(height), int(width)) for height, width in sizes).most_common()
    if len(found) > 1:
        sizes_found = ", ".join(f"{height}x{width} ({count})" for (height, width), count in found[:NAMED])
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        height, width = found[0][0]
        raise origin.error(
            f"the images have {len(found)} sizes, {sizes_found}{more} (height x width); give image_size, such as "
            f"image_size={height}x{width}, to resize them all"
        )
    return _Shape(*found[0][0], channels)


def _judge(origin: DatasetSpec, names: Sequence[str], bad: dict[int, str]) -> None:
    """Refuse bad images, unless they are to be left out and others remain."""
    if not bad or (origin.skip_bad and len(bad) < len(names)):
        return
    reasons = "; ".join(f"{names[number]}: {bad[number]}" for number in sorted(bad)[:NAMED])
    more = f"; and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    if origin.skip_bad:
        raise origin.error(f"none of the {len(bad)} files is a readable image ({reasons}{more})")
    leave_out = ", or give skip_bad=true to leave them out" if origin.kind == "imagefolder" else ""
    count = f"{len(bad)} files are" if len(bad) > 1 else "1 file is"
    raise origin.error(f"{count} no readable image ({reasons}{more}); remove or replace them{leave_out}")


def _compacted(images: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Return the good rows alone, block by block."""
    rows = np.flatnonzero(good)
    fewer = allocate((len(rows), *images.shape[1:]))
    for start in range(0, len(rows), BLOCK):
        fewer[start : start + BLOCK] = images[rows[start : start + BLOCK]]
    return fewer


def _in_threads(work: Callable[[int], None], count: int) -> Iterator[int]:
    """Do numbered work with as many threads as there are cores; yield how much is done, block by block."""

    def block(start: int) -> int:
        for number in range(start, min(start + BLOCK, count)):
            work(number)
        return min(start + BLOCK, count)

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    pool = ThreadPoolExecutor(cores)
    try:
        yield from pool.map(block, range(0, count, BLOCK))
    finally:
        # An interrupted study need not wait for images that it will not use.
        pool.shutdown(cancel_futures=True)


def _reason(error: Exception) -> str:
    if type(error).__name__ == "UnidentifiedImageError":
        return f"none of {', '.join(FORMATS)}"
    return (" ".join(str(error).split()) or type(error).__name__)[:120]


class ImageError(Exception):
    """A file cannot be read as an image, and why."""


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """An image as a model takes it.

    Attributes:
        pixels: uint8 ``[C, H, W]``.
        was: what it was: mode and size, ``RGBA 640 x 480``.
        changed: it was of another mode or size than the model takes, or turned.
    """

    pixels: np.ndarray
    was: str
    changed: bool


def read_image(path: Path, shape: tuple[int, int, int], upright: bool = False) -> DecodedImage:
    """Read an image file as data of one's own are read: in gray or RGB, resized to a shape.

    Args:
        path: the file; of several images in it the first counts.
        shape: (channels, height, width); one channel or three.
        upright: turn it as its EXIF orientation says.

    Raises:
        ImageError: it is no image, not whole, or too large to be decoded.
    """
    try:
        # A pipe would wait for ever.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ImageError("is no file")
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as opened:
            return _converted(opened, shape, upright)
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(f"has more than {MOST_PIXELS:,} pixels") from None
    except Image.UnidentifiedImageError:
        raise ImageError(f"is no image of a known kind ({', '.join(FORMATS)})") from None
    except FileNotFoundError:
        raise ImageError("there is no such file") from None
    except Exception as error:
        # Whatever a decoder raises on bytes that are not what it expects.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageError(f"cannot be read as an image: {reason or type(error).__name__}") from error


def _converted(opened: Image.Image, shape: tuple[int, int, int], upright: bool) -> DecodedImage:
    channels, height, width = shape
    was, size = f"{opened.mode} {opened.width} x {opened.height}", opened.size
    if size[0] * size[1] > MOST_PIXELS:
        raise ImageError(f"has {size[0]:,} x {size[1]:,} pixels, more than {MOST_PIXELS:,}")
    if opened.mode == "F":
        raise ImageError("has floating-point pixels, whose range is not known")
    turned = upright and orientation(opened) != 1
    changed = turned or (opened.mode, size) != ({1: "L", 3: "RGB"}[channels], (width, height))
    return DecodedImage(np.ascontiguousarray(pixels_of(opened, shape, upright)), was + ", turned" * turned, changed)
