"""Studies as the store has them: read back whole, from their runs and artifacts alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from kdops.config.papers import DEFAULT
from kdops.config.uris import check_study
from kdops.errors import KdopsError, UsageError
from kdops.store.client import experiment_ids, paged
from kdops.sweeps import schema
from kdops.utils.files import temporary_folder
from kdops.utils.quiet import without_bars
from kdops.verdicts.answer import ANSWER_FILE, Answer, read_answer
from kdops.verdicts.claims import finite
from kdops.verdicts.findings import Finding

PARTS = ("teacher", "students", "symmetry", "ensemble", "transitivity")
"""The studies that a whole reproduction of the paper is made of, in the paper's order."""

WHOLE = "paper"
DESCRIBED = ("settings", "data", "split", "versions", "machine")
"""What ``settings.json`` has."""

SHOWN = 5
"""How many studies an error message names."""

Read = TypeVar("Read")


@dataclass(frozen=True, eq=False)
class StoredStudy:
    """A study, read from the store.

    Attributes:
        run_id: its run.
        name: the run's name.
        study: the entry point.
        status: the run's status, ``FINISHED`` for one that is done.
        started: when it started, in UTC.
        tags: the run's tags.
        settings: its settings by name.
        data: the data set: ``name``, ``digest``, ``notes``.
        split: the split: ``digest``, and how many images each part has.
        versions: versions of packages by name.
        machine: Python and system.
        results: one row a model.
        answer: what it answered.
        basis: a paragraph on what the numbers rest on; empty where the run's note has none.
        figures: PNG images by file name.
        has_answer: its answer was stored; studies of before have a verdict and metrics at most.
        parts: the studies it is made of, in the paper's order; empty for a study that stands by itself.
        unread: the parts that have nothing to read, each with its status.
    """

    run_id: str
    name: str
    study: str
    status: str
    started: datetime
    tags: Mapping[str, str]
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    split: Mapping[str, Any]
    versions: Mapping[str, str]
    machine: Mapping[str, str]
    results: pd.DataFrame
    answer: Answer
    basis: str
    figures: Mapping[str, bytes]
    has_answer: bool = True
    parts: tuple[StoredStudy, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The title of the answer; the run's name where it has none."""
        return self.answer.title or self.name

    def whole(self) -> tuple[StoredStudy, ...]:
        """Return its parts, or itself where it has none."""
        return self.parts or (self,)

    def findings(self) -> tuple[Finding, ...]:
        """Return what it found of a paper's statements."""
        return tuple(finding for part in self.whole() for finding in part.answer.findings)


def find_study(client: MlflowClient, text: str) -> str:
    """Find a study by its run id or the beginning of it.

    Args:
        text: at least six characters of a run id.

    Raises:
        UsageError: it is no run id, or no study or several begin with it.
    """
    text = check_study(text)
    studies = list(_search(client, f"tags.`{schema.STUDY}` != '' and attributes.run_id LIKE '{text}%'"))
    found = [run for run in studies if schema.ROLE not in run.data.tags]
    if len(found) == 1:
        return found[0].info.run_id
    if found:
        raise UsageError("study", text, f"is the beginning of {len(found)} studies: {_named(found)}; give more of it")
    if studies:
        parents = sorted({run.data.tags.get(schema.PARENT, "") for run in studies})
        raise UsageError("study", text, f"is the run of a model; its study is {' or '.join(parents)}")
    everything = (run for run in _search(client, f"tags.`{schema.STUDY}` != ''") if schema.ROLE not in run.data.tags)
    latest = list(islice(everything, SHOWN))
    there = f"the latest are {_named(latest)}" if latest else "the store has none; run one first, such as: kdops main"
    raise UsageError("study", text, f"no study has this run id; {there}")


def last_of_papers(client: MlflowClient) -> dict[str, str]:
    """Return the run of the latest finished study of each paper."""
    where = f"tags.`{schema.STUDY}` = '{WHOLE}' and attributes.status = 'FINISHED'"
    found: dict[str, str] = {}
    for run in _search(client, where):
        if schema.ROLE not in run.data.tags:
            found.setdefault(run.data.tags.get(schema.PAPER, DEFAULT), run.info.run_id)
    return found


def read_study(client: MlflowClient, run_id: str) -> StoredStudy:
    """Read a study, and the studies it is made of.

    A study need not have ended as long as its files, or those of a part of it, are there.

    Raises:
        KdopsError: the run is no study, has nothing to read, or holds a file that cannot be read.
    """
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        raise KdopsError(f"the run {run_id} cannot be read: {error.message}") from error
    if schema.STUDY not in run.data.tags or schema.ROLE in run.data.tags:
        raise KdopsError(f"the run {run_id} is no study of kdops")
    parts, unread = _parts(client, run)
    with temporary_folder() as folder:
        files = _files(client, run_id, folder)
        if not parts and not {"results.csv", ANSWER_FILE} & set(files):
            raise KdopsError(_unfinished(run))
        return _study(run, files, parts, unread)


def _study(run: Run, files: Mapping[str, Path], parts: tuple[StoredStudy, ...], unread: tuple[str, ...]) -> StoredStudy:
    described = _read(run, files, "settings.json", lambda path: dict(json.loads(path.read_text("utf-8"))))
    if described is None:
        described = _shared(parts)
    results = _read(run, files, "results.csv", _table)
    if results is None:
        tables = [part.results for part in parts if len(part.results)]
        results = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
        # Two parts may have used the same model.
        results = results.drop_duplicates("model", ignore_index=True) if "model" in results else results
    return StoredStudy(
        run_id=run.info.run_id,
        name=run.info.run_name or run.info.run_id,
        study=run.data.tags[schema.STUDY],
        status=run.info.status,
        started=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
        tags=dict(run.data.tags),
        **{part: dict(described.get(part) or {}) for part in DESCRIBED},
        results=results,
        answer=_answer(run, files),
        basis=_basis(run),
        figures={path.name: path.read_bytes() for name, path in sorted(files.items()) if name.startswith("figures/")},
        has_answer=ANSWER_FILE in files,
        parts=parts,
        unread=unread,
    )


def _answer(run: Run, files: Mapping[str, Path]) -> Answer:
    """Read the answer; a run without one has at most its verdict and its metrics."""
    answer = _read(run, files, ANSWER_FILE, lambda path: read_answer(path.read_text("utf-8")))
    return answer or Answer(word=run.data.tags.get(schema.VERDICT, ""), statistics=finite(run.data.metrics))


def _basis(run: Run) -> str:
    """Return the paragraph of a run's note that follows its table, see :func:`kdops.study.summary.note`."""
    paragraphs = run.data.tags.get(schema.NOTE, "").split("\n\n")
    return next((text.strip() for table, text in pairwise(paragraphs) if table.strip().startswith("|")), "")


def _parts(client: MlflowClient, run: Run) -> tuple[tuple[StoredStudy, ...], tuple[str, ...]]:
    """Return the studies that a study is made of, and the names of those that have nothing yet."""
    own = run.data.tags[schema.STUDY]
    where = f"tags.`{schema.PARENT}` = '{run.info.run_id}' and tags.`{schema.STUDY}` != ''"
    # Models of a study name the study itself; in a whole, the runs of models hang from its parts.
    found = [r for r in _search(client, where) if schema.ROLE not in r.data.tags] if own == WHOLE else []
    parts, unread = [], []
    for child in found:
        try:
            parts.append(read_study(client, child.info.run_id))
        except KdopsError:
            unread.append(f"{child.data.tags[schema.STUDY]} ({child.info.status})")
    there = {part.study for part in parts} | {child.data.tags[schema.STUDY] for child in found}
    unread += [f"{name} (not started)" for name in PARTS if found and name not in there]
    order = {name: number for number, name in enumerate(PARTS)}
    parts.sort(key=lambda part: (order.get(part.study, len(order)), part.started))
    return tuple(parts), tuple(unread)


def _files(client: MlflowClient, run_id: str, folder: Path) -> dict[str, Path]:
    """Fetch the files of a study that are there, by their path among the run's artifacts."""
    there = {found.path for found in client.list_artifacts(run_id)}
    wanted: list[str] = [name for name in ("results.csv", "settings.json", ANSWER_FILE) if name in there]
    if "figures" in there:
        wanted += [found.path for found in client.list_artifacts(run_id, "figures") if found.path.endswith(".png")]
    with without_bars():
        return {name: Path(client.download_artifacts(run_id, name, str(folder))) for name in wanted}


def _read(run: Run, files: Mapping[str, Path], name: str, reader: Callable[[Path], Read]) -> Read | None:
    if name not in files:
        return None
    try:
        return reader(files[name])
    except (ValueError, TypeError) as error:
        raise KdopsError(f"{name} of the run {run.info.run_id} cannot be read: {error}") from error


def _table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()


def _shared(parts: tuple[StoredStudy, ...]) -> dict[str, dict[str, Any]]:
    """Return what all parts have in common, for a whole that describes nothing itself."""
    given = {name: [getattr(part, name) for part in parts] for name in DESCRIBED}
    return {
        name: {key: value for key, value in all_[0].items() if all(other.get(key) == value for other in all_)}
        for name, all_ in given.items()
        if all_
    }


def _search(client: MlflowClient, where: str) -> Iterator[Run]:
    """Return the runs of every experiment, the latest first."""
    return paged(client.search_runs, experiment_ids(client), where, order_by=["attributes.start_time DESC"])


def _named(runs: list[Run]) -> str:
    return ", ".join(f"{run.info.run_id[:8]} ({run.info.run_name}, {run.info.status})" for run in runs[:SHOWN])


def _unfinished(run: Run) -> str:
    study, status = run.data.tags[schema.STUDY], run.info.status
    name = f"the study {run.info.run_id[:8]} ({run.info.run_name}) is {status} and has no results"
    if status == "FINISHED":
        return f"{name}: its artifacts are not at {run.info.artifact_uri}"
    reason = run.data.tags.get(schema.ERROR)
    because = f" ({reason})" if reason else ""
    again = f"kdops {study} with the same settings goes on from the models that are there"
    return f"{name}{because}; {'wait for its end; if it was cut off, ' if status == 'RUNNING' else ''}{again}"
