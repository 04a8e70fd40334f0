"""What goes wrong with a store, a disk or the memory, reported in one line: what happened and what to do."""

from __future__ import annotations

import errno
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException
from safetensors import SafetensorError
from sqlalchemy.exc import SQLAlchemyError

from kdops.errors import KdopsError
from kdops.store.tables import other_version
from kdops.utils.quiet import silenced
from kdops.utils.secrets import redact_password, redact_secrets

AGAIN = "then start the same command again: what is finished stays, and it goes on from there"

KINDS: tuple[tuple[str, str, str], ...] = (
    (
        r"no space left|disk is full|file too large|quota exceeded|file write failed|unexpected pos \d+ vs",
        "there is no room left on the disk",
        f"free some (kdops gc shows what failed studies left), {AGAIN}",
    ),
    (
        r"readonly database|read-only file system",
        "it can only be read",
        "make it writable, or name another store with MLFLOW_TRACKING_URI",
    ),
    (
        r"permission.denied|PERMISSION_DENIED|error code 403|403 client error|403 \w*forbidden",
        "permission was refused",
        "ask whoever looks after it for the right to do this, or name yourself with MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD",
    ),
    (
        r"not authenticated|error code 401|401 client error|unauthori[sz]ed",
        "it does not know who you are",
        "name yourself with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    ),
    (
        r"disk i/o error",
        "its disk fails, is full, or may not hold so large a file",
        f"see which of these it is, {AGAIN}",
    ),
    (r"is malformed|not a database", "its file is damaged", "bring a backup back, or name another store"),
    (r"unable to open database file", "its file cannot be opened", "see whether its folder is there and writable"),
    (r"database is locked", "another process holds it", f"wait for that one, {AGAIN}"),
    (
        r"too many 5\d\d error responses",
        "its server answers with errors",
        f"see its log: the disk of its artifacts or of its database may be full or away, {AGAIN}",
    ),
    (
        r"connection broken|incompleteread|ended prematurely",
        "the answers of its server break off",
        f"see whether it, and what is between, is well, {AGAIN}",
    ),
    (
        r"max retries exceeded|connection (refused|aborted|reset)|failed to establish",
        "its server does not answer",
        f"see whether it runs, {AGAIN}",
    ),
)
"""What an error's text has, what that means, and what to do."""

SPACE, READ_ONLY, PERMISSION = (KINDS[number][0] for number in range(3))

NUMBERS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), SPACE),
    errno.EROFS: READ_ONLY,
    **dict.fromkeys((errno.EACCES, errno.EPERM), PERMISSION),
}

OTHER_TABLES = r"out-of-date database schema \(found version (\w+)"

MEMORY = r"can't allocate memory|out of memory|not enough memory|std::bad_alloc"


def explained(error: BaseException, store: str) -> KdopsError | None:
    """Return the line for a fault of the store, the disk or the memory; None for any other error."""
    fault = _fault(error, store)
    if fault is not None:
        for note in getattr(error, "__notes__", ()):
            fault.add_note(note)
    return fault


def _fault(error: BaseException, store: str) -> KdopsError | None:
    text = texts_of(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and re.search(MEMORY, text, re.IGNORECASE)):
        return KdopsError(
            f"there is not enough memory ({first_line(error)}): end other programs, or take a smaller batch_size or "
            f"fewer temperatures or seeds at once, {AGAIN}"
        )
    if _is_of_optuna(error):
        # Its own message guesses at invalid data, whatever the database said.
        reason = first_line(error.__cause__ or error)
        return KdopsError(f"the storage of the search cannot be used ({reason}); see whether it is well, {AGAIN}")
    shown = f"the tracking store {redact_password(store)} cannot be used"
    if isinstance(error, OSError) and not _is_of_server(error):
        kind = NUMBERS.get(error.errno or 0)
        if kind is None:
            return None
        path = error.filename2 or error.filename or "a file"
        if kind == PERMISSION:
            return KdopsError(f"{path} cannot be used: permission was refused; see who may read and write it")
        shown = f"{path} cannot be written"
    elif isinstance(error, SafetensorError | RuntimeError):
        # Where there was no room, a writer of weights reports it in its message alone.
        kind = SPACE if re.search(SPACE, text, re.IGNORECASE) else None
        if kind is None:
            return None
        shown = "a model cannot be written"
    elif isinstance(error, MlflowException | SQLAlchemyError | sqlite3.Error) or _is_of_server(error):
        kind = next((pattern for pattern, *_ in KINDS if re.search(pattern, text, re.IGNORECASE)), None)
    else:
        return None
    if found := re.search(OTHER_TABLES, text):
        return KdopsError(f"{shown}: {other_version(found[1])}")
    for pattern, what, advice in KINDS:
        if pattern == kind:
            return KdopsError(f"{shown}: {what} ({_without_store(error, store)}); {advice}")
    return KdopsError(f"{shown}: {_without_store(error, store)}")


@contextmanager
def explained_faults(store: str) -> Iterator[None]:
    """Return faults of the store, the disk and the memory in one line while something is done.

    Raises:
        KdopsError: there was one.
    """
    try:
        # MLflow logs each error of the database with its traceback before it raises it.
        with silenced("mlflow.store.db.utils"):
            yield
    except KdopsError:
        raise
    except Exception as error:
        if (fault := explained(error, store)) is None:
            raise
        raise fault from error


def first_line(error: BaseException, characters: int = 300) -> str:
    """Return the first line of an error's message; its name where it has none."""
    return redact_secrets((str(error).strip() or type(error).__name__).splitlines()[0])[:characters]


def _without_store(error: BaseException, store: str) -> str:
    return redact_password(first_line(error), store) if "@" in store else first_line(error)


def texts_of(error: BaseException | None) -> str:
    """Return the messages of an error and of those that led to it."""
    texts, depth = [], 0
    while error is not None and depth < 10:
        texts.append(f"{error} {getattr(error, 'error_code', '')}")
        error, depth = error.__cause__ or error.__context__, depth + 1
    return "\n".join(texts)


def _is_of_optuna(error: BaseException) -> bool:
    """Return whether an error is that of the database which keeps the trials of a search."""
    return type(error).__name__ == "StorageInternalError" and type(error).__module__.startswith("optuna.")


def _is_of_server(error: BaseException) -> bool:
    """Return whether an error comes from a request to a server; these are ``OSError`` without a number."""
    return type(error).__module__.partition(".")[0] in ("requests", "urllib3")
