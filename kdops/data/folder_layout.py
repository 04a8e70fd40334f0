"""What lies in a folder of images: its parts, its classes and the label of each file. No image is opened here.

    FOLDER/<class>/<image>
    FOLDER/train/<class>/<image>, and beside train/ one or both of val/ and test/, in any case and by the usual names
    FOLDER/labels.csv with the columns file and label (and, where there are parts, split) instead of class folders
    FOLDER/val/val_annotations.txt with a file and a label a line, as Tiny ImageNet has it

Folders within a class folder count for the class. Hidden files, and what file managers and archives leave behind,
are left alone.
"""

from __future__ import annotations

import csv
import os
import posixpath
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kdops.config.datasets import DatasetSpec
from kdops.data.cache import SourceFile
from kdops.data.folder_files import Listing, is_image, natural_order, source_file
from kdops.data.own_data import check_classes, part_of
from kdops.data.tabular.csv_lines import bounded_lines

GROUPS = "groups.csv"
LABELS = "labels.csv"
ANNOTATIONS = "val_annotations.txt"
SEEN = 4
"""How many folders an error names."""


@dataclass(frozen=True)
class LabeledFile:
    """A file of a class; its path below the folder is with ``/``, and its part is empty where there are none."""

    file: SourceFile
    part: str
    label: str

    @property
    def path(self) -> str:
        """The path below the folder."""
        return self.file.path


@dataclass(frozen=True)
class Layout:
    """What is in a folder of images.

    Attributes:
        folder: the folder.
        parts: ``train``, ``val`` and ``test``, those that there are; one empty name where there are no parts.
        classes: the class names, numbers within them in their order.
        files: part by part and class by class.
        tables: the files beside the images that decide labels, parts or groups.
        left_out: what is there and is not read, a phrase each.
    """

    folder: Path
    parts: tuple[str, ...]
    classes: tuple[str, ...]
    files: tuple[LabeledFile, ...]
    tables: tuple[SourceFile, ...]
    left_out: tuple[str, ...] = ()


def read_layout(origin: DatasetSpec) -> Layout:
    """List the folder of a data set. Raises UsageError if the folder cannot be read, or is not as it must be."""
    folder = Path(origin.place).expanduser()
    try:
        if not os.path.exists(folder):
            raise origin.error("there is no such folder")
        if not folder.is_dir():
            raise origin.error("must be a folder, and this is a file")
        reader = _Reader(origin, folder)
        parts = {} if (folder / LABELS).is_file() else reader.parts()
        found = reader.by_part(parts) if parts else {"": reader.by_table() or reader.by_class("", "")}
        return reader.layout(found)
    except OSError as error:
        path = error.filename or folder
        raise origin.error(f"{path} cannot be read ({error.strerror or error})") from error


