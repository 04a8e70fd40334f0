"""The last layer of a network, which another one may reuse."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def head_of(net: nn.Module) -> nn.Linear:
    """Return a network's last dense layer. Raises ValueError if it has none."""
    dense = [part for part in net.modules() if isinstance(part, nn.Linear)]
    if not dense:
        raise ValueError("the network has no dense layer")
    return dense[-1]


def reuse_head(net: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Set a network's last layer to that of another one, and keep it as it is while the network is trained.

    Args:
        net: changed in place.
        values: the other's ``weight`` and ``bias``.

    Raises:
        RuntimeError: they have another size.
    """
    head = head_of(net)
    with torch.no_grad():
        head.load_state_dict(dict(values))
    head.requires_grad_(False)
