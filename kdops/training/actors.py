"""What the engines of clusters have in common: what is in an actor, and the thread of the study that listens to it.

An actor gets an order as JSON and answers with bytes, as the workers of ``processes`` do. kdops itself unpickles
nothing; the cluster library does, results among the rest: use clusters that you trust. Clusters repeat nothing: kdops
does, so that all engines do so alike.
"""

from __future__ import annotations

import json
import queue
import threading
import weakref
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from kdops.errors import plain_line
from kdops.training.array_files import Files, OpenedFiles, file_of, sha256_of
from kdops.training.order import Order
from kdops.training.worker_pool import Event, Events, Worker, carry_out

__all__ = ["Actor", "ActorArrays", "ActorWorker"]

WAIT_SECONDS = 15.0
"""So long a cluster may have no room for a worker before the study says that it waits."""


class ActorArrays:
    """The arrays that orders name.

    Attributes:
        files: path and SHA-256 of those that the actors open.
        objects: what is sent of the others.
    """

    def __init__(self) -> None:
        self.files: Files = {}
        self.objects: dict[str, Any] = {}

    def put_file(self, digest: str, array: np.ndarray, is_here: bool = False) -> bool:
        """Note the file of an array that is the content of one.

        Args:
            digest: of the array.
            array: the array.
            is_here: all that open it are on this machine; another may have another file of this name.

        Returns:
            Whether nothing else is left to do, also since the array was known before.
        """
        if digest not in self.files and digest not in self.objects and (path := file_of(array)) is not None:
            self.files[digest] = (path, "" if is_here else sha256_of(array))
        return digest in self.files or digest in self.objects


class ActorWorker(Worker):
    """A worker that is an actor of a cluster.

    Args:
        arrays: those that orders name.
        events: takes what it answers.
    """

    def __init__(self, arrays: ActorArrays, events: Events):
        super().__init__(events)
        self._arrays = arrays
        self._known: set[str] = set()
        self.reason = ""

    @abstractmethod
    def make(self) -> Any:
        """Return a new actor, which may still have to wait for room."""

    @abstractmethod
    def ask(self, actor: Any, method: str, *given: Any) -> Any:
        """Call a method of an actor, and return its answer once it is there."""

    @abstractmethod
    def remove(self, actor: Any) -> None:
        """End an actor, whatever it does."""

    @abstractmethod
    def death_of(self, actor: Any, error: Exception) -> str:
        """Return how an actor ended; empty where an error is not about its end."""

    def begin(self, order: Order, attempt: int) -> None:
        """Send it an order, with the arrays that it does not know yet."""
        if is_new := self.handle is None:
            self.handle, self._known = self.make(), set()
        self.order, self.attempt = order, attempt
        files, objects = self._new(self._arrays.files), self._new(self._arrays.objects)
        self._known |= {*files, *objects}
        given = (self.handle, is_new, order.to_json(), files, objects)
        threading.Thread(target=self._listen, args=given, name="worker", daemon=True).start()

    def _new(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        return {digest: own for digest, own in arrays.items() if digest not in self._known}

    def end(self) -> str:
        """End the actor, and return what is known of how it ended."""
        actor, self.handle, self.order = self.handle, None, None
        if actor is not None:
            self.remove(actor)
        reason, self.reason = self.reason, ""
        return reason

    def _listen(self, actor: Any, is_new: bool, *given: Any) -> None:
        """Pass on what an actor answers until its order is carried out, and its end."""
        note = f"waiting for room in the cluster: a worker has not begun for {WAIT_SECONDS:g} s"
        timer = threading.Timer(
            WAIT_SECONDS, self.events.put, [Event(self, actor, {"told": [0, 0, note], "waits": True})]
        )
        timer.daemon = True
        try:
            if is_new:
                timer.start()
                self.ask(actor, "ready")
                timer.cancel()
            answer = self.ask(actor, "begin", *given)
            while True:
                head, _, content = answer.partition(b"\n")
                self.events.put(Event(self, actor, found := json.loads(head), content))
                if "told" not in found:
                    return
                answer = self.ask(actor, "answer")
        except Exception as error:
            timer.cancel()
            if reason := self.death_of(actor, error):
                self.reason = f"ended: {reason}"
                self.events.put(Event(self, actor, is_end=True))
                return
            # The cluster is gone, or the study has ended.
            fields = [f"the cluster is lost: {plain_line(str(error).strip().splitlines()[0])}"]
            self.events.put(Event(self, actor, {"kind": "KdopsError", "fields": fields}))


class Actor:
    """What is in an actor: it carries out one order at a time, in a thread beside the one that answers.

    Attributes:
        arrays: those that it knows.
    """

    def __init__(self) -> None:
        self.arrays = OpenedFiles()
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def ready(self) -> bool:
        """Return true: it is there."""
        return True

    def is_wanted(self) -> bool:
        """Return whether somebody still waits for what it does."""
        return True

    def take(self, objects: Mapping[str, Any]) -> None:
        """Take what is sent of arrays."""
        self.arrays |= objects

    def begin(self, order: str, files: Files, objects: Mapping[str, Any]) -> bytes:
        """Begin an order with arrays that were not known yet, and return the first answer."""
        self.arrays.files |= files
        self.take(objects)
        here, answers = weakref.ref(self), self._answers

        def answer(head: Mapping[str, Any], content: bytes) -> None:
            actor = here()
            if actor is None or not actor.is_wanted():
                raise SystemExit  # It was removed, or the study is gone: its thread ends with the step that it is in.
            answers.put(json.dumps(head).encode() + b"\n" + content)

        threading.Thread(target=carry_out, args=(order, self.arrays, answer), name="order", daemon=True).start()
        return self.answer()

    def answer(self) -> bytes:
        """Return the next answer once it is there: its head as a line of JSON, and its content."""
        return self._answers.get()
