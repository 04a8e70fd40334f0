"""The engine ``ray``: workers that are actors of a Ray cluster, on this machine or on many.

An actor gets an order as JSON and answers with bytes, as the workers of ``processes`` do; kdops reads no pickle of
theirs. Arrays lie in Ray's object store, once on each machine, but decoded images where their file is. Ray repeats
nothing: kdops does, so that all engines do so alike.
"""

from __future__ import annotations

import json
import math
import os
import queue
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayActorError, RayError

from kdops.errors import KdopsError, plain_line
from kdops.training.array_files import OpenedFiles, file_of, sha256_of
from kdops.training.order import Order
from kdops.training.worker import is_private, worker_environment
from kdops.training.worker_pool import Event, Events, Worker, WorkerPool, carry_out
from kdops.utils.gpus import worker_count
from kdops.utils.hardware import process_threads
from kdops.utils.quiet import env_var

__all__ = ["RayEngine"]

AUTO = "auto"
"""The cluster that this machine is part of."""

OBJECT_STORE = 2_000_000_000
"""Bytes of the arrays in memory in a cluster of one's own; what does not fit there goes to disk."""

SYSTEM = {
    "worker_niceness": 0,
    # A machine that vanished is given up after some 20 seconds instead of minutes.
    "grpc_client_keepalive_time_ms": 10_000,
    "grpc_client_keepalive_timeout_ms": 10_000,
    "health_check_period_ms": 2000,
    "health_check_timeout_ms": 4000,
    "health_check_failure_threshold": 3,
}
"""Settings of a cluster of one's own; a cluster that is there has those that it was started with."""


