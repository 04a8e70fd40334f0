"""Small folders of images for the tests."""

import numpy as np
import pytest
from PIL import Image

from kdops.config.datasets import parse_dataset
from kdops.data import cache
from kdops.data import dataset as data
from kdops.errors import UsageError

CLASSES = ("cat", "dog", "ox")


def picture(label, number, size=(12, 12), mode="RGB"):
    """Make a picture whose brightness tells its class, and whose first row tells its number."""
    random = np.random.default_rng((label, number))
    pixels = random.integers(0, 40, (size[1], size[0], 3), dtype=np.uint8) + np.uint8(70 * label)
    pixels[0, 0] = number
    return Image.fromarray(pixels).convert(mode)


def fill(folder, count=10, classes=CLASSES, **how):
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            picture(label, number, **how).save(folder / name / f"{number:03}.png")
    return folder


def load(folder, progress=None, **options):
    return data.load(parse_dataset({"dataset": f"imagefolder:{folder}", **options}), progress=progress)


def refused(folder, **options):
    """Return the text of the one-line refusal; nothing half made is left behind."""
    with pytest.raises(UsageError) as caught:
        load(folder, **options)
    assert caught.value.parameter == "dataset"
    assert "\n" not in str(caught.value)
    left = cache.user_cache_folder() / "decoded"
    assert not left.exists() or [path.name for path in left.iterdir()] in ([], [".lock"])
    return str(caught.value)
