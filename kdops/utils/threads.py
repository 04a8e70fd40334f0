"""How many threads a training gets: one where its steps are too short to be shared."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import psutil

__all__ = ["limited", "process_threads", "threads_for"]

SHARED_FROM = 100e6
"""Floating point operations from which a step is shared among threads.

Measured in docs/performance.md: on two quiet cores shorter steps gain little by a second thread, on busy ones they lose
several times over, since the threads wait for each other many times in a step.
"""

PASSES = 3
"""A step computes forward, and backward what is twice as much: the weights' gradients and the images'."""


@cache
def process_threads() -> int:
    """Give the threads that this process computes with: what ``OMP_NUM_THREADS`` says, else one a physical core.

    It is known without importing PyTorch, which takes seconds.
    """
    told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if told.isdecimal() and int(told) > 0:
        return int(told)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, psutil.cpu_count(logical=False) or allowed)


def threads_for(flops: float, batch_size: int) -> int:
    """Give the threads of a training: all of the process, or one.

    Args:
        flops: floating point operations of the forward passes of one image through all that share their batches.
        batch_size: images a step.
    """
    import torch

    return torch.get_num_threads() if PASSES * flops * batch_size >= SHARED_FROM else 1


@contextmanager
def limited(count: int) -> Iterator[None]:
    """Compute with so many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
