"""Random streams by name: the same words give the same stream, other words an independent one."""

from __future__ import annotations

import hashlib

import torch

__all__ = ["generator"]


def generator(*words: object, device: torch.device | str = "cpu") -> torch.Generator:
    """Give a generator seeded by ``words``, for example ``generator("order", 3)``.

    Hashing the words keeps streams apart that a sum of seeds would make collide.
    """
    digest = hashlib.sha256("\x1f".join(map(str, words)).encode()).digest()
    stream = torch.Generator(device=device)
    stream.manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return stream
