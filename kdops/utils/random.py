"""Random streams by name: the same words lead to the same stream, other words to an independent one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def named_generator(*words: object, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator seeded by ``words``, for example ``named_generator("order", 3)``.

    Hashing the words keeps streams apart that a sum of seeds would make collide.
    """
    digest = hashlib.sha256("\x1f".join(map(str, words)).encode()).digest()
    stream = torch.Generator(device=device)
    stream.manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return stream


@contextmanager
def as_global_rng(stream: torch.Generator) -> Iterator[None]:
    """Let code that only knows PyTorch's global random state draw from ``stream``; the global state stays as it was.

    Only the global state of the stream's own device is replaced.
    """
    shared = torch.default_generator
    if stream.device.type == "cuda":
        index = torch.cuda.current_device() if stream.device.index is None else stream.device.index
        shared = torch.cuda.default_generators[index]
    before = shared.get_state()
    shared.set_state(stream.get_state())
    try:
        yield
    finally:
        stream.set_state(shared.get_state())
        shared.set_state(before)
