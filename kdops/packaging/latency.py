"""How long a network takes for a batch of images on one thread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from kdops.utils.hardware import num_threads

CALLS = (20, 200)
"""The fewest and the most calls that are timed."""

TIMED_SECONDS = 0.5
"""How long calls are timed, unless the fewest take longer."""


@torch.no_grad()
def latency(module: Callable[[Tensor], object], image_shape: tuple[int, int, int], batch: int) -> float:
    """Measure how long a network takes for one batch on one thread: the median seconds of 20 to 200 calls.

    It takes about half a second, or twenty calls where these take longer.

    Args:
        module: a network, or any function, that takes uint8 images ``[batch, C, H, W]``.
        batch: images a call.
    """
    images = torch.zeros(batch, *image_shape, dtype=torch.uint8)
    seconds: list[float] = []
    fewest, most = CALLS
    with num_threads(1):
        for _ in range(3):
            module(images)
        while len(seconds) < fewest or (len(seconds) < most and sum(seconds) < TIMED_SECONDS):
            started = time.perf_counter()
            module(images)
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
