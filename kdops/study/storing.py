"""Stores models beside the training: threads take what is trained from a bounded queue, so training need not wait."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from kdops.errors import plain_line
from kdops.store.database import store_address
from kdops.store.faults import explained, first_line

MOST = 64
"""Models that wait to be stored; with more of them the training waits."""

SECONDS = 1.0
"""A signal may reach another thread, and a wait without an end would not see it."""

LINE = 1000
"""The most characters that a training's error says of what storing failed with."""

Commit = Callable[[AbstractContextManager[object]], None]
"""Stores one model; in its turn, a context, it takes the model's version, so that versions follow the training."""


class Commits:
    """The models of a sweep on their way into the store.

    A context: left without an error, or with one of the training, it waits until all that it was given is stored;
    interrupted, or where storing fails, only until what is being stored just then is whole, and drops the rest. Where
    both fail, a note on the training's error says what storing failed with.

    Args:
        threads: how many store at the same time; one is the quickest for a local database.
    """

    def __init__(self, threads: int):
        self._threads = threads
        self._changed = threading.Condition()
        self._waiting: deque[tuple[int, Commit, _Batch]] = deque()
        self._given = self._working = self._started = 0
        self._turn = 0
        self._failure: BaseException | None = None
        self._is_closed = False

    def put(self, commits: Sequence[Commit], stored: Callable[[], None]) -> None:
        """Store models in the background, and call ``stored`` once all of them are; wait where too many wait already.

        Raises:
            BaseException: what an earlier one failed with.
        """
        batch = _Batch(len(commits), stored)
        if not commits:
            stored()
        for commit in commits:
            with self._changed:
                self._wait_for(lambda: len(self._waiting) < MOST or self._failure is not None)
                self.check()
                self._waiting.append((self._given, commit, batch))
                self._given += 1
                self._changed.notify_all()
                if self._started < min(self._threads, self._working + len(self._waiting)):
                    self._started += 1
                    # An interrupted process need not wait for a store that does not answer: a third Ctrl-C ends it.
                    threading.Thread(target=self._work, name="commits", daemon=True).start()

    def check(self) -> None:
        """Raise what storing failed with, if it did."""
        if self._failure is not None:
            raise self._failure

    def finish(self, report: Callable[[int], None]) -> None:
        """Wait until all is stored.

        Args:
            report: called with how many are left.

        Raises:
            BaseException: what storing failed with.
        """
        with self._changed:
            while (left := len(self._waiting) + self._working) and self._failure is None:
                report(left)
                self._changed.wait(SECONDS)
            self.check()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with self._changed:
            if error is not None and not isinstance(error, Exception):
                self._waiting.clear()
            self._is_closed = True
            self._changed.notify_all()
            self._wait_for(lambda: not self._waiting and not self._working)
        if error is None:
            self.check()
        elif self._failure is not None and self._failure is not error:
            told = explained(self._failure, store_address()) or self._failure
            error.add_note(f"and storing failed: {plain_line(first_line(told, LINE))}")

    def _wait_for(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            self._changed.wait(SECONDS)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if not self._waiting:
                    return
                number, commit, batch = self._waiting.popleft()
                self._working += 1
                self._changed.notify_all()
            try:
                commit(_Turn(self, number))
                batch.count_down(self._changed)
            except BaseException as error:  # it is raised in the study's thread
                with self._changed:
                    self._failure = self._failure or error
                    self._waiting.clear()
            with self._changed:
                self._working -= 1
                self._changed.notify_all()


class _Batch:
    """Models after which something is to be done."""

    def __init__(self, left: int, stored: Callable[[], None]):
        self.left, self.stored = left, stored

    def count_down(self, lock: threading.Condition) -> None:
        with lock:
            self.left -= 1
            is_last = not self.left
        if is_last:
            self.stored()


class _Turn:
    """What follows the sequence in which the models were given, however many threads there are."""

    def __init__(self, commits: Commits, number: int):
        self.commits, self.number = commits, number

    def __enter__(self) -> None:
        own = self.commits
        with own._changed:
            own._changed.wait_for(lambda: own._turn == self.number or own._failure is not None)
            if own._turn != self.number:
                own.check()

    def __exit__(self, *_: object) -> None:
        with self.commits._changed:
            self.commits._turn += 1
            self.commits._changed.notify_all()
