"""A client of an MLflow store, and calls of it that take more than one request."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from kdops.errors import KdopsError, UsageError
from kdops.store.faults import first_line
from kdops.utils.garbage_collection import gc_paused
from kdops.utils.secrets import redact_password

PAGE = 1000
"""Results that are asked for at a time, and ids in one filter."""

VERSIONS_PAGE = 250
"""Registered versions that are asked for at a time: MLflow makes an object of each of their tags."""

BY_NAME = ("name ASC", "version_number ASC")
"""The order of a database's own index of versions; in MLflow's, by the last change, each page sorts them all."""

TRIES = 20
SECONDS = 0.05

CONFLICTS = ("IntegrityError", "UniqueViolation", "Model Version creation error")
"""Error texts (through MLflow) of a unique-key violation."""

Answer = TypeVar("Answer")
Found = TypeVar("Found", covariant=True)


class Page(Protocol[Found]):
    """One page of a search: MLflow's ``PagedList``."""

    @property
    def token(self) -> str | None:
        """The token of the next page; nothing after the last one."""

    def __iter__(self) -> Iterator[Found]: ...


def client_of(tracking_uri: str, registry_uri: str | None = None) -> MlflowClient:
    """Return a client of a store. Raises KdopsError if the driver of its database is not installed."""
    try:
        return MlflowClient(tracking_uri=tracking_uri, registry_uri=registry_uri)
    except ImportError as error:
        shown = redact_password(tracking_uri)
        raise KdopsError(f"the tracking store {shown} cannot be used: {first_line(error)}") from error


def is_quotable(text: str) -> bool:
    """Return whether a filter of MLflow, which knows no escapes, can ask for a text."""
    return text.isprintable() and not set(text) & set("'\"`\\")


def quoted(text: str, parameter: str = "model") -> str:
    """Write text into a filter of MLflow.

    Args:
        text: what is looked for.
        parameter: the parameter that an error names.

    Raises:
        UsageError: it could end the quotes, or is more than one line.
    """
    if not is_quotable(text):
        raise UsageError(parameter, text, "must have no quotes, backslashes or line breaks")
    return f"'{text}'"


def paged(
    search: Callable[..., Page[Found]], *arguments: Any, max_results: int = PAGE, **named: Any
) -> Iterator[Found]:
    """Yield every result of a search of MLflow's client with its arguments, ``max_results`` a page."""
    token = None
    while True:
        # A page of a thousand runs is a quarter of a million objects that stay: more than half of its time was garbage
        # collection.
        with gc_paused():
            page = search(*arguments, page_token=token, max_results=max_results, **named)
        yield from page
        token = page.token
        # Else two pages would be in memory while the next one is read.
        del page
        if not token:
            return


def paged_versions(client: MlflowClient, where: str | None) -> Iterator[ModelVersion]:
    """Yield every registered version that a filter leaves, by name and number, as quickly as MLflow lists thousands."""
    return paged(client.search_model_versions, where, max_results=VERSIONS_PAGE, order_by=list(BY_NAME))


def experiment_ids(client: MlflowClient) -> list[str]:
    """Return the ids of every experiment of a store."""
    return [found.experiment_id for found in paged(client.search_experiments)]


def among(name: str, identities: Sequence[str], most: int | None = None) -> Iterator[str]:
    """Yield filters of what has one of some ids under a name, ``PAGE`` ids at most in each if not otherwise said."""
    size = most or PAGE
    for start in range(0, len(identities), size):
        yield f"{name} IN ({', '.join(map(quoted, identities[start : start + size]))})"


def retry_on_conflict(call: Callable[..., Answer], *arguments: Any, **named: Any) -> Answer:
    """Call a method of MLflow's client, again where another process made the same row at the same moment.

    MLflow looks whether a data set, a version of this number, an alias or a tag is there, and then makes it; of two
    processes that do so at the same time one fails, with nothing written. The second time it finds what the other one
    made.

    Args:
        call: the method; where it fails it has written nothing.

    Raises:
        MlflowException: it failed for another reason, or again and again.
    """
    for left in reversed(range(TRIES)):
        try:
            return call(*arguments, **named)
        except MlflowException as error:
            if not left or not any(conflict in str(error) for conflict in CONFLICTS):
                raise
        # Not all at the same time again.
        time.sleep(random.uniform(0, SECONDS))
    raise AssertionError("the last try returns or raises")
