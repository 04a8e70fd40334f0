"""What is only known of a network once it is built: its sizes, its code, and whether it is a classifier at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.metadata import version

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kdops.config.architectures import Architecture, FunctionNet
from kdops.config.recipes import Recipe
from kdops.errors import UsageError
from kdops.models.classifier import ExternalClassifier, build
from kdops.models.python_function import source_of
from kdops.utils.imports import describe_error
from kdops.utils.random import named_generator


def count(architecture: Architecture, shape: tuple[int, int, int], classes: int) -> tuple[int, int | None, str]:
    """Return the trained values, the operations and the code of a network of others, see
    :class:`kdops.models.size.NetworkSize`.

    Raises:
        UsageError: it cannot be built.
    """
    net = _built(architecture, shape, classes)
    parameters = sum(values.numel() for values in net.parameters() if values.requires_grad)
    return parameters, _flops(net, shape), _code(architecture, net)


def check_networks(named: Iterable[tuple[str, Recipe]], shape: tuple[int, int, int], classes: int) -> list[str]:
    """Build and try the networks of others: each must return logits, learn, and be itself again from its weights.

    Args:
        named: how each is built and trained, with the parameter that names it; none of kdops's own families.
        shape: (channels, height, width) of an image.

    Returns:
        What is odd about them without being wrong, a sentence each.

    Raises:
        UsageError: names the parameter, the architecture, and what is wrong with it.
    """
    return [
        f"{parameter}={recipe.architecture} gives probabilities, as a network that ends in a softmax does: they are "
        "taken for logits, and so learn little; return what comes before the softmax"
        for parameter, recipe in named
        if _gives_probabilities(parameter, recipe, shape, classes)
    ]


@torch.no_grad()
def _gives_probabilities(role: str, recipe: Recipe, shape: tuple[int, int, int], classes: int) -> bool:
    given = _checked(role, recipe, shape, classes)
    # Several images: the logits of one may sum to 1 by chance.
    return bool((given >= 0).all()) and torch.allclose(given.sum(dim=1), torch.ones(len(given)), atol=1e-5)


@torch.enable_grad()
def _checked(role: str, recipe: Recipe, shape: tuple[int, int, int], classes: int) -> Tensor:
    """Return what a network gives for some images, once it is tried."""
    architecture = recipe.architecture

    def refuse(problem: str, cause: BaseException | None = None) -> None:
        raise UsageError(role, architecture, problem) from cause

    try:
        net, other = (_built(architecture, shape, classes, stream) for stream in ("one", "other"))
    except UsageError as error:
        refuse(error.allowed, error)
    if not any(values.requires_grad for values in net.parameters()):
        refuse("has no values that can be trained")
    if net.normalizes_batches and recipe.batch_size == 1:
        raise UsageError("batch_size", 1, f"must be at least 2: the {role} {architecture} normalizes by the batch")
    images = torch.randint(0, 256, (3, *shape), generator=named_generator("tried"), dtype=torch.uint8)
    wanted = f"must give float32 [N, {classes}] of float32 [N, {', '.join(map(str, shape))}]"
    for training in (True, False):
        net.train(training)
        # Two sizes, since one may be taken for the only one there is.
        for count in (3, 2):
            mode = "while it is trained" if training else "in eval()"
            try:
                given = net(images[:count])
            except Exception as error:
                refuse(f"{wanted}, and fails {mode} ({describe_error(error)})", error)
            if not isinstance(given, Tensor):
                refuse(f"{wanted}, not {type(given).__name__} ({mode})")
            if given.dtype != torch.float32 or given.shape != (count, classes):
                kind = str(given.dtype).removeprefix("torch.")
                refuse(f"{wanted}, not {kind} {list(given.shape)} of {count} images ({mode})")
            if training and not given.requires_grad:
                refuse("gives logits that do not depend on any value that can be trained")
    _check_identity(refuse, net.eval(), other.eval(), images)
    try:
        # As it will be stored, see kdops.packaging; a training for nothing may take hours.
        torch.export.export(net, (images[:2],), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    except Exception as error:
        advice = "; take x.shape[0], not len(x)" if "specialize" in str(error) or "constant" in str(error) else ""
        refuse(f"cannot be exported by torch.export for batches of any size ({describe_error(error)}){advice}", error)
    return net(images)


@torch.no_grad()
def _check_identity(refuse, net: nn.Module, other: nn.Module, images: Tensor) -> None:
    """Refuse a network whose outputs vary: what is stored of a model is its weights and buffers."""
    first = net(images)
    if not first.isfinite().all():
        refuse("gives logits that are no finite numbers before it is trained")
    if not torch.equal(first, net(images)):
        refuse("gives something else each time in eval(); what it draws must depend on self.training")
    try:
        other.load_state_dict(net.state_dict())
    except Exception as error:
        refuse(f"called again it is another network ({describe_error(error)})", error)
    if not torch.allclose(first, other(images), rtol=1e-4, atol=1e-5):
        refuse("gives something else with the same weights; what it draws once must be a parameter or a buffer")


def _built(
    architecture: Architecture, shape: tuple[int, int, int], classes: int, stream: str = "counted"
) -> ExternalClassifier:
    mean = torch.full((shape[0],), 128.0)
    # Without its own weights: they change neither sizes nor kinds, and may have to be downloaded first.
    net = build(architecture, shape, classes, mean, mean / 2, None if stream == "counted" else named_generator(stream))
    assert isinstance(net, ExternalClassifier)
    net.stream = named_generator("tried", stream)
    return net


def _flops(net: ExternalClassifier, shape: tuple[int, int, int]) -> int | None:
    """Count; None where nothing is, and for recurrent nets, whose kernels are not seen."""
    if any(isinstance(part, nn.RNNBase) for part in net.modules()):
        return None
    # With gradients: without them attention takes a way that is not seen.
    with FlopCounterMode(display=False) as counter, torch.enable_grad():
        try:
            net.eval()(torch.zeros(1, *shape, dtype=torch.uint8))
        except Exception:
            # What it is that fails is reported by check_networks.
            return None
    return counter.get_total_flops() or None


def _code(architecture: Architecture, net: ExternalClassifier) -> str:
    """Return the digest of what decides what a network is, beside its weights."""
    origin = source_of(architecture) if isinstance(architecture, FunctionNet) else version("torchvision")
    kinds = [(name, tuple(values.shape)) for name, values in net.state_dict().items()]
    return hashlib.sha256(f"{origin}\n{type(net.net)}\n{kinds}".encode()).hexdigest()
