"""The engine ``processes``: workers on this machine, one process each, with one device each.

A worker gets orders as lines of JSON on its standard input, opens arrays as files, and answers with lines of JSON, a
result's bytes behind its line. Nothing is pickled, and the caller's main module is not imported. A worker that dies
costs its order alone; one whose study is gone ends at once.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kdops.training.array_files import ArrayFiles, Files, OpenedFiles
from kdops.training.engine import HELD, Report, perform
from kdops.training.order import Done, Order
from kdops.training.worker import Attempts, fields_of, restored, worker_environment
from kdops.utils.gpus import visible_gpus, worker_count

__all__ = ["ProcessesEngine", "serve"]

ANSWERS = "import os; answers = os.dup(1); os.dup2(2, 1)"
"""What libraries print must not stand between the answers, also while they are imported."""

COMMAND = (sys.executable, "-P", "-c", f"{ANSWERS}; from kdops.training.processes import serve; serve(answers)")

REPORT_SECONDS = 0.5
"""A worker reports its progress at most this often."""


class ProcessesEngine:
    """Carries out orders in processes of this machine.

    Args:
        workers: how many; 0 for as many as there are GPUs, or one on the CPU.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, workers: int, device: str):
        gpus = visible_gpus() if device == "cuda" else [""]
        self.workers = worker_count(workers, device)
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._workers = [_Worker(gpus[number % len(gpus)], self._events) for number in range(self.workers)]
        self._arrays = ArrayFiles()

    def put(self, digest: str, array: np.ndarray) -> None:
        """Write an array into a file that the workers open."""
        self._arrays.put(digest, array)

    def run(self, orders: Iterable[Order], report: Report) -> Generator[Done, None, None]:
        """Carry out orders, as many at the same time as there are workers, and yield each result as it arrives.

        Raises:
            KdopsError: three workers in a row died of one order.
        """
        attempts = Attempts()
        waiting = _Ahead(iter(orders))
        try:
            while True:
                for worker in self._workers:
                    if worker.order is None and (order := waiting.take()) is not None:
                        worker.begin(order, attempts.begin(order), self._arrays.files)
                if all(worker.order is None for worker in self._workers):
                    return
                waiting.fill()
                event = self._events.get()
                if event.worker.process is not event.process:
                    continue  # it was ended before
                order = event.worker.order
                if order is None:
                    event.worker.end()  # it died with nothing to do
                elif event.is_end:
                    waiting.again(order)
                    attempts.lost(order, event.worker.end())
                elif "told" in event.head:
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

    def close(self) -> None:
        """End the workers and remove the files."""
        for worker in self._workers:
            worker.end()
        self._arrays.close()


class _Ahead:
    """Orders to come; one is made ready while the workers train, since it may take a source's forward pass.

    None is asked for while ``HELD`` models wait for those of an earlier order.
    """

    def __init__(self, orders: Iterator[Order]):
        self._orders, self._ready = orders, list[Order]()
        self._done: dict[str, int] = {}
        """How many models are done of each order from the first on that is not, in the sequence they were asked for."""

    def fill(self) -> None:
        if not self._ready and sum(self._done.values()) < HELD and (order := next(self._orders, None)) is not None:
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


@dataclass(frozen=True)
class _Event:
    """What a worker answered, or that it ended."""

    worker: _Worker
    process: subprocess.Popen[bytes]
    head: Mapping[str, Any] = field(default_factory=dict)
    content: bytes = b""
    is_end: bool = False


class _Worker:
    """One place for a process, which is started with its first order, and again after it died.

    Attributes:
        process: the process, while there is one.
        order: what it carries out.
        attempt: the number of the attempt, from 1.
    """

    def __init__(self, gpu: str, events: queue.SimpleQueue[_Event]):
        self._gpu, self._events = gpu, events
        self.process: subprocess.Popen[bytes] | None = None
        self.order: Order | None = None
        self.attempt = 0
        self._known: set[str] = set()

    def begin(self, order: Order, attempt: int, files: Files) -> None:
        """Send it an order, with the files that it does not know yet."""
        if self.process is None:
            self.process = subprocess.Popen(
                COMMAND,
                env=worker_environment(order.threads, self._gpu),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # Ctrl-C is for the study, which ends its workers.
                process_group=0 if os.name == "posix" else None,
            )
            self._known = set()
            threading.Thread(target=self._listen, args=(self.process,), name="worker", daemon=True).start()
        self.order, self.attempt = order, attempt
        new = {digest: file for digest, file in files.items() if digest not in self._known}
        self._known |= set(new)
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"order": order.to_json(), "files": new}).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return  # it died; whoever listens to it says so

    def end(self) -> str:
        """End the process, and return what is known of how it ended."""
        process, self.process, self.order = self.process, None, None
        if process is None:
            return ""
        code = process.poll()
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            try:
                assert pipe is not None
                pipe.close()
            except OSError:
                continue
        return _reason(process.returncode if code is None else code)

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        """Pass on what a process answers, and its end."""
        assert process.stdout is not None
        try:
            for line in process.stdout:
                head = json.loads(line)
                content = process.stdout.read(size := head.get("bytes", 0))
                if len(content) < size:
                    break  # it died while it wrote
                self._events.put(_Event(self, process, head, content))
        except ValueError:
            process.kill()  # its pipe was closed, or broke off within a line
        process.wait()
        self._events.put(_Event(self, process, is_end=True))


def _reason(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}, see what it wrote above"
    name = signal.Signals(-code).name
    memory = ", as the system does where memory runs out: use fewer workers, or a machine with more memory"
    return f"was killed by {name}{memory if name == 'SIGKILL' else ''}"


def serve(descriptor: int) -> None:
    """Be a worker: carry out the orders of standard input until it ends.

    Args:
        descriptor: of the file that takes the answers.
    """
    answers = os.fdopen(descriptor, "wb")
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin.buffer:
            lines.put(line)
        os._exit(0)  # the study is gone, or done

    def answer(content: bytes = b"", **head: object) -> None:
        answers.write(json.dumps({**head, "bytes": len(content)}).encode() + b"\n" + content)
        answers.flush()

    threading.Thread(target=listen, name="orders", daemon=True).start()
    arrays, told = OpenedFiles(), [0.0]

    def tell(done: int, total: int) -> None:
        if done == total or time.monotonic() - told[0] >= REPORT_SECONDS:
            told[0] = time.monotonic()
            answer(told=[done, total])

    while True:
        given = json.loads(lines.get())
        arrays.files |= {digest: tuple(file) for digest, file in given["files"].items()}
        try:
            done = perform(Order.from_json(given["order"]), arrays, tell)
        except Exception as error:
            kind, fields = fields_of(error)
            answer(kind=kind, fields=fields)
        else:
            answer(done.to_bytes())
