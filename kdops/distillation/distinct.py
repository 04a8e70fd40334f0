"""Which members have the same source, so that what depends on the source alone is computed once for all of them."""

from __future__ import annotations

import torch
from torch import Tensor


def distinct(sources: Tensor) -> tuple[Tensor, list[int]]:
    """Return the sources ``[S, B, E]`` that differ from the member's before, and which of them each member has.

    On a GPU, which it would have to be asked for, members that were not given one tensor count as different.
    """
    if sources.stride(0) == 0:
        return sources[:1], [0] * len(sources)
    if sources.is_cuda:
        return sources, list(range(len(sources)))
    found, whose = [sources[0]], []
    for own in sources:
        if not torch.equal(own, found[-1]):
            found.append(own)
        whose.append(len(found) - 1)
    return torch.stack(found), whose
