"""Where networks are trained."""

from __future__ import annotations

import sys
from pathlib import Path

from kdops.errors import UsageError

__all__ = ["resolve_device"]

DRIVERS = ("nvidiactl", "nvidia0", "nvhost-ctrl-gpu", "nvmap", "dxg", "kfd")
"""What drivers of graphics processors put into ``/dev``: Nvidia's of a card and of a board, Windows', AMD's."""


def resolve_device(name: str) -> str:
    """Give ``cpu`` or ``cuda``: what the name says, and for ``auto`` the graphics processor where there is one.

    Raises:
        UsageError: ``cuda`` where no such device can be used.
    """
    if name == "cpu" or (name == "auto" and not _has_driver()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise UsageError("device", name, "no CUDA device is available here; use auto or cpu")
    return "cpu"


def _has_driver(folder: Path = Path("/dev")) -> bool:
    """Say whether PyTorch, which takes seconds to import, has to be asked for a graphics processor at all."""
    return not sys.platform.startswith("linux") or any((folder / name).exists() for name in DRIVERS)
