"""Lists the files in a folder of images: hidden ones and what programs leave behind are left alone."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from kdops.data.cache import SourceFile
from kdops.data.images import SUFFIXES
from kdops.errors import UsageError

LEFT_ALONE = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "system volume information"}
"""Files and folders that file managers, archives and network storages leave behind."""


class Listing:
    """What lies in a folder, by paths below it with ``/``.

    Args:
        refuse: makes the error of a sentence.
    """

    def __init__(self, root: Path, refuse: Callable[[str], UsageError]):
        self.root, self.refuse = root, refuse

    def folders(self, below: str) -> list[str]:
        """Return the names of the folders in a folder, numbers within them in their order."""
        with os.scandir(self.root / below) as entries:
            return sorted(
                (one.name for one in entries if not is_left_alone(one.name) and one.is_dir()), key=natural_order
            )

    def files(self, below: str) -> list[SourceFile]:
        """Return the files in a folder."""
        with os.scandir(self.root / below) as entries:
            found = [one for one in entries if not is_left_alone(one.name) and not one.is_dir()]
            return sorted(source_file(posixpath.join(below, one.name), Path(one.path)) for one in found)

    def below(self, top: str) -> list[SourceFile]:
        """Return the files in a folder and in all folders in it."""
        files: list[SourceFile] = []
        waiting = [top]
        # Links may lead to a folder above: back to where we are, or to all that is on the machine.
        above = self.root.resolve().parents if not top else (self.root.resolve(), *self.root.resolve().parents)
        seen = {(stat.st_dev, stat.st_ino) for stat in map(os.stat, above)}
        while waiting:
            below = waiting.pop()
            stat = os.stat(self.root / below)
            if (stat.st_dev, stat.st_ino) not in seen:
                self._check_link(top, below)
                seen.add((stat.st_dev, stat.st_ino))
                waiting += [posixpath.join(below, name) for name in self.folders(below)]
                files += self.files(below)
        return sorted(files)

    def _check_link(self, top: str, below: str) -> None:
        """Refuse a link from one class folder into another: its images would be in two classes."""
        real, root = (self.root / below).resolve(), self.root.resolve()
        if below != top and real.is_relative_to(root) and not real.is_relative_to((self.root / top).resolve()):
            raise self.refuse(f"{below} leads to {real.relative_to(root)}/, so its images would be in two classes")


def is_left_alone(name: str) -> bool:
    """Return whether a file or folder is hidden, or one that programs leave behind."""
    return name[0] == "." or name.lower() in LEFT_ALONE


def is_image(name: str) -> bool:
    """Return whether a file is called as an image."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def source_file(path: str, place: Path) -> SourceFile:
    """Return a file as it is found."""
    # A link to nothing has no size; that it cannot be opened is reported where images are read.
    return SourceFile.of(path, os.stat(place, follow_symlinks=os.path.exists(place)))


def natural_order(name: str) -> tuple[list[tuple[int, str]], str]:
    """Return the key that sorts 10 after 9; names without digits are in the order of their characters."""
    pieces = re.split(r"([0-9]+)", name)
    # Numbers by their length first, so that one may have any number of digits.
    return [
        (len(piece.lstrip("0")), piece.lstrip("0")) if number % 2 else (0, piece) for number, piece in enumerate(pieces)
    ], name
