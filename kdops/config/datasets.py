"""Where a study's data come from and how they are read, as checked text; nothing of it is opened here."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace

from kdops.config.parsing import boolean
from kdops.config.recipes import IMAGES, TABLE, Recipe, recipe
from kdops.errors import UsageError


@dataclass(frozen=True)
class DatasetKind:
    """A data set that kdops knows, or a kind of data that a caller brings.

    Attributes:
        loader: ``module:function`` of what loads it, called as ``function(spec, root, progress)`` with the
            :class:`DatasetSpec`, the data folder, and what is called with (images decoded, images in all); it returns
            the arrays (:class:`kdops.data.arrays.Arrays`) and a sentence about them.
        recipes: how each role with an architecture of its own is trained on it.
        text: how a caller writes it, with the place of the data; empty for a data set that kdops knows.
        options: the parameters about reading that it has.
    """

    loader: str
    recipes: Mapping[str, Recipe]
    text: str = ""
    options: tuple[str, ...] = ()

    @property
    def is_path(self) -> bool:
        """Whether its place is a folder or a file."""
        return self.text.endswith((":FOLDER", ":FILE"))


COLUMNS = ("label", "group", "split", "ignore", "categorical", "numeric")
"""The parameters that name columns of a table."""

DATASETS: Mapping[str, DatasetKind] = {
    "digits": DatasetKind(
        "kdops.data.digits:load",
        {
            "teacher": recipe("cnn(filters=32,layers=3,dropout=0.1/0.1/0.1)", 30, 64, 4e-3),
            "student": recipe("mlp(hidden=8,depth=1)", 40, 64, 1e-2),
            "middle": recipe("mlp(hidden=16,depth=2)", 40, 64, 1e-2),
        },
    ),
    "gtsrb": DatasetKind(
        "kdops.data.gtsrb:load",
        {
            "teacher": recipe("cnn(filters=128,layers=3,dropout=0.1/0.2/0.3)", 6, 128, 2e-3),
            "student": recipe("mlp(hidden=50,depth=1)", 10, 256, 2e-3),
            "middle": recipe("mlp(hidden=50,depth=2)", 10, 256, 2e-3),
        },
    ),
    "imagefolder": DatasetKind(
        "kdops.data.image_folder:load",
        IMAGES,
        "imagefolder:FOLDER",
        ("name", "image_size", "channels", "skip_bad", "upright"),
    ),
    "csv": DatasetKind("kdops.data.tabular.dataset:load", TABLE, "csv:FILE", ("name", *COLUMNS)),
    "torchvision": DatasetKind(
        "kdops.data.torchvision:load", IMAGES, "torchvision:NAME", ("name", "image_size", "channels")
    ),
    "function": DatasetKind("kdops.data.python_function:load", IMAGES, "module:function", ("name",)),
}
"""Every data set: a new one is one file in ``kdops/data/`` with its loader, and one entry here."""

READING = ("name", "image_size", "channels", "skip_bad", "upright", *COLUMNS)
"""The parameters about reading; each kind of data accepts its ``options``, and the others are refused."""

LARGEST_SIDE = 4096
NAME_CHARACTERS = 40

_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{NAME_CHARACTERS - 1}}}")
_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_SIDES = re.compile(r"([1-9]\d{0,3})(?:x([1-9]\d{0,3}))?")


@dataclass(frozen=True)
class DatasetSpec:
    """Where data come from and how they are read.

    Make it with :func:`parse_dataset`.

    Attributes:
        kind: a key of ``DATASETS``.
        place: the folder, the file, the name or the function; empty for a data set known by itself.
        name: what the data are called in runs and registered models, safe in all of them.
        image_size: (height, width) that every image is resized to; None for the size that all of them have.
        channels: 1 for gray, 3 for color; None for what the images are.
        skip_bad: leave out what is no readable image.
        upright: turn photos as their EXIF orientation says.
        label: the column with the class; empty for ``label``, else the last one.
        group: the column with the group of each row, which stays together; empty for none.
        split: the column with ``train``, ``val`` or ``test``; empty for none.
        ignore: columns that are left out, parted by commas; so are the columns of the two below.
        categorical: columns of categories, though all their values are numbers.
        numeric: columns of numbers.
        unlabeled: ``imagefolder:FOLDER`` with images without labels that distilled students learn from too; empty for
            none.
    """

    kind: str
    place: str = ""
    name: str = ""
    image_size: tuple[int, int] | None = None
    channels: int | None = None
    skip_bad: bool = False
    upright: bool = False
    label: str = ""
    group: str = ""
    split: str = ""
    ignore: str = ""
    categorical: str = ""
    numeric: str = ""
    unlabeled: str = ""

    def __str__(self) -> str:
        """Return the text of the parameter ``dataset``."""
        if not DATASETS[self.kind].text:
            return self.kind
        return self.place if self.kind == "function" else f"{self.kind}:{self.place}"

    @property
    def ignored(self) -> frozenset[str]:
        """The columns of ``ignore``."""
        return frozenset(name.strip() for name in self.ignore.split(",") if name.strip())

    def error(self, problem: str) -> UsageError:
        """Return the error that refuses the data."""
        return UsageError("dataset", self, problem)

    def absolute(self) -> DatasetSpec:
        """Return the same with relative folders and files made absolute, for a process in another folder."""
        beside = str(self.beside(None, None).absolute()) if self.unlabeled else ""
        if not DATASETS[self.kind].is_path:
            return replace(self, unlabeled=beside)
        return replace(self, place=os.path.abspath(os.path.expanduser(self.place)), unlabeled=beside)

    def beside(self, image_size: tuple[int, int] | None, channels: int | None) -> DatasetSpec:
        """Return where images without labels come from, brought to a size and to so many channels."""
        kind, place = _place(self.unlabeled)
        return DatasetSpec(kind, place, _named(kind, place), image_size, channels, self.skip_bad, self.upright)

    def as_dict(self) -> dict[str, object]:
        """Return plain JSON values: what the data are, and of the rest what was given; of a known data set nothing.

        Images without labels are none of the data that a model is later asked about.
        """
        if not DATASETS[self.kind].text:
            return {}
        given = {name: value for name in READING if name != "name" and (value := getattr(self, name))}
        if self.image_size:
            given["image_size"] = "x".join(map(str, self.image_size))
        return {"dataset": str(self), **given}


def parse_dataset(text: Mapping[str, str]) -> DatasetSpec:
    """Check the parameters about the data.

    Args:
        text: the parameters ``dataset``, ``unlabeled`` and those of ``READING`` as text; what is missing has its
            default.

    Raises:
        UsageError: names the parameter, its value and what is allowed.
    """
    dataset = text.get("dataset", "")
    kind, place = _place(dataset)
    origin = DatasetSpec(
        kind,
        place,
        image_size=_image_size(text.get("image_size", "")),
        channels=_channels(text.get("channels", "")),
        skip_bad=boolean("skip_bad", text.get("skip_bad", "false")),
        upright=boolean("upright", text.get("upright", "false")),
        **{name: text.get(name, "") for name in COLUMNS},
        unlabeled=_unlabeled(text.get("unlabeled", ""), kind),
    )
    name = text.get("name", "")
    for option in READING:
        if option not in DATASETS[kind].options and (name if option == "name" else getattr(origin, option)):
            written = " or ".join(other.text for other in DATASETS.values() if option in other.options)
            raise UsageError(option, text[option], f"is for dataset={written} only, and dataset is {dataset}")
    return replace(origin, name=_checked(name) if name else _named(kind, place))


def _is_known(name: str) -> bool:
    """Return whether kdops knows a data set by its name alone."""
    return name in DATASETS and not DATASETS[name].text


def _place(dataset: str) -> tuple[str, str]:
    """Return the kind of data and where they are."""
    if _is_known(dataset):
        return dataset, ""
    kind, colon, place = dataset.partition(":")
    if colon and kind in DATASETS and DATASETS[kind].is_path:
        if not place.strip() or not place.isprintable():
            raise UsageError("dataset", dataset, f"must name a {DATASETS[kind].text.partition(':')[2].lower()}")
        return kind, place
    if colon and kind == "torchvision":
        if not re.fullmatch(r"[A-Za-z]\w{0,60}", place, re.ASCII):
            raise UsageError(
                "dataset", dataset, "must name one of torchvision's data sets, such as torchvision:CIFAR10"
            )
        return kind, place
    if _FUNCTION.fullmatch(dataset):
        return "function", dataset
    known = ", ".join(kind.text or name for name, kind in DATASETS.items())
    raise UsageError("dataset", dataset or "(empty)", f"must be one of {known}")


def _unlabeled(text: str, kind: str) -> str:
    """Check where images without labels are."""
    if text and kind == "csv":
        raise UsageError("unlabeled", text, "is for images, and the data are a table; leave it out")
    folder, _, place = text.partition(":")
    if text and not (folder == "imagefolder" and place.strip() and place.isprintable()):
        raise UsageError("unlabeled", text, f"must be {DATASETS['imagefolder'].text}, with images in any folders")
    return text


def _named(kind: str, place: str) -> str:
    """Name data by the last part of where they are: names stand on pages that others read, a whole path need not."""
    if not DATASETS[kind].text:
        return kind
    last = place
    if DATASETS[kind].is_path:
        last = os.path.basename(os.path.abspath(os.path.expanduser(place)))
        last = os.path.splitext(last)[0] if DATASETS[kind].text.endswith(":FILE") else last
    elif kind == "torchvision":
        last = place.lower()
    plain = unicodedata.normalize("NFKD", last).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_.]+", "-", plain).strip("-._")[:NAME_CHARACTERS].rstrip("-._")
    if not name:
        return "table" if kind == "csv" else "images"
    return f"{name}-{kind}" if _is_known(name) else name


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError("name", name, f"must be 1 to {NAME_CHARACTERS} letters, digits, '.', '_' or '-' of ASCII")
    if _is_known(name):
        raise UsageError("name", name, "is the name of a data set that kdops knows; give another")
    return name


def _image_size(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    match = _SIDES.fullmatch(text)
    sides = match and (int(match[1]), int(match[2] or match[1]))
    if not sides or max(sides) > LARGEST_SIDE:
        raise UsageError(
            "image_size", text, f"must be HEIGHTxWIDTH or one number for both, each 1 to {LARGEST_SIDE}, such as 32x48"
        )
    return sides


def _channels(text: str) -> int | None:
    if text not in ("", "1", "3"):
        raise UsageError("channels", text, "must be 1 (gray) or 3 (color)")
    return int(text) if text else None
