"""Taps: values inside of a network, by name.

kdops's own families have ``embedding``, the input of the last layer ``[B, D]``, and convolutional ones ``stage1``,
``stage2`` ... as well: what follows the activation of each convolution, ``[B, C, H, W]``, and ``stage1.before`` ...:
what goes into it. In composed ones those of one network come after those of the other, and
:class:`~kdops.models.classifier.Tap` names what else there is. Of networks that others wrote any module is one, by its
path (``layer3``, ``layer3.0``), and ``embedding`` is the input of their last dense layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdops.config.architectures import BEFORE, EMBEDDING
from kdops.errors import UsageError
from kdops.models.classifier import Classifier, ExternalClassifier, Tap

__all__ = ["EMBEDDING", "captured", "check_taps", "features_of"]


class _Place(NamedTuple):
    """Where a tap is: the input of a module, or its output; copied where a later module may write over it."""

    module: nn.Module
    is_input: bool
    is_copied: bool = False


def check_taps(net: Classifier, taps: Sequence[str], role: str) -> None:
    """Refuse taps that a network lacks.

    Args:
        taps: their names.
        role: the role of the network, for the message.

    Raises:
        UsageError: names the first one, and those that there are.
    """
    there = _places(net)
    for tap in taps:
        if tap not in there:
            more = " and any module by its path" * isinstance(net, ExternalClassifier)
            known = [name for name in there if "." not in name]
            raise UsageError("method", tap, f"the {role} has no such tap; it has {', '.join(known)}{more}")


@contextmanager
def captured(net: Classifier, taps: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect the values at some taps while the network is computed within; nothing stays on the network.

    Yields:
        By tap, filled by each forward pass; a later one replaces the values of an earlier one.
    """
    found: dict[str, Tensor] = {}
    places = _places(net) if taps else {}
    hooks = [_hook(places[tap], tap, found) for tap in taps]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def features_of(net: Classifier, images: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
    """Return the features ``[N, ...]`` of images at some taps, computed in ``eval()`` and without gradient."""
    was_training = net.training
    with captured(net.eval(), taps) as found:
        net(images)
    net.train(was_training)
    return {name: values.float() for name, values in found.items()}


def _hook(place: _Place, tap: str, found: dict[str, Tensor]) -> torch.utils.hooks.RemovableHandle:
    def keep(values: Tensor) -> None:
        found[tap] = values.clone() if place.is_copied else values

    if place.is_input:
        return place.module.register_forward_pre_hook(lambda _, given: keep(given[0]))
    return place.module.register_forward_hook(lambda _, __, given: keep(given))


def _places(net: Classifier) -> dict[str, _Place]:
    dense = [part for part in net.net.modules() if isinstance(part, nn.Linear)]
    last = {EMBEDDING: _Place(dense[-1], True)} if dense else {}
    if isinstance(net, ExternalClassifier):
        parts = {name: _Place(part, False) for name, part in net.net.named_modules() if name}
        # Modules of others may work in place.
        return {name: place._replace(is_copied=True) for name, place in (last | parts).items()}
    stages: dict[str, _Place] = {}
    convolved = False
    for part in net.net.modules():
        convolved = convolved or isinstance(part, nn.Conv2d)
        if convolved and isinstance(part, nn.ReLU):
            name = f"stage{len(stages) // 2 + 1}"
            stages |= {name: _Place(part, False), f"{name}{BEFORE}": _Place(part, True)}
            convolved = False
    named = {part.name: _Place(part, False) for part in net.net.modules() if isinstance(part, Tap)}
    return {**stages, **last, **named}
