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
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
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

Row = list[Any]


def copy_studies(folder: Path, models: int) -> int:
    """Copy the studies of a store until it has so many models; return how many it has.

    Args:
        folder: the folder of the store, whose studies trained models of one seed; nobody else may use it meanwhile.
        models: at least so many models.
    """
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        database.execute("PRAGMA synchronous=OFF")
        rows = {table: database.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}
        columns = {table: [told[1] for told in database.execute(f"PRAGMA table_info({table})")] for table in TABLES}
        highest = database.execute("SELECT max(version) FROM model_versions").fetchone()[0]
        identities = {row[0] for table in ("runs", "logged_models", "inputs") for row in rows[table]}
        texts = {table: json.dumps(own) for table, own in rows.items()}
        there = len(rows["model_versions"])
        for number in range(1, -(-models // there)):
            new = {one: f"m-{uuid.uuid4().hex}" if one.startswith("m-") else uuid.uuid4().hex for one in identities}
            change = _change(number, new, highest)
            for table, text in texts.items():
                copied = json.loads(VARYING.sub(change, text))
                _shift(copied, columns[table], number, highest)
                marks = ",".join("?" * len(columns[table]))
                database.executemany(f"INSERT INTO {table} VALUES ({marks})", copied)
            _link(rows["logged_models"], columns["logged_models"], new)
        database.commit()
        return database.execute("SELECT count(*) FROM model_versions").fetchone()[0]


def _change(number: int, new: Mapping[str, str], versions: int) -> Callable[[re.Match[str]], str]:
    """Return what writes a varying part of a row as the copy of this number has it."""

    def changed(found: re.Match[str]) -> str:
        text = found.group()
        if found.lastgroup == "identity":
            return new.get(text, text)
        if found.lastgroup == "digest":
            return hashlib.sha256(f"{text} {number}".encode()).hexdigest()
        step = {"version": versions, "linked": versions, "time": -MILLISECONDS, "seed": 1}[found.lastgroup or ""]
        before, slash, last = text.rpartition("/")
        return f"{before}{slash}{int(last) + number * step}"

    return changed


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


def _link(models: list[Row], columns: list[str], new: Mapping[str, str]) -> None:
    """Make the artifact folders of copied models."""
    for model in models:
        told = dict(zip(columns, model, strict=True))
        source = Path(told["artifact_location"])
        target = Path(told["artifact_location"].replace(told["model_id"], new[told["model_id"]]))
        for path in _files(source):
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, copy)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
