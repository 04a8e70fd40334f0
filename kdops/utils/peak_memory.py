"""The most memory that is in use meanwhile."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Self

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
"""Of Linux: what a process has in memory, and where the highest value so far is forgotten."""


class PeakMemory:
    """The most memory that is in use within a block, beyond what was before it.

    On a GPU what PyTorch allocates there; else what the whole process has in memory, other threads included, where the
    system says it (Linux).

    Attributes:
        found: bytes, after the block; not a number where they are not known.
    """

    def __init__(self, device: torch.device | str):
        self.on_gpu, self.found = torch.device(device).type == "cuda", math.nan

    def __enter__(self) -> Self:
        """Begin to look."""
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
            self._before = float(torch.cuda.memory_allocated())
        else:
            # The highest value so far is forgotten.
            with suppress(OSError):
                RESET.write_text("5")
            self._before = _in_memory("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        """Look."""
        peak = float(torch.cuda.max_memory_allocated()) if self.on_gpu else _in_memory("VmHWM")
        self.found = peak - self._before


def _in_memory(name: str) -> float:
    """Return a value of the process's status, in bytes; not a number where there is none, or it cannot be forgotten."""
    try:
        found = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        return 1024.0 * int(found[name].split()[0]) if os.access(RESET, os.W_OK) else math.nan
    except (OSError, KeyError, ValueError):
        return math.nan
