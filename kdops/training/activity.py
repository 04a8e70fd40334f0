"""Which hidden units of a trained network still do something."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from kdops.data.memmap import Pixels
from kdops.models.classifier import Classifier, ExternalClassifier
from kdops.sweeps.metrics import DEAD_UNITS
from kdops.utils.memory import malloc_keeps_pages


@torch.no_grad()
def measure_units(
    net: Classifier, images: Pixels, device: torch.device | str = "cpu", block: int = 512
) -> dict[str, float]:
    """Measure the share of a network's hidden units that no image activates.

    A unit is a unit of a dense layer or a filter of a convolution, which is activated where it is above zero at any
    place. One that no training image activates has no gradient any more, and stays as it is: a dead ReLU (Lu, Shin, Su
    and Karniadakis, "Dying ReLU and Initialization", 2020).

    Args:
        net: the network, in ``eval()``.
        images: uint8 ``[N, C, H, W]``.
        device: where to compute.
        block: images at a time; those that are left when every unit was activated are not looked at.

    Returns:
        ``dead_units``, in [0, 1]; nothing for networks that others wrote, and for those without ReLU.
    """
    places = [] if isinstance(net, ExternalClassifier) else [one for one in net.modules() if isinstance(one, nn.ReLU)]
    alive: dict[int, Tensor] = {}

    def look(place: int, module: nn.Module, given: tuple[Tensor, ...], values: Tensor) -> None:
        seen = (values > 0).flatten(2).any(dim=2).any(dim=0) if values.dim() > 2 else (values > 0).any(dim=0)
        alive[place] = alive[place] | seen if place in alive else seen

    hooks = [module.register_forward_hook(partial(look, place)) for place, module in enumerate(places)]
    home = net.mean.device
    try:
        with malloc_keeps_pages():
            for start in range(0, len(images) if places else 0, block):
                net.to(device)(images[start : start + block].to(device))
                if all(bool(own.all()) for own in alive.values()):
                    break
    finally:
        net.to(home)
        for hook in hooks:
            hook.remove()
    units = torch.cat(list(alive.values())) if alive else torch.zeros(0)
    return {DEAD_UNITS: 1 - units.double().mean().item()} if len(units) else {}
