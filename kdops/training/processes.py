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
from collections.abc import Mapping
from typing import Any

import numpy as np

from kdops.training.array_files import ArrayFiles, OpenedFiles
from kdops.training.order import Order
from kdops.training.worker_environment import worker_environment
from kdops.training.worker_pool import Event, Events, Worker, WorkerPool, carry_out
from kdops.utils.gpus import visible_gpus, worker_count

ANSWERS = "import os; answers = os.dup(1); os.dup2(2, 1)"
"""What libraries print must not stand between the answers, also while they are imported."""

COMMAND = (sys.executable, "-P", "-c", f"{ANSWERS}; from kdops.training.processes import serve; serve(answers)")


class ProcessesEngine(WorkerPool):
    """Carries out orders in processes of this machine.

    Args:
        workers: how many; 0 for as many as there are GPUs, or one on the CPU.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, workers: int, device: str):
        gpus = visible_gpus() if device == "cuda" else [""]
        events, self._arrays = Events(), ArrayFiles()
        numbers = range(worker_count(workers, device))
        super().__init__([_Process(gpus[number % len(gpus)], self._arrays, events) for number in numbers], events)

    def put(self, digest: str, array: np.ndarray) -> None:
        """Write an array into a file that the workers open."""
        self._arrays.put(digest, array)

    def close(self) -> None:
        """End the workers and remove the files."""
        super().close()
        self._arrays.close()


class _Process(Worker):
    """A worker that is a process.

    Args:
        gpu: the only one that it sees; empty for none.
        arrays: the files that it opens.
        events: takes what it answers.
    """

    handle: subprocess.Popen[bytes] | None

    def __init__(self, gpu: str, arrays: ArrayFiles, events: Events):
        super().__init__(events)
        self._gpu, self._arrays = gpu, arrays
        self._known: set[str] = set()

    def begin(self, order: Order, attempt: int) -> None:
        """Send it an order, with the files that it does not know yet."""
        if self.handle is None:
            self.handle = subprocess.Popen(
                COMMAND,
                env=worker_environment(order.threads, self._gpu),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # Ctrl-C is for the study, which ends its workers.
                process_group=0 if os.name == "posix" else None,
            )
            self._known = set()
            threading.Thread(target=self._listen, args=(self.handle,), name="worker", daemon=True).start()
        self.order, self.attempt = order, attempt
        new = {digest: file for digest, file in self._arrays.files.items() if digest not in self._known}
        self._known |= set(new)
        assert self.handle.stdin is not None
        try:
            self.handle.stdin.write(json.dumps({"order": order.to_json(), "files": new}).encode() + b"\n")
            self.handle.stdin.flush()
        except BrokenPipeError:
            return  # it died; whoever listens to it says so

    def end(self) -> str:
        """End the process, and return what is known of how it ended."""
        process, self.handle, self.order = self.handle, None, None
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
                self.events.put(Event(self, process, head, content))
        except ValueError:
            process.kill()  # its pipe was closed, or broke off within a line
        process.wait()
        self.events.put(Event(self, process, is_end=True))


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

    def answer(head: Mapping[str, Any], content: bytes) -> None:
        answers.write(json.dumps({**head, "bytes": len(content)}).encode() + b"\n" + content)
        answers.flush()

    threading.Thread(target=listen, name="orders", daemon=True).start()
    arrays = OpenedFiles()
    while True:
        given = json.loads(lines.get())
        arrays.files |= {digest: tuple(file) for digest, file in given["files"].items()}
        carry_out(given["order"], arrays, answer)
