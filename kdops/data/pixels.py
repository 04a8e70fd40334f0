"""How an opened image becomes what a network sees, in training and when it is used.

A copy of this file travels with each model of images, which is asked with the bytes of image files too; so it needs
nothing of kdops.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image

FORMATS = ("PNG", "JPEG", "PPM", "BMP", "GIF", "TIFF", "WEBP")
"""The formats that are read. Some of Pillow's others start programs of the system."""

MOST_PIXELS = 2**26
"""An image of more pixels is a mistake or an attack; the largest phone cameras make 50 million."""

SIXTEEN_BITS = {"I", "I;16", "I;16L", "I;16B", "I;16N"}


UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings an image upright, by its EXIF orientation."""


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an opened image, 1 to 8: how the camera was held; 1 where that is not said.

    A TIFF says 1: Pillow itself turns it. A PNG, which may have it behind its pixels, is decoded.
    """
    if image.format == "PNG":
        image.load()
    try:
        found = image.getexif().get(0x0112, 1) if "exif" in image.info else 1
    except Exception:
        # Any bytes may stand there, and an image need not be refused for them.
        return 1
    return found if found in UPRIGHT else 1


def pixels_of(image: Image.Image, shape: tuple[int, int, int], upright: bool = False) -> np.ndarray:
    """Decode one image as a network sees it, in training and when it is used: gray or RGB, resized (bilinear).

    Args:
        image: opened, not of floating point.
        shape: (channels, height, width); one channel or three.
        upright: turn it as its EXIF orientation says.

    Returns:
        uint8 ``[C, H, W]``.
    """
    channels, height, width = shape
    if image.size != (width, height):
        # A JPEG can be decoded at a fraction of its size, many times faster; twice what is wanted loses nothing.
        image.draft(None, (2 * max(width, height),) * 2 if upright else (2 * width, 2 * height))
    if upright and (turn := UPRIGHT.get(orientation(image))) is not None:
        image = image.transpose(turn)
    if image.mode in SIXTEEN_BITS:
        # Pillow's own conversion would cut off at 255.
        wide = np.asarray(image).astype(np.int64)
        scale = 257 if image.mode != "I" or wide.max() > 255 else 1
        image = Image.fromarray(((wide + scale // 2) // scale).clip(0, 255).astype(np.uint8))
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(height, width, channels).transpose(2, 0, 1)


def pixels_of_bytes(content: bytes, shape: tuple[int, int, int], upright: bool = False) -> np.ndarray:
    """Decode the bytes of an image file.

    Args:
        content: the file; of several images in it the first counts.
        shape: (channels, height, width); one channel or three.
        upright: as of :func:`pixels_of`.

    Returns:
        uint8 ``[C, H, W]``.

    Raises:
        ValueError: it is no image, not whole, or too large to be decoded; the message says which.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            if opened.width * opened.height > MOST_PIXELS or opened.mode == "F":
                raise ValueError(f"is an image of {opened.width} x {opened.height} in {opened.mode}, which is not read")
            return np.ascontiguousarray(pixels_of(opened, shape, upright))
    except Image.UnidentifiedImageError:
        raise ValueError(f"is no image of a known kind ({', '.join(FORMATS)})") from None
    except ValueError:
        raise
    except Exception as error:
        # Whatever a decoder raises on bytes that are not what it expects.
        raise ValueError(f"cannot be read as an image: {str(error) or type(error).__name__}") from None