class RayEngine(WorkerPool):
    """Carries out orders in the actors of a Ray cluster.

    Args:
        workers: how many; 0 for as many as the cluster has GPUs, or, on the CPU of a cluster that is there, room for;
            one on the CPU of this machine.
        device: ``cpu`` or ``cuda``.
        address: of a cluster that is there: ``auto``, or ``//HOST:PORT`` of a server of Ray's client; empty to start
            one on this machine, which ends with the study.

    Raises:
        KdopsError: no cluster is there, or it has no room for the workers.
    """

    def __init__(self, workers: int, device: str, address: str = ""):
        threads = process_threads()
        own = worker_count(workers, device)
        # Ray reports nothing to its makers.
        with env_var("RAY_USAGE_STATS_ENABLED", "0"), _handlers_kept():
            try:
                ray.init(logging_level="ERROR", configure_logging=False, **_cluster(address, own * threads))
            except (ConnectionError, RuntimeError, ValueError, RayError) as error:
                reason = plain_line(str(error).strip().splitlines()[0])
                raise KdopsError(f"engine=ray:{address} finds no cluster: {reason}" if address else reason) from error
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = sum(one.get("GPU", 0.0) for one in machines) if device == "cuda" else 0.0
        room = sum(int(one.get("CPU", 0.0) // threads) for one in machines)
        count = workers or (own if not address else min(int(gpus) or room, room) or 1)
        # As many share a GPU as have to, and all of those that do get equal parts.
        share = 1 / math.ceil(count / gpus) if gpus else 0.0
        if (fitting := room_for(machines, threads, share)) < count:
            ray.shutdown()
            raise KdopsError(_no_room(count, threads, fitting))
        events, self._arrays, self._is_own = Events(), _Arrays(), not address
        super().__init__([_Actor(threads, share, not address, self._arrays, events) for _ in range(count)], events)

    def put(self, digest: str, array: np.ndarray) -> None:
        """Put an array into Ray's object store, unless it is the content of a file, which the workers open."""
        if digest in self._arrays.files or digest in self._arrays.objects:
            return
        if (path := file_of(array)) is not None:
            # Another machine may have another file of this name.
            self._arrays.files[digest] = (path, "" if self._is_own else sha256_of(array))
        else:
            self._arrays.objects[digest] = ray.put(np.asarray(array))

    def close(self) -> None:
        """End the workers, and the cluster where it is the study's own."""
        super().close()
        self._arrays.files.clear()
        self._arrays.objects.clear()
        ray.shutdown()


def room_for(machines: Sequence[Mapping[str, float]], threads: int, share: float) -> int:
    """Return how many workers fit on machines.

    Args:
        machines: the resources of each, as Ray has them.
        threads: CPUs of a worker.
        share: of a GPU that each has, 0 for none.
    """
    each = round(1 / share) if share else 0
    rooms = [(int(one.get("CPU", 0.0) // threads), int(one.get("GPU", 0.0)) * each) for one in machines]
    return sum(min(cpus, gpus) if share else cpus for cpus, gpus in rooms)


def _no_room(count: int, threads: int, room: int) -> str:
    """Return why workers cannot be made, which would wait for a machine for ever."""
    return (
        f"workers={count}: the cluster has room for {room} workers with {threads} CPUs each on one machine; "
        "give fewer workers, or set OMP_NUM_THREADS lower"
    )


class _Arrays:
    """The arrays that orders name: files by path, others by Ray's reference."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[str, str]] = {}
        self.objects: dict[str, ray.ObjectRef[np.ndarray]] = {}


def _cluster(address: str, threads: int) -> dict[str, Any]:
    """Return which cluster to start, or to connect to."""
    if address:
        return {"address": address if address == AUTO else f"ray:{address}"}
    return {
        "address": "local",
        "num_cpus": threads,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE,
        "_system_config": SYSTEM,
    }


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Put the handlers of signals back: Ray replaces that of SIGTERM, which ends a study in order."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                if handler is not None:
                    signal.signal(number, handler)


class _Actor(Worker):
    """A worker that is an actor.

    Args:
        threads: how many it computes with.
        gpus: the part of a GPU that it has.
        is_own: whether the cluster is of this machine alone.
        arrays: those that orders name.
        events: takes what it answers.
    """

    def __init__(self, threads: int, gpus: float, is_own: bool, arrays: _Arrays, events: Events):
        super().__init__(events)
        self._arrays = arrays
        self._needs = {"num_cpus": threads, "num_gpus": gpus}
        # A machine of another cluster finds kdops as it was installed there.
        names = ("OMP_NUM_THREADS", "PYTHONPATH") if is_own else ("OMP_NUM_THREADS",)
        self._environment = {"env_vars": {name: worker_environment(threads)[name] for name in names}}
        self._known: set[str] = set()
        self._reason = ""

    def begin(self, order: Order, attempt: int) -> None:
        """Send it an order, with the arrays that it does not know yet."""
        if self.handle is None:
            actor = ray.remote(_RayWorker).options(
                **self._needs, runtime_env=self._environment, max_restarts=0, max_task_retries=0
            )
            self.handle, self._known = actor.remote(), set()
        self.order, self.attempt = order, attempt
        files, objects = self._new(self._arrays.files), self._new(self._arrays.objects)
        self._known |= {*files, *objects}
        first = self.handle.begin.remote(order.to_json(), files, objects)
        threading.Thread(target=self._listen, args=(self.handle, first), name="worker", daemon=True).start()

    def _new(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        return {digest: own for digest, own in arrays.items() if digest not in self._known}

    def end(self) -> str:
        """End the actor, and return what is known of how it ended."""
        actor, self.handle, self.order = self.handle, None, None
        if actor is not None and ray.is_initialized():
            ray.kill(actor)
        reason, self._reason = self._reason, ""
        return reason

    def _listen(self, actor: Any, answer: Any) -> None:
        """Pass on what an actor answers until its order is carried out, and its end."""
        try:
            while True:
                head, _, content = ray.get(answer).partition(b"\n")
                self.events.put(Event(self, actor, found := json.loads(head), content))
                if "told" not in found:
                    return
                answer = actor.answer.remote()
        except RayActorError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            self._reason = f"ended: {' '.join(plain_line(line) for line in lines)[:400]}"
            self.events.put(Event(self, actor, is_end=True))
        except Exception as error:  # the cluster is gone, or the study has ended
            fields = [f"the Ray cluster is lost: {plain_line(str(error).strip().splitlines()[0])}"]
            self.events.put(Event(self, actor, {"kind": "KdopsError", "fields": fields}))


class _RayWorker:
    """What is in an actor: it carries out one order at a time, in a thread beside the one that answers."""

    def __init__(self) -> None:
        for name in list(filter(is_private, os.environ)):
            del os.environ[name]
        # Ray's arrays are read-only, and nothing writes to them.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        self._arrays = _Opened()
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def begin(self, order: str, files: dict[str, tuple[str, str]], objects: dict[str, Any]) -> bytes:
        """Begin an order with arrays that were not known yet, and return the first answer."""
        self._arrays.files |= files
        self._arrays.objects |= objects

        def answer(head: Mapping[str, Any], content: bytes) -> None:
            self._answers.put(json.dumps(head).encode() + b"\n" + content)

        threading.Thread(target=carry_out, args=(order, self._arrays, answer), name="order", daemon=True).start()
        return self.answer()

    def answer(self) -> bytes:
        """Return the next answer once it is there: its head as a line of JSON, and its content."""
        return self._answers.get()


class _Opened(OpenedFiles):
    """The arrays of an actor: Ray's own and files, opened as orders name them."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, Any] = {}

    def __missing__(self, digest: str) -> np.ndarray:
        if digest not in self.objects:
            return super().__missing__(digest)
        self[digest] = ray.get(self.objects[digest])
        return self[digest]
