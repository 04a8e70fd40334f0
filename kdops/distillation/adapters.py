"""What methods train beside several students at once: every tensor has the members as its first axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class MemberLinear(nn.Module):
    """A dense layer for each member, initialized as :class:`torch.nn.Linear` is.

    Args:
        inputs: size of the points that it takes.
        outputs: size of those that it returns.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(1, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(1, 1, outputs).uniform_(-bound, bound))

    def forward(self, points: Tensor) -> Tensor:
        """Return ``[M, B, outputs]`` of ``[M, B, inputs]``."""
        return torch.baddbmm(self.bias, points, self.weight)


def merged(members: Sequence[nn.Module]) -> nn.Module:
    """Return one module of those of several members, whose tensors are joined along their first axis."""
    first = members[0]
    for own in zip(*(member.modules() for member in members), strict=True):
        for name, values in own[0].named_parameters(recurse=False):
            values.data = torch.cat([one.get_parameter(name).data for one in own])
        for name, _ in list(own[0].named_buffers(recurse=False)):
            own[0].register_buffer(name, torch.cat([one.get_buffer(name) for one in own]))
    return first


def sizes_beside(modules: Sequence[nn.Module], place: int, members: int) -> tuple[int, int]:
    """Return how many values are trained beside a member, and the bytes of these and of all else its module holds.

    Args:
        modules: one for each member, or one for all, of which each has an equal share; empty for none.
        place: of the member.
        members: how many there are.
    """
    own, shared = (modules[place : place + 1], 1) if len(modules) == members else (modules, members)
    trained = [values for module in own for values in module.parameters()]
    kept = [values for module in own for values in module.buffers()]
    return sum(values.numel() for values in trained) // shared, sum(v.nbytes for v in (*trained, *kept)) // shared
