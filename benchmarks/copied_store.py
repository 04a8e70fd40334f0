"""A large store, made from a small one: its rows are copied in SQLite, its artifact folders as hard links.

Each copy is a whole study with ids, versions and seeds of its own, started ten minutes before the copy that was made
before it. The fingerprints of its models are changed, so that no study finds there what it wants to train.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["copy_studies"]

TABLES = (
    "runs",
    "params",
    "tags",
    "metrics",
    "latest_metrics",
    "inputs",
    "input_tags",
    "logged_models",
    "logged_model_params",
    "logged_model_tags",
    "logged_model_metrics",
    "model_versions",
    "model_version_tags",
)
"""The tables with rows of a study; data sets, experiments and registered models are shared by all copies."""

MILLISECONDS = 600_000
"""Between the starts of two copies."""

PATTERNS = {
    "identity": r"\b(?:m-)?[0-9a-f]{32}\b",
    "version": r"kdops-[\w.-]+/\d+",
    "linked": r'(?<=\\"version\\": )\d+',
    "time": r"\b1\d{12}\b",
    "seed": r'(?<="seed", ")\d+(?=")|(?<="kdops.fleet", ")\d+(?=")|(?<=seed=)\d+|(?<=-seed)\d+',
    "digest": r'(?<="kdops.fingerprint", ")\w+|(?<="kdops.training", ")\w+|(?<="fingerprint", ")\w+',
}
"""What differs between copies, in rows that are written as JSON."""

VARYING = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in PATTERNS.items()))

CACHE = 512
"""MiB of pages that SQLite keeps: what is copied goes to random places of its indexes."""

Row = list[Any]


def copy_studies(folder: Path, models: int) -> int:
    """Copy the studies of a store until it has so many models; return how many it has.

    Args:
        folder: the folder of the store, whose studies trained models of one seed; nobody else may use it meanwhile.
        models: at least so many models.
    """
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        database.execute("PRAGMA synchronous=OFF")
        database.execute(f"PRAGMA cache_size={-1024 * CACHE}")
        tables = [_Table.read(database, name) for name in TABLES]
        named = {table.name: table for table in tables}
        identities = {row[0] for name in ("runs", "logged_models", "inputs") for row in named[name].rows}
        highest = database.execute("SELECT max(version) FROM model_versions").fetchone()[0]
        there = len(named["model_versions"].rows)
        for number in range(1, -(-models // there)):
            new = {one: f"m-{uuid.uuid4().hex}" if one.startswith("m-") else uuid.uuid4().hex for one in identities}
            for table in tables:
                copied = table.copied(number, new, highest)
                marks = ",".join("?" * len(table.columns))
                database.executemany(f"INSERT INTO {table.name} VALUES ({marks})", copied)
            _link(named["logged_models"], new)
        database.commit()
        return database.execute("SELECT count(*) FROM model_versions").fetchone()[0]


@dataclass(frozen=True)
class _Table:
    """The rows of one table.

    Attributes:
        name: the table.
        columns: their names.
        rows: as they are.
        texts: what lies between the parts that vary, of all rows as one text of JSON.
        varying: those parts, each with its name in ``PATTERNS``.
    """

    name: str
    columns: list[str]
    rows: list[Row]
    texts: list[str]
    varying: list[tuple[str, str]]

    @classmethod
    def read(cls, database: sqlite3.Connection, name: str) -> _Table:
        """Read a table; what varies is looked for once, since that takes longer than all else."""
        columns = [told[1] for told in database.execute(f"PRAGMA table_info({name})")]
        rows = database.execute(f"SELECT * FROM {name}").fetchall()
        text, texts, varying, end = json.dumps(rows), [], [], 0
        for found in VARYING.finditer(text):
            texts.append(text[end : found.start()])
            varying.append((found.lastgroup or "", found.group()))
            end = found.end()
        return cls(name, columns, rows, [*texts, text[end:]], varying)

    def copied(self, number: int, new: Mapping[str, str], versions: int) -> list[Row]:
        """Return the rows as the copy of this number has them."""
        changed = [_changed(kind, text, number, new, versions) for kind, text in self.varying]
        between = [part for pair in zip(self.texts, changed, strict=False) for part in pair]
        rows: list[Row] = json.loads("".join([*between, self.texts[-1]]))
        _shift(rows, self.columns, number, versions)
        return rows


def _changed(kind: str, text: str, number: int, new: Mapping[str, str], versions: int) -> str:
    """Return a part that varies as the copy of this number has it."""
    if kind == "identity":
        return new.get(text, text)
    if kind == "digest":
        return hashlib.sha256(f"{text} {number}".encode()).hexdigest()
    step = {"version": versions, "linked": versions, "time": -MILLISECONDS, "seed": 1}[kind]
    before, slash, last = text.rpartition("/")
    return f"{before}{slash}{int(last) + number * step}"


def _shift(rows: list[Row], columns: list[str], number: int, versions: int) -> None:
    """Number the versions of a copy, and make the losses of its models a little higher, so that no two tie."""
    if "version" in columns:
        place = columns.index("version")
        for row in rows:
            row[place] += number * versions
    for row in rows:
        if "val_nll" in row[:2]:
            place = next(columns.index(name) for name in ("value", "metric_value") if name in columns)
            more = float(row[place]) + number * 1e-6
            row[place] = repr(more) if isinstance(row[place], str) else more


def _link(models: _Table, new: Mapping[str, str]) -> None:
    """Make the artifact folders of copied models."""
    for model in models.rows:
        told = dict(zip(models.columns, model, strict=True))
        source = Path(told["artifact_location"])
        target = Path(told["artifact_location"].replace(told["model_id"], new[told["model_id"]]))
        for path in _files(source):
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, copy)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