class _Reader:
    """Lists one folder, and remembers which tables decided something and what was left out."""

    def __init__(self, origin: DatasetSpec, folder: Path):
        self.origin, self.folder, self.refuse = origin, folder, origin.error
        self.listing = Listing(folder, self.refuse)
        self.tables: list[SourceFile] = []
        self.left_out: list[str] = []
        self.empty: set[tuple[str, str]] = set()
        self.note_table(GROUPS)

    def note_table(self, path: str) -> bool:
        """Return whether a table is there, and remember it."""
        if there := os.path.lexists(self.folder / path):
            self.tables.append(source_file(path, self.folder / path))
        return there

    def parts(self) -> dict[str, str]:
        """Return the folders that are parts, each with the part that it is; none where the folder is not parted."""
        below = self.listing.folders("")
        # A class may be called train too: then images lie in it, not folders.
        parts = {
            name: part for name in below if (part := part_of(name)) and (part != "train" or self.listing.folders(name))
        }
        if "train" not in parts.values():
            named = [name for name in below if part_of(name)]
            if parts and (len(named) == len(below) or any(map(self.listing.folders, parts))):
                raise self.refuse(f"has {', '.join(f'{name}/' for name in parts)} and no train/")
            self.refuse_equal_folders(below)
            return {}
        if others := [name for name in below if name not in parts]:
            raise self.refuse(f"has {others[0]}/ beside {next(iter(parts))}/; give class folders, or parts, not both")
        if len(set(parts.values())) < len(parts):
            raise self.refuse(f"has one part twice: {', '.join(parts)}")
        return parts

    def refuse_equal_folders(self, names: list[str]) -> None:
        """Refuse folders that all have the same folders in them: parts by another name, learned as classes."""
        below = self.listing.folders(names[0]) if len(names) > 1 else []
        if len(below) > 1 and all(self.listing.folders(name) == below for name in names[1:]):
            raise self.refuse(
                f"{_few(names)} have the same folders in them ({_few(below)}), as parts have and classes have not; "
                "call the parts train/, val/ and test/"
            )

    def by_part(self, parts: dict[str, str]) -> dict[str, list[LabeledFile]]:
        """Return the files of each part."""
        found: dict[str, list[LabeledFile]] = {}
        classes: set[str] = set()
        # The training part first: what the folders of the others are is judged by its classes.
        for name, part in sorted(parts.items(), key=lambda one: one[1] != "train"):
            below = self.listing.folders(name)
            if len(below) == 1 and part_of(below[0]) == part:
                name = posixpath.join(name, below[0])  # some archives have each part's folder twice
                below = self.listing.folders(name)
            annotations = posixpath.join(name, ANNOTATIONS)
            if self.note_table(annotations):
                found[part] = self.annotated(name, part, annotations)
            elif part == "test" and len(below) < 2 and not classes & set(below):
                count = len(self.listing.below(name))
                self.left_out.append(f"the {count:,} files of {name}/, which has no class folders and so no labels,")
            else:
                found[part] = self.by_class(name, part)
            classes |= {one.label for one in found.get(part, ())}
        return found

    def by_class(self, name: str, part: str) -> list[LabeledFile]:
        """Return the files of a part, or of the whole folder, that has one folder a class."""
        files: list[LabeledFile] = []
        for label in self.class_folders(name):
            where = posixpath.join(name, label)
            below = self.listing.below(where)
            if not below and not self.origin.skip_bad:
                raise self.refuse(f"{where}/ has no image in it; remove it, or give skip_bad=true to leave it out")
            if not below:
                self.empty.add((part, label))
                self.left_out.append(f"the empty folder {where}/")
            files += [LabeledFile(file, part, label) for file in below]
        return files

    def class_folders(self, part: str) -> list[str]:
        """Return the class folders of a part; an image beside them belongs to no class."""
        classes = self.listing.folders(part)
        stray = [one.path for one in self.listing.files(part) if is_image(one.path)]
        where = f"{part}/" if part else "the folder"
        if not classes:
            lying = f"; {stray[0]} lies in no class folder" if stray else ""
            labels = f", and no {LABELS} with the columns file and label" if not part else ""
            raise self.refuse(f"{where} has no class folders in it, one for each class{labels}{lying}")
        if stray and not self.origin.skip_bad:
            raise self.refuse(
                f"{stray[0]} lies beside the class folders, in none ({len(stray)} such); move it, or give "
                "skip_bad=true to leave it out"
            )
        return classes

    def by_table(self) -> list[LabeledFile]:
        """Return the files that the table of labels names; none where there is no such table."""
        if not (self.folder / LABELS).is_file():
            return []
        self.note_table(LABELS)
        there = {file.path: file for file in self.listing.below("") if file.path not in (LABELS, GROUPS)}
        files: dict[str, LabeledFile] = {}
        for line, path, label, split in table_rows(self.origin, self.folder / LABELS, "label", "split"):
            part = part_of(split)
            if path not in there:
                raise self.refuse(f"{LABELS} line {line} names {path}, and there is no such image")
            if path in files:
                raise self.refuse(f"{LABELS} line {line} names {path} a second time")
            if split and not part:
                raise self.refuse(f"{LABELS} line {line} has the split {split!r}; allowed are train, val and test")
            files[path] = LabeledFile(there[path], part, label)
        self.check_listed(there, files, LABELS)
        if len({bool(one.part) for one in files.values()}) > 1:
            raise self.refuse(f"{LABELS} has a split for some files only; give one for all, or for none")
        return list(files.values())

    def annotated(self, name: str, part: str, table: str) -> list[LabeledFile]:
        """Return the files of a part whose labels a table of annotations gives: file, label and more, by tabs."""
        if not (self.folder / table).is_file():
            raise self.refuse(f"{table} must be a file")
        there: dict[str, SourceFile] = {}
        for file in self.listing.below(name):
            base = posixpath.basename(file.path)
            if is_image(base) and base in there:
                raise self.refuse(f"{there[base].path} and {file.path} have one name, and {table} names files by it")
            there[base] = file
        with open(self.folder / table, encoding="utf-8") as lines:
            try:
                rows = list(csv.reader(bounded_lines(lines), delimiter="\t"))
            except (csv.Error, ValueError) as error:
                raise self.refuse(f"{table} is no text of a file and a label a line") from error
        files: dict[str, LabeledFile] = {}
        for number, row in enumerate(rows, 1):
            if len(row) < 2 or row[0] not in there:
                raise self.refuse(f"{table} line {number} must name an image of {name}/ and its label, by a tab")
            if row[0] in files:
                raise self.refuse(f"{table} line {number} names {row[0]} a second time")
            files[row[0]] = LabeledFile(there[row[0]], part, row[1].strip())
        self.check_listed(there, files, table)
        return list(files.values())

    def check_listed(self, there: Iterable[str], files: Container[str], table: str) -> None:
        """Refuse images that a table of labels does not name, unless they are to be left out."""
        missing = [name for name in there if is_image(name) and name not in files]
        if missing and not self.origin.skip_bad:
            raise self.refuse(
                f"{missing[0]} has no line in {table} ({len(missing)} such); add it, or give skip_bad=true to "
                "leave it out"
            )
        if missing:
            self.left_out.append(f"{len(missing):,} without a line in {table}")

    def layout(self, found: dict[str, list[LabeledFile]]) -> Layout:
        """Return what was found, its classes checked."""
        if set(found) == {""} and any(one.part for one in found[""]):
            found = {part: [one for one in found[""] if one.part == part] for part in ("train", "val", "test")}
            found = {part: files for part, files in found.items() if files}
            if "train" not in found:
                raise self.refuse(f"{LABELS} has no file whose split is train")
        labels = {part: {file.label for file in files} for part, files in found.items()}
        classes = tuple(sorted(labels.get("train", labels.get("", ())), key=natural_order))
        check_classes(self.origin, classes)
        if not (self.folder / LABELS).is_file():
            self.check_folders(labels, set(classes))
        order = {label: number for number, label in enumerate(classes)}
        for part, there in labels.items():
            if unknown := sorted(there - set(classes)):
                raise self.refuse(f"class {unknown[0]!r} of {part} has no image in train")
        files = [
            file
            for part in ("", "train", "val", "test")
            for file in sorted(found.get(part, ()), key=lambda one: (order[one.label], one.path))
        ]
        parts = tuple(part for part in ("", "train", "val", "test") if part in found)
        return Layout(self.folder, parts, classes, tuple(files), tuple(self.tables), tuple(self.left_out))

    def check_folders(self, labels: dict[str, set[str]], classes: set[str]) -> None:
        """Refuse a part that lacks the folder of a class."""
        for part, there in labels.items():
            for label in sorted(there ^ classes):
                lacking = "train" if label in there else part
                if (lacking, label) not in self.empty:
                    raise self.refuse(f"class {label!r} has no folder in {lacking}/; every part must have all classes")


def table_rows(origin: DatasetSpec, table: Path, value: str, more: str = "") -> Iterator[tuple[int, str, str, str]]:
    """Yield line number, file, a value and, where there is such a column, another value of every row of a table.

    Args:
        value: the column that every row must have a value in.
        more: a column that may be missing.

    Raises:
        UsageError: it is no such table.
    """
    if not table.is_file():
        raise origin.error(f"{table.name} must be a file")
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(bounded_lines(file), skipinitialspace=True)
            for row in reader:
                path, found = (row["file"] or "").strip(), (row[value] or "").strip()
                if not path or not found:
                    raise origin.error(f"{table.name} line {reader.line_num} lacks a file or a {value}")
                yield reader.line_num, posixpath.normpath(path), found, (row.get(more) or "").strip()
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise origin.error(f"{table.name} must be a table with the columns file and {value}") from error


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(f"{name}/" for name in listed[:SEEN]) + (", ..." if len(listed) > SEEN else "")
