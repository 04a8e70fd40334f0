"""Downloading, for all data sets alike."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

TIMEOUT = 30.0
"""Seconds without an answer after which a download has failed."""


@contextmanager
def socket_timeout() -> Iterator[None]:
    """Let a silent network fail; torchvision would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
