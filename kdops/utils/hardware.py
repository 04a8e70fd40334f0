"""Where networks are trained, how precisely, and with how many threads."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kdops.errors import UsageError

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")

DRIVERS = ("nvidiactl", "nvidia0", "nvhost-ctrl-gpu", "nvmap", "dxg", "kfd")
"""What drivers of GPUs put into ``/dev``: Nvidia's of a card and of a board, Windows', AMD's."""


def resolve_device(name: str) -> str:
    """Return ``cpu``, ``cuda`` or ``mps``: the device named, and for ``auto`` a CUDA GPU where there is one.

    Raises:
        UsageError: ``cuda`` or ``mps`` where no such device can be used.
    """
    if name == "cpu" or (name == "auto" and not _has_driver()):
        return "cpu"
    import torch

    if name == "mps":
        if not torch.backends.mps.is_available():
            raise UsageError("device", name, "no GPU of Apple is available here; use auto or cpu")
        return name
    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise UsageError("device", name, "no CUDA device is available here; use auto or cpu")
    return "cpu"


def _has_driver(folder: Path = Path("/dev")) -> bool:
    """Return whether PyTorch, which takes seconds to import, has to be asked for a GPU at all."""
    return not sys.platform.startswith("linux") or any((folder / name).exists() for name in DRIVERS)


@contextmanager
def allow_tf32(device: torch.device | str) -> Iterator[None]:
    """Let a GPU's tensor cores take the matrix products of a training too.

    They round the factors to TF32 (8 bits of exponent, 10 of mantissa) and add up in single precision. Convolutions
    they take anyway: that is PyTorch's own setting, which stays as it is.

    Args:
        device: where is trained; on any other than a GPU nothing changes.
    """
    import torch

    if torch.device(device).type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def numeric_mode(device: torch.device | str) -> str:
    """Return the coarsest arithmetic of a training there: ``fp32``, ``tf32`` or, on newer cards, ``bf16``."""
    import torch

    if torch.device(device).type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "tf32"


WITHOUT_DOUBLE = ("mps",)
"""Kinds of devices that have no double precision."""


def finest_float(device: torch.device | str) -> torch.dtype:
    """Return the most precise floating point numbers of a device: double, or single where it has no other."""
    import torch

    return torch.float32 if torch.device(device).type in WITHOUT_DOUBLE else torch.float64


def autocast_bf16(device: torch.device | str) -> AbstractContextManager[object]:
    """Let a GPU compute convolutions and products, and keep what is between them, in half precision.

    That is bf16 (8 bits of exponent, 7 of mantissa), which needs no scaling of the loss: "Mixed Precision Training"
    (Micikevicius et al., 2018) in its later form. Weights, loss and optimizer stay in single precision; outputs and
    gradients of weights are rounded before they get there. docs/explanation/performance-gpu.md reports what it changes.

    Args:
        device: where is trained; on any other than a GPU that has bf16 nothing changes.
    """
    import torch

    if numeric_mode(device) != "bf16":
        return nullcontext()
    # What is cast must not be kept beyond a step that is recorded.
    return torch.autocast("cuda", torch.bfloat16, cache_enabled=False)


SHARED_FROM = 100e6
"""Floating point operations from which a step is shared among threads.

Measured in docs/explanation/performance.md: on two idle cores shorter steps gain little by a second thread; on busy
ones they take several times as long, since the threads wait for each other many times in a step.
"""

PASSES = 3
"""A step computes forward, and backward what is twice as much: the weights' gradients and the images'."""


@cache
def process_threads() -> int:
    """Return the threads that this process computes with: the value of ``OMP_NUM_THREADS``, else one a physical core.

    It is known without importing PyTorch, which takes seconds.
    """
    setting = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if setting.isdecimal() and int(setting) > 0:
        return int(setting)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Only here: it would be a tenth of the time of ``kdops --help``.
    import psutil

    return min(allowed, psutil.cpu_count(logical=False) or allowed)


def threads_for(flops: float, batch_size: int) -> int:
    """Return the threads of a training: all of the process, or one.

    Args:
        flops: floating point operations of the forward passes of one image through all that share their batches.
        batch_size: images a step.
    """
    import torch

    return torch.get_num_threads() if PASSES * flops * batch_size >= SHARED_FROM else 1


@contextmanager
def num_threads(count: int) -> Iterator[None]:
    """Compute with this number of threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def with_threads(count: int, results: Iterator[Result]) -> Iterator[Result]:
    """Yield results, each computed with this number of threads; between them the caller's number holds."""
    while True:
        with num_threads(count):
            try:
                result = next(results)
            except StopIteration:
                return
        yield result


def load_and_cores() -> tuple[float, int]:
    """Return how many processes wanted a core in the last minute, 0 where that is unknown, and how many there are."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return load, os.cpu_count() or 1


@cache
def matrix_speed(device: str) -> float:
    """Measure the speed of a matrix product, in floating point operations a second, once in a process."""
    import torch

    side = 1024
    a = torch.ones(side, side, device=device)
    best = float("inf")
    for _ in range(4):
        started = time.perf_counter()
        (a @ a).sum().item()
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best
