"""Where networks are trained."""

from __future__ import annotations

from kdops.errors import UsageError

__all__ = ["resolve_device"]


def resolve_device(name: str) -> str:
    """Give ``cpu`` or ``cuda``: what the name says, and for ``auto`` the graphics processor where there is one.

    Raises:
        UsageError: ``cuda`` where no such device can be used.
    """
    if name == "cpu":
        return name
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise UsageError("device", name, "no CUDA device is available here; use auto or cpu")
    return "cpu"
