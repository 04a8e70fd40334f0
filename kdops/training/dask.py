"""The engine ``dask``: workers that are actors of a Dask cluster, on this machine or on many.

Each is alone in a Dask worker, whose process and environment are those that its cluster gave it. On this machine arrays
are files, as for ``processes``; a Dask worker elsewhere is sent a copy of each, but of decoded images their path.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
from distributed import Client, Future, LocalCluster, Security, Status, get_worker

from kdops.errors import KdopsError, plain_line
from kdops.training.actors import Actor, ActorArrays, ActorWorker
from kdops.training.array_files import ArrayFiles
from kdops.training.worker_environment import worker_environment
from kdops.training.worker_pool import Events, WorkerPool
from kdops.utils.files import temporary_folder
from kdops.utils.gpus import visible_gpus, worker_count
from kdops.utils.hardware import process_threads

__all__ = ["DaskEngine"]

CONNECT_SECONDS = 10.0
LOOK_SECONDS = 0.2
"""How often it is looked whether a Dask worker is there, or still there."""


class DaskEngine(WorkerPool):
    """Carries out orders in the workers of a Dask cluster.

    Args:
        workers: how many; 0 for as many as the cluster has, on this machine for each GPU, or one on the CPU.
        device: ``cpu`` or ``cuda``.
        address: of the scheduler of a cluster that is there, ``tcp://HOST:PORT`` or ``tls://HOST:PORT``; empty to start
            a cluster on this machine, which ends with the study.

    Raises:
        KdopsError: no cluster is there, or it has fewer workers.
    """

    def __init__(self, workers: int, device: str, address: str = ""):
        self._arrays, self._files, events = ActorArrays(), ArrayFiles(), Events()
        with ExitStack() as made:
            if address:
                client = made.enter_context(_connected(address))
                there = len(_addresses(client))
                if there < (workers or 1):
                    raise KdopsError(
                        f"workers={workers or 1}: the cluster at {address} has {there}; start more workers"
                    )
                count = workers or there
            else:
                # Its workers are on this machine, and open what is written here.
                self._arrays.files = self._files.files
                count = worker_count(workers, device)
                client = made.enter_context(_own_cluster(count, device))
            self._is_own, self._made = not address, made.pop_all()
        places = _Places(client)
        super().__init__([_DaskWorker(places, self._arrays, events) for _ in range(count)], events)

    def put(self, digest: str, array: np.ndarray) -> None:
        """Write an array into a file, or keep it until it is sent."""
        if self._is_own:
            self._files.put(digest, array)
        elif not self._arrays.put_file(digest, array):
            self._arrays.objects[digest] = np.asarray(array)

    def close(self) -> None:
        """End the workers, and the cluster where it is the study's own."""
        super().close()
        self._made.close()
        self._files.close()
        self._arrays.objects.clear()


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TypeError, ValueError) as error:
        raise KdopsError(f"engine=dask:{address} finds no cluster: {plain_line(str(error))}") from error
    with client:
        yield client


@contextmanager
def _own_cluster(count: int, device: str) -> Iterator[Client]:
    """Start a cluster on this machine: the scheduler here, and for each worker a process, which Dask starts again."""
    # Whoever reaches an open scheduler runs code in its workers.
    security, threads = Security.temporary(), process_threads()
    settings = {
        "COMM__REQUIRE_ENCRYPTION": "True",
        "COMM__TLS__CA_FILE": security.tls_ca_file,
        "COMM__TLS__WORKER__CERT": security.tls_worker_cert,
        "COMM__TLS__WORKER__KEY": security.tls_worker_key,
        "WORKER__PROFILE__ENABLED": "False",
    }
    environment = {
        "DASK_LOGGING__DISTRIBUTED": "critical",
        **{f"DASK_DISTRIBUTED__{name}": text for name, text in settings.items()},
    }
    gpus = visible_gpus() if device == "cuda" else [""]
    # Ctrl-C is for the study, which ends its workers.
    group, started = 0 if os.name == "posix" else None, list[subprocess.Popen[bytes]]()
    with (
        temporary_folder() as folder,
        LocalCluster(n_workers=0, dashboard_address=None, security=security, silence_logs=logging.CRITICAL) as cluster,
    ):
        options = f"--nthreads 1 --nworkers 1 --memory-limit 0 --no-dashboard --local-directory {folder}".split()
        command = [sys.executable, "-P", "-m", "distributed.cli.dask_worker", cluster.scheduler_address, *options]
        try:
            for number in range(count):
                own = worker_environment(threads, gpus[number % len(gpus)])
                started.append(subprocess.Popen(command, env=own | environment, process_group=group))
            with Client(cluster, security=security, set_as_default=False, direct_to_workers=True) as client:
                yield client
        finally:
            for process in started:
                # With what it has started: Dask's own helpers would complain that it left them.
                for one in (*psutil.Process(process.pid).children(recursive=True), process):
                    with suppress(psutil.NoSuchProcess):
                        one.kill()
                process.wait()


