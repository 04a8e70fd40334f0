"""Image files of any kind as what a model takes, read as if they came from a stranger."""

from __future__ import annotations

import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

__all__ = ["Picture", "PictureError", "read_picture"]

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is opened; Pillow knows others, some of which start programs."""

PIXELS = 50_000_000
"""An image of more is not decoded: a file of a few bytes can claim any size."""


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
    """Read an image file: turned as its camera says, in grey or RGB, resized (bilinear) to a shape.

    Args:
        path: the file; of several images in it the first counts.
        shape: (channels, height, width); one channel or three.

    Raises:
        PictureError: it is no image, not whole, or too large to be decoded.
    """
    channels, height, width = shape
    mode = {1: "L", 3: "RGB"}[channels]
    try:
        # A pipe would wait for ever.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise PictureError("is no file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as opened:
                return _converted(opened, mode, (width, height))
    except PictureError:
        raise
    except Image.DecompressionBombError:
        raise PictureError(f"has more than {PIXELS:,} pixels") from None
    except Image.UnidentifiedImageError:
        raise PictureError(f"is no image of a known kind ({', '.join(FORMATS)})") from None
    except FileNotFoundError:
        raise PictureError("there is no such file") from None
    except Exception as error:
        # Whatever a decoder raises on bytes that are not what it expects.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise PictureError(f"cannot be read as an image: {reason or type(error).__name__}") from error


def _converted(opened: Image.Image, mode: str, size: tuple[int, int]) -> Picture:
    was, before = f"{opened.mode} {opened.width} x {opened.height}", (opened.mode, opened.size)
    if opened.width * opened.height > PIXELS:
        raise PictureError(f"has {opened.width:,} x {opened.height:,} pixels, more than {PIXELS:,}")
    opened.load()
    image = _eight_bits(ImageOps.exif_transpose(opened)).convert(mode)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.uint8)
    pixels = pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)
    return Picture(np.ascontiguousarray(pixels), was, before != (mode, size))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Bring grey of more than eight bits to eight, which Pillow would cut off at 255."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image).astype(np.float64)
    # Other files are mostly of sixteen bits too; where no value is above 255, of eight in a wider place.
    scale = 257 if image.mode.startswith("I;16") or values.max(initial=0) > 255 else 1
    return Image.fromarray(np.clip(np.nan_to_num(values / scale), 0, 255).round().astype(np.uint8), "L")
