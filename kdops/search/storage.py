"""Where Optuna keeps the trials of a search: a journal or a database, opened without harm to what is there."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy.engine import make_url

from kdops.config.methods import LOGITS
from kdops.config.samplers_and_pruners import OBJECTIVES
from kdops.config.search_space import METHOD
from kdops.data.cache import user_cache_folder
from kdops.errors import UsageError
from kdops.sweeps import schema
from kdops.utils.quiet import silenced, without_warning
from kdops.utils.secrets import redact_password

NOTING_SECONDS = 5.0


def open_search(storage: str, name: str, objectives: tuple[str, ...], identity: dict[str, object]) -> optuna.Study:
    """Make the study of a search in a storage, or take the one of that name if it is this search.

    Args:
        storage: the path of a journal, or the URL of a database.
        name: of the study.
        objectives: a key of :data:`kdops.config.samplers_and_pruners.OBJECTIVES`.
        identity: what identifies this search, plain values by name.

    Raises:
        UsageError: the storage cannot be opened, or the study is another one, and how it differs.
    """
    opened = _storage(storage)
    assert opened is not None, "what is not there is made"
    try:
        study = optuna.create_study(storage=opened, study_name=name, directions=directions_of(objectives))
        study.set_user_attr(schema.SEARCH, identity)
        study.set_metric_names(list(objectives))
        return study
    except DuplicatedStudyError:
        study = optuna.load_study(storage=opened, study_name=name)
    # Who made it a moment ago may not have noted yet what it is.
    deadline = time.monotonic() + NOTING_SECONDS
    while schema.SEARCH not in study.user_attrs and time.monotonic() < deadline and not study.trials:
        time.sleep(0.05)
    if schema.SEARCH not in study.user_attrs and not study.trials:
        # Who made it was killed before it could note anything.
        study.set_user_attr(schema.SEARCH, identity)
    _same(name, study.user_attrs.get(schema.SEARCH), identity)
    return study


def find_search(storage: str, name: str, identity: Mapping[str, object]) -> optuna.Study | None:
    """Return the study of a search that was begun, None where there is none; nothing is written.

    Raises:
        UsageError: the storage cannot be opened, or another search has the name.
    """
    opened = _storage(storage, make=False)
    if opened is None or name not in optuna.get_all_study_names(opened):
        return None
    study = optuna.load_study(storage=opened, study_name=name)
    _same(name, study.user_attrs.get(schema.SEARCH), identity)
    return study


def directions_of(objectives: tuple[str, ...]) -> list[optuna.study.StudyDirection]:
    """Return which way each objective is better."""
    return [optuna.study.StudyDirection[direction.upper()] for direction in OBJECTIVES[objectives]]


def _same(name: str, noted: Mapping[str, object] | None, identity: Mapping[str, object]) -> None:
    """Refuse to take another search for this one.

    Raises:
        UsageError: how they differ.
    """
    if noted is None:
        raise UsageError("study_name", name, "is taken by a study that is no search of kdops; choose another name")
    noted = {METHOD: LOGITS.name, **noted}  # searches of earlier versions learned logits, and note no method
    for what, value in identity.items():
        if noted.get(what) != value:
            taken = f"is taken by a search with another {what} ({noted.get(what)}, not {value}); choose another name"
            raise UsageError("study_name", name, taken)


def _storage(storage: str, make: bool = True) -> BaseStorage | None:
    """Open a journal or a database; None for a journal that is not there and is not to be made.

    Raises:
        UsageError: it cannot be opened.
    """
    try:
        return _database(storage, make) if "://" in storage else _journal(Path(storage), make)
    except UsageError:
        raise
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        reason = redact_password(first, storage)
        raise UsageError("storage", redact_password(storage), f"cannot be opened: {reason}") from None


def _database(url: str, make: bool) -> RDBStorage | None:
    file = make_url(url).database if url.startswith("sqlite") else None
    if not make and file and not Path(file).exists():
        _check_writable(Path(file))
        return None
    engine = sqlalchemy.create_engine(url)
    try:
        tables = set(sqlalchemy.inspect(engine).get_table_names())
    finally:
        engine.dispose()
    # Optuna would put its tables beside those of MLflow and then fail over the version that MLflow noted.
    if "alembic_version" in tables and "studies" not in tables:
        raise ValueError("the database is another program's, such as MLflow's; give the search one of its own")
    if not make and "studies" not in tables:
        return None
    # Processes that make the tables side by side get into each other's way.
    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    lock = Path(f"{file}.lock") if file else user_cache_folder() / f"search-{name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        # A server, or what is between, closes connections that are idle for long, and a training may be long.
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})


def _journal(path: Path, make: bool) -> JournalStorage | None:
    if not str(path).strip() or path.is_dir():
        raise ValueError("it must be the path of a file or the URL of a database")
    path = path.absolute()
    _check_writable(path)
    # A lock by creation works on every system; the other one, a link, is not followed from a relative path.
    lock = JournalFileOpenLock(str(path))
    if path.exists() and path.stat().st_size:
        _check_journal(path, lock, make)
    elif not make:
        return None
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def _check_writable(path: Path) -> None:
    """Refuse a file that cannot be written, or made where it is missing."""
    if not path.absolute().parent.is_dir():
        raise ValueError(f"there is no folder {path.absolute().parent}")
    # A lock is made beside it.
    for place in (path.absolute().parent, path):
        if place.exists() and not os.access(place, os.W_OK):
            raise ValueError(f"{place} cannot be written")


def _check_journal(path: Path, lock: JournalFileOpenLock, mend: bool) -> None:
    """Refuse a file that is no journal, and cut off a last line that was written by half if it is to be mended.

    Optuna would add to either: to a stranger's file, or behind half a line, which no process could read any more.
    """
    with path.open("rb") as file:
        first = file.readline(100_000)
        try:
            entry = json.loads(first)
        except ValueError:
            entry = None
        known = isinstance(entry, dict) and "op_code" in entry and first.endswith(b"\n")
        if not known:
            raise ValueError("the file is no journal of Optuna")
        file.seek(-1, os.SEEK_END)
        if file.read() == b"\n" or not mend:
            return
    lock.acquire()
    try:
        with path.open("r+b") as file:
            whole = file.read().rpartition(b"\n")[0]
            file.truncate(len(whole) + 1)
    finally:
        lock.release()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna's log, and its warnings, which are about Optuna's own versions, from the user."""
    with without_warning(), silenced("optuna"):
        yield
