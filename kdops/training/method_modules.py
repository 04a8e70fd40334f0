"""What a method trains beside the members of a pass: adapters, memories."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from kdops.distillation.adapters import merged
from kdops.distillation.method import Method, Shapes
from kdops.training.feeds import Feed
from kdops.training.groups import Images
from kdops.training.joint import JointNetworks
from kdops.utils.random import as_global_rng, named_generator


def modules_of(
    method: Method,
    role: str,
    members: Sequence[tuple[int, float]],
    networks: JointNetworks,
    feeds: Sequence[Feed],
    images: Images,
    device: torch.device | str,
) -> list[nn.Module]:
    """Return what a method trains beside each member, drawn from a stream of its own.

    Args:
        method: what the members learn.
        role: of the members, which names the streams.
        members: seed and temperature of each.
        networks: theirs.
        feeds: of the members that have a source.
        images: what is trained on.
        device: where it is trained.

    Returns:
        A module for each member, or one for all where the method has joint ones; none for a method without modules.
    """
    if not method.has_modules:
        return []
    method.check_room(len(images.labels), len(members))
    networks.training = False
    with torch.no_grad():
        pixels = images.pixels[torch.zeros(1, dtype=torch.long)].to(device)
        given = networks.outputs([pixels] * networks.batches)
    features = {tap: tuple(own.shape[2:]) for tap, own in given.features.items()}
    student = Shapes(given.logits.shape[-1], features)
    each = [feed for feed in feeds if feed.source is not None for _ in range(feed.size)]
    found = []
    for (seed, temperature), feed in zip(members, each, strict=True):
        with as_global_rng(named_generator("method", role, seed, f"{temperature:g}")):
            found.append(method.modules(student, feed.own_source.shapes).to(device))
            method.prepare(found[-1], feed.own_source, feed.labels)
    return [merged(found)] if method.needs.joint else found
