"""Shares out orders among workers, whatever a worker is: a process, or an actor of a cluster.

An engine with workers is a :class:`WorkerPool` of its own kind of :class:`Worker`. What they answer, and that they
died, comes as events; a worker that dies costs its order alone, which is begun again.
"""

from __future__ import annotations

import queue
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kdops.training.attempts import Attempts
from kdops.training.engine import Arrays, Report, held_by, perform
from kdops.training.order import Done, Order
from kdops.training.worker_errors import fields_of, restored

REPORT_SECONDS = 0.5
"""A worker reports its progress at most this often."""


@dataclass(frozen=True)
class Event:
    """What a worker answered, or that it ended.

    Attributes:
        worker: where it runs.
        handle: what ran there when it answered.
        head: plain values: ``told``, what is reported, and ``waits``, whether there is no room for the worker; ``kind``
            and ``fields``, an error; empty for a result.
        content: the bytes of a result.
        is_end: it ended.
    """

    worker: Worker
    handle: object
    head: Mapping[str, Any] = field(default_factory=dict)
    content: bytes = b""
    is_end: bool = False


Events = queue.SimpleQueue[Event]


class Worker(ABC):
    """One place for a worker, which is started with its first order, and again after it died.

    Attributes:
        handle: the worker, while there is one.
        order: what it carries out.
        attempt: the number of the attempt, from 1.
        waits: there was no room for it, so its order has not begun.
    """

    handle: Any = None

    def __init__(self, events: Events):
        self.events = events
        self.order: Order | None = None
        self.attempt = 0
        self.waits = False

    @abstractmethod
    def begin(self, order: Order, attempt: int) -> None:
        """Send it an order; start it where it does not run."""

    @abstractmethod
    def end(self) -> str:
        """End it, and return what is known of how it ended."""


class WorkerPool:
    """The part of an engine that shares out orders among workers.

    Args:
        workers: they carry out an order each.
        events: what they answer.
    """

    def __init__(self, workers: Sequence[Worker], events: Events):
        self._workers, self._events, self.workers = workers, events, len(workers)

    def run(self, orders: Iterable[Order], report: Report) -> Generator[Done, None, None]:
        """Carry out orders, as many at the same time as there are workers, and yield each result as it arrives.

        Raises:
            KdopsError: as many workers in a row as :data:`kdops.training.attempts.ATTEMPTS` died of one order.
        """
        attempts = Attempts()
        waiting = _Ahead(iter(orders), held_by(self.workers))
        try:
            while True:
                self._move()
                # Those that run come first: for another there may be no room any more.
                for worker in sorted(self._workers, key=lambda one: one.handle is None):
                    if worker.order is None and (order := waiting.take()) is not None:
                        _begin(worker, order, attempts.begin(order))
                if all(worker.order is None for worker in self._workers):
                    return
                waiting.fill()
                event = self._events.get()
                if event.worker.handle is not event.handle:
                    continue  # it was ended before
                order = event.worker.order
                if order is None:
                    event.worker.end()  # it died with nothing to do
                elif event.is_end:
                    waiting.again(order)
                    attempts.lost(order, event.worker.end())
                elif "told" in event.head:
                    event.worker.waits = event.head.get("waits", False)
                    report(order.digest, *event.head["told"])
                elif "kind" in event.head:
                    event.worker.order = None
                    raise restored(event.head["kind"], event.head["fields"])
                else:
                    event.worker.order = None
                    waiting.done(order)
                    yield replace(Done.from_bytes(event.content), attempt=event.worker.attempt)
        finally:
            for worker in self._workers:
                if worker.order is not None:
                    worker.end()

    def _move(self) -> None:
        """Move the orders of workers that wait for room, maybe for ever, to those that run and have none."""
        free = [worker for worker in self._workers if worker.order is None and worker.handle is not None]
        late = [(worker, worker.order) for worker in self._workers if worker.order is not None and worker.waits]
        for worker, (other, order) in zip(free, late, strict=False):
            attempt = other.attempt
            other.end()
            _begin(worker, order, attempt)

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.end()


def _begin(worker: Worker, order: Order, attempt: int) -> None:
    worker.waits = False
    worker.begin(order, attempt)


class _Ahead:
    """Orders to come; one is made ready while the workers train, since it may take a source's forward pass.

    Args:
        orders: the orders.
        held: none is asked for while so many models wait for those of an earlier order.
    """

    def __init__(self, orders: Iterator[Order], held: int):
        self._orders, self._ready, self._held = orders, list[Order](), held
        self._done: dict[str, int] = {}
        """How many models are done of each order from the first on that is not, in the sequence they were asked for."""

    def fill(self) -> None:
        if (
            not self._ready
            and sum(self._done.values()) < self._held
            and (order := next(self._orders, None)) is not None
        ):
            self._ready.append(order)
            self._done[order.digest] = 0

    def done(self, order: Order) -> None:
        self._done[order.digest] = len(order.members)
        while self._done and self._done[first := next(iter(self._done))]:
            del self._done[first]

    def take(self) -> Order | None:
        self.fill()
        return self._ready.pop(0) if self._ready else None

    def again(self, order: Order) -> None:
        self._ready.insert(0, order)


def carry_out(text: str, arrays: Arrays, answer: Callable[[Mapping[str, Any], bytes], None]) -> None:
    """Carry out an order on a worker, and answer with its progress, and last with its result or its error.

    Args:
        text: the order as JSON.
        arrays: those that it names.
        answer: called with the head and the content of each :class:`Event`.
    """
    told = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal told
        if done == total or time.monotonic() - told >= REPORT_SECONDS:
            told = time.monotonic()
            answer({"told": [done, total]}, b"")

    try:
        content = perform(Order.from_json(text), arrays, tell).to_bytes()
    except Exception as error:
        kind, fields = fields_of(error)
        answer({"kind": kind, "fields": fields}, b"")
    else:
        answer({}, content)
