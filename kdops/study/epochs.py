"""The networks of a study as they were after earlier epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdops.packaging.epochs import read_epoch
from kdops.sweeps.model import Model

if TYPE_CHECKING:
    from torch.nn import Module

    from kdops.study.study import Study


def network_after(study: Study[Any], model: Model, epoch: int) -> Module:
    """Return the network of a stored model as it was after an epoch, in ``eval()``.

    Raises:
        KdopsError: its weights after that epoch were not kept, or are gone.
    """
    network = study.network(model)
    network.load_state_dict(read_epoch(model, epoch))
    return network
