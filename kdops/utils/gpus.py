"""Which GPUs there are, as the workers of an engine share them out."""

from __future__ import annotations

import os


def visible_gpus() -> list[str]:
    """Return what ``CUDA_VISIBLE_DEVICES`` calls each GPU that this process may use."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [part.strip() for part in named.split(",") if part.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def worker_count(asked: int, device: str) -> int:
    """Return how many workers an engine has: those asked for, else one for each GPU, or one on the CPU."""
    return asked or (len(visible_gpus()) if device == "cuda" else 0) or 1
