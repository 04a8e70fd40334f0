"""The engine ``ray``: workers that are actors of a Ray cluster, on this machine or on many.

Arrays lie in Ray's object store, once on each machine, but decoded images where their file is.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayActorError

from kdops.errors import KdopsError, plain_line
from kdops.training.actors import Actor, ActorArrays, ActorWorker
from kdops.training.array_files import OpenedFiles
from kdops.training.worker_environment import is_private, worker_environment
from kdops.training.worker_pool import Events, WorkerPool
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
                ray.init(logging_level=logging.ERROR, configure_logging=False, **_cluster(address, own * threads))
            except Exception as error:  # plain ones too, where Ray does not start in time
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
        events, self._arrays, self._is_own = Events(), ActorArrays(), not address
        super().__init__([_RayWorker(threads, share, not address, self._arrays, events) for _ in range(count)], events)

    def put(self, digest: str, array: np.ndarray) -> None:
        """Put an array into Ray's object store, unless it is the content of a file, which the workers open."""
        if not self._arrays.put_file(digest, array, self._is_own):
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


class _RayWorker(ActorWorker):
    """A worker that is an actor of Ray's.

    Args:
        threads: how many it computes with.
        gpus: the part of a GPU that it has.
        is_own: whether the cluster is of this machine alone.
        arrays: those that orders name.
        events: takes what it answers.
    """

    def __init__(self, threads: int, gpus: float, is_own: bool, arrays: ActorArrays, events: Events):
        super().__init__(arrays, events)
        # A machine of another cluster finds kdops as it was installed there.
        names = ("OMP_NUM_THREADS", "PYTHONPATH") if is_own else ("OMP_NUM_THREADS",)
        environment = {"env_vars": {name: worker_environment(threads)[name] for name in names}}
        self._options = {
            **{"num_cpus": threads, "num_gpus": gpus, "runtime_env": environment},
            **{"max_restarts": 0, "max_task_retries": 0},
        }

    def make(self) -> Any:
        """Return a new actor."""
        return ray.remote(_RayActor).options(**self._options).remote()

    def ask(self, actor: Any, method: str, *given: Any) -> Any:
        """Call a method of an actor, and return its answer once it is there."""
        return ray.get(getattr(actor, method).remote(*given))

    def remove(self, actor: Any) -> None:
        """Kill an actor."""
        if ray.is_initialized():
            ray.kill(actor)

    def death_of(self, actor: Any, error: Exception) -> str:
        """Return Ray's own lines about the end of an actor."""
        if not isinstance(error, RayActorError):
            return ""
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return " ".join(plain_line(line) for line in lines)[:400]


class _RayActor(Actor):
    """What is in an actor of Ray's, which has a process of its own."""

    def __init__(self) -> None:
        super().__init__()
        for name in list(filter(is_private, os.environ)):
            del os.environ[name]
        # Ray's arrays are read-only, and nothing writes to them.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        self.arrays = self._opened = _Opened()

    def take(self, objects: Mapping[str, Any]) -> None:
        """Take Ray's references to arrays."""
        self._opened.objects |= objects


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
