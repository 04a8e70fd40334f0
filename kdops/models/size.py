"""What is known of a network before it is trained: its sizes, and the code of one that others wrote.

Apart from :mod:`kdops.models.inspection`, which builds a network to look at it: the sizes of kdops's own families are
computed without PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from kdops.config.architectures import Architecture


@dataclass(frozen=True)
class NetworkSize:
    """What is known of a network.

    Attributes:
        parameters: how many trained values it has.
        flops: floating point operations of a forward pass of one image, counted as
            :meth:`~kdops.config.architectures.Architecture.flops` does; None where they cannot be counted.
        code: digest of the code that others wrote it in; empty for kdops's own families.
    """

    parameters: int
    flops: int | None
    code: str = ""


@cache
def network_size(architecture: Architecture, shape: tuple[int, int, int], classes: int) -> NetworkSize:
    """Return what is known of a network; one that others wrote is built for it, once.

    Raises:
        UsageError: a network of others cannot be built.
    """
    if architecture.is_counted:
        return NetworkSize(architecture.parameters(shape, classes), architecture.flops(shape, classes))
    # Only here: it brings PyTorch.
    from kdops.models.inspection import count

    return NetworkSize(*count(architecture, shape, classes))
