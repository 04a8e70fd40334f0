"""What can be found wrong with a study before it has a run. It imports PyTorch only where it must build a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kdops.config.architectures import EMBEDDING, Architecture
from kdops.config.distillations import Distillation
from kdops.config.settings import Settings
from kdops.data.dataset import Dataset
from kdops.data.image_selection import select
from kdops.data.splits import make_split

if TYPE_CHECKING:
    from torch import Tensor

    from kdops.distillation.method import Shapes


def check_study(settings: Settings, data: Dataset) -> None:
    """Refuse external networks that do not fit the data, data that cannot be split, and images that they do not have.

    Raises:
        UsageError: names the parameter and what is wrong.
    """
    check_networks(settings, data)
    split = make_split(data, settings.transfer, settings.split_seed, settings.hops())
    select(data, split.hop(0), settings.selection)


def check_networks(settings: Settings, data: Dataset) -> list[str]:
    """Refuse networks that do not take the images of the data, and networks that their method does not fit.

    Returns:
        What is odd about external networks without being wrong, a sentence each.

    Raises:
        UsageError: names the parameter and what is wrong.
    """
    for recipe in settings.recipes.values():
        recipe.check_channels(data.shape[0])
    remarks = list[str]()
    if networks := settings.external_networks():
        from kdops.models import inspection

        remarks = inspection.check_networks(networks, data.shape, len(data.classes))
    for one in settings.distillations:
        # Every network has an embedding, and any two can be compared.
        if {*one.method.student_taps, *one.method.source_taps} - {EMBEDDING}:
            _check_distillation(one, data)
    return remarks


def _check_distillation(one: Distillation, data: Dataset) -> None:
    """Build both networks and what their method trains beside the student, which refuses values that do not fit."""
    from kdops.distillation.method import build_method
    from kdops.utils.random import as_global_rng, named_generator

    method = build_method(one.method)
    student = shapes_of(one.method.deployed(one.student, one.source), method.needs.student, one.role, data)
    source = shapes_of(one.source, method.needs.source, "source", data, method.reduced)
    with as_global_rng(named_generator("tried")):
        method.modules(student, source)


def shapes_of(
    architecture: Architecture,
    taps: Sequence[str],
    role: str,
    data: Dataset,
    reduced: Callable[[Tensor], Tensor] = lambda values: values,
) -> Shapes:
    """Return the shapes of a network's values at some taps. Raises UsageError if it has no such tap."""
    import torch

    from kdops.distillation.method import Shapes
    from kdops.models.classifier import build
    from kdops.models.taps import check_taps, features_of
    from kdops.utils.random import named_generator

    mean = torch.full(data.shape[:1], 128.0)
    net = build(architecture, data.shape, len(data.classes), mean, mean / 2, named_generator("tried"))
    check_taps(net, taps, role)
    found = features_of(net, torch.zeros(1, *data.shape, dtype=torch.uint8), taps)
    return Shapes(len(data.classes), {tap: tuple(reduced(values).shape[1:]) for tap, values in found.items()})