def _addresses(client: Client) -> list[str]:
    # What else tells of workers may be a copy from before.
    return list(client.nthreads())


class _Places:
    """The Dask workers that have no actor of the study.

    Args:
        client: of their cluster.
    """

    def __init__(self, client: Client):
        self.client = client
        self._taken: set[str] = set()
        self._lock = threading.Lock()

    def take(self) -> str:
        """Return the address of one, and keep it from others; empty where there is none."""
        with self._lock:
            free = next((one for one in _addresses(self.client) if one not in self._taken), "")
            self._taken.add(free)
        return free

    def leave(self, address: str) -> None:
        """Free an address for others."""
        with self._lock:
            self._taken.discard(address)


@dataclass(eq=False)
class _Handle:
    """An actor, once it has its place."""

    address: str = ""
    future: Future | None = None
    proxy: Any = None
    is_removed: bool = False


class _DaskWorker(ActorWorker):
    """A worker that is an actor in a Dask worker.

    Args:
        places: where it can be.
        arrays: those that orders name.
        events: takes what it answers.
    """

    def __init__(self, places: _Places, arrays: ActorArrays, events: Events):
        super().__init__(arrays, events)
        self._places, self._client = places, places.client

    def make(self) -> _Handle:
        """Return an actor that has no place yet."""
        return _Handle()

    def ask(self, actor: _Handle, method: str, *given: Any) -> Any:
        """Call a method of an actor; the first call waits for its place."""
        if actor.proxy is None:
            self._settle(actor)
        # Actors look for their client; there may be others in this process.
        with self._client.as_current():
            answer = getattr(actor.proxy, method)(*given)
        return self._awaited(actor, answer)

    def _settle(self, actor: _Handle) -> None:
        while not (address := self._places.take()):
            self._check(actor)
            time.sleep(LOOK_SECONDS)
        actor.address = address
        actor.future = self._client.submit(_DaskActor, actor=True, workers=[address], pure=False)
        actor.proxy = self._awaited(actor, actor.future)

    def _awaited(self, actor: _Handle, answer: Any) -> Any:
        """Return an answer once it is there; that of a Dask worker that is gone may never come."""
        while True:
            try:
                return answer.result(timeout=1.0)
            except TimeoutError:
                self._check(actor)

    def _check(self, actor: _Handle) -> None:
        if actor.is_removed or self._client.status not in ("running", "connecting"):
            raise KdopsError("it was closed")
        if actor.address and actor.address not in _addresses(self._client):
            raise OSError("it is gone")

    def remove(self, actor: _Handle) -> None:
        """Remove an actor; its thread ends with the step that it is in."""
        actor.is_removed = True
        self._places.leave(actor.address)
        if actor.future is not None and self._client.status == "running":
            actor.future.cancel()
        actor.proxy = None

    def death_of(self, actor: _Handle, error: Exception) -> str:
        """Return that its Dask worker is gone, unless all of the cluster is."""
        is_lost = isinstance(error, OSError) or "Worker holding Actor was lost" in str(error)
        return f"the Dask worker {actor.address} is gone" if is_lost and self._client.status == "running" else ""


class _DaskActor(Actor):
    """What is in an actor of Dask's, in the process of a Dask worker."""

    def __init__(self) -> None:
        super().__init__()
        self._worker = get_worker()

    def is_wanted(self) -> bool:
        """Return whether the Dask worker still has a scheduler."""
        return self._worker.status in (Status.running, Status.paused)
