"""Image files of any kind as what a model takes, read as if they came from a stranger."""

from __future__ import annotations

import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from kdops.data.images import FORMATS, MOST_PIXELS, pixels_of

__all__ = ["Picture", "PictureError", "read_picture"]


class PictureError(Exception):
    """A file cannot be read as an image, and why."""


@dataclass(frozen=True, eq=False)
class Picture:
    """An image as a model takes it.

    Attributes:
        pixels: uint8 ``[C, H, W]``.
        was: what it was: mode and size, ``RGBA 640 x 480``.
        changed: it was of another mode or size than the model takes.
    """

    pixels: np.ndarray
    was: str
    changed: bool


def read_picture(path: Path, shape: tuple[int, int, int]) -> Picture:
    """Read an image file as data of one's own are read: in gray or RGB, resized to a shape, not turned.

    Args:
        path: the file; of several images in it the first counts.
        shape: (channels, height, width); one channel or three.

    Raises:
        PictureError: it is no image, not whole, or too large to be decoded.
    """
    try:
        # A pipe would wait for ever.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise PictureError("is no file")
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as opened:
            return _converted(opened, shape)
    except PictureError:
        raise
    except Image.DecompressionBombError:
        raise PictureError(f"has more than {MOST_PIXELS:,} pixels") from None
    except Image.UnidentifiedImageError:
        raise PictureError(f"is no image of a known kind ({', '.join(FORMATS)})") from None
    except FileNotFoundError:
        raise PictureError("there is no such file") from None
    except Exception as error:
        # Whatever a decoder raises on bytes that are not what it expects.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise PictureError(f"cannot be read as an image: {reason or type(error).__name__}") from error


def _converted(opened: Image.Image, shape: tuple[int, int, int]) -> Picture:
    channels, height, width = shape
    was, size = f"{opened.mode} {opened.width} x {opened.height}", opened.size
    if size[0] * size[1] > MOST_PIXELS:
        raise PictureError(f"has {size[0]:,} x {size[1]:,} pixels, more than {MOST_PIXELS:,}")
    if opened.mode == "F":
        raise PictureError("has floating-point pixels, whose range is not known")
    changed = (opened.mode, size) != ({1: "L", 3: "RGB"}[channels], (width, height))
    return Picture(np.ascontiguousarray(pixels_of(opened, shape)), was, changed)
