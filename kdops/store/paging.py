"""Walks through MLflow's search results, of which a store gives one page at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

__all__ = ["paged"]

Found = TypeVar("Found")


def paged(search: Callable[..., list[Found]], *what: object, **how: object) -> Iterator[Found]:
    """Yield every result of a search of MLflow's client, page after page.

    Args:
        search: a method that takes ``page_token`` and gives a list with a ``token``.
        *what: its arguments.
        **how: its named arguments.
    """
    token = None
    while True:
        page = search(*what, page_token=token, **how)
        yield from page
        token = page.token
        if not token:
            return
