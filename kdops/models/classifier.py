"""The networks: raw uint8 images in, float32 logits out.

A family of networks is declared in :mod:`kdops.config.architectures`, which names the function here that builds it.
Networks that others wrote are built by :mod:`kdops.models.torchvision` and :mod:`kdops.models.python_function`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from kdops.config.architectures import Architecture, FunctionNet, TorchvisionNet
from kdops.models.python_function import build_function
from kdops.models.torchvision import build_torchvision
from kdops.utils.imports import load_place
from kdops.utils.random import as_global_rng, named_generator


class Classifier(nn.Module):
    """A network together with its preprocessing.

    Args:
        net: maps normalized float images ``[N, C, H, W]`` to logits ``[N, classes]``.
        mean: mean of each channel in pixel units 0 to 255, ``[C]``.
        std: standard deviation of each channel in pixel units, ``[C]``.
    """

    mean: Tensor
    std: Tensor

    memory_format = torch.channels_last
    """How images lie in memory while it is trained: oneDNN and cuDNN convolve these up to 1.5 times faster."""

    def __init__(self, net: nn.Module, mean: Tensor, std: Tensor):
        super().__init__()
        self.net = net
        # Copies: a checkpoint of several networks refuses what shares memory.
        self.register_buffer("mean", mean.reshape(-1, 1, 1).float().clone())
        self.register_buffer("std", std.reshape(-1, 1, 1).float().clone())

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[N, classes]`` of uint8 images ``[N, C, H, W]``."""
        return self.net(self.normalized(images))

    def normalized(self, images: Tensor) -> Tensor:
        """Return images as the network itself takes them: floats, of mean 0 and deviation 1."""
        return (images.float() - self.mean) / self.std

    def own_terms(self) -> dict[str, Tensor]:
        """Return the terms ``[1]`` that the network adds to the loss of the latest batch in training, once."""
        return vars(self.net).pop("own_terms", {})


class ExternalClassifier(Classifier):
    """A network that others wrote: what it draws while it is trained it draws from PyTorch's global random state.

    That state is replaced by a stream of the network's own for the time, see :func:`kdops.utils.random.as_global_rng`.
    """

    def __init__(self, net: nn.Module, mean: Tensor, std: Tensor):
        super().__init__(net, mean, std)
        self.stream: torch.Generator | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[N, classes]`` of uint8 images ``[N, C, H, W]``."""
        if not self.training or self.stream is None:
            return super().forward(images)
        with as_global_rng(self.stream):
            return super().forward(images)

    @property
    def normalizes_batches(self) -> bool:
        """Whether a batch of one image cannot be learned from, since it is normalized by itself."""
        return any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in self.net.modules())


class Dropout(nn.Module):
    """Inverted dropout that draws from its own generator, never from the global one.

    Source: Srivastava et al., "Dropout", 2014.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate
        self.stream: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Zero each value with probability ``rate`` while training; else return ``x`` as it is."""
        if not self.training or self.rate == 0.0:
            return x
        if x.device.type == "cpu":
            return x * self._factors(x)
        kept = torch.empty_like(x, dtype=torch.bool).bernoulli_(1.0 - self.rate, generator=self.stream)
        # By its name the gradient of dropout, which is the same as dropout itself once it is drawn: one pass over
        # memory, and a byte a value to be kept for the way back.
        return torch.ops.aten.native_dropout_backward(x, kept, 1.0 / (1.0 - self.rate))

    def _factors(self, x: Tensor) -> Tensor:
        """Return what each value is multiplied by on the CPU: 0, or what keeps the mean."""
        # Two numbers of 32 bits of each draw: ``bernoulli_`` takes seven times as long, a tenth of a teacher's step.
        count = x.numel()
        drawn = torch.empty((count + 1) // 2, dtype=torch.int64).random_(-(2**63), None, generator=self.stream)
        below = min(round((1.0 - self.rate) * 2**32) - 2**31, 2**31 - 1)
        kept = drawn.view(torch.int32)[:count] < below
        return kept.to(x.dtype).div_(1.0 - self.rate).as_strided(x.shape, torch.empty_like(x).stride())


class Tap(nn.Identity):
    """A value inside of a network that is neither a stage nor the last layer's input, see :mod:`kdops.models.taps`.

    Args:
        name: of the tap.
    """

    def __init__(self, name: str):
        super().__init__()
        self.name = name


def build(
    architecture: Architecture,
    shape: tuple[int, int, int],
    classes: int,
    mean: Tensor,
    std: Tensor,
    stream: torch.Generator | None = None,
    init: str = "pytorch",
) -> Classifier:
    """Build a network, initialized from ``stream``; where there is none its weights are nan until they are loaded.

    Args:
        shape: (channels, height, width) of an image.
        mean: see :class:`Classifier`.
        std: see :class:`Classifier`.
        stream: source of the initial weights.
        init: how they are drawn, see :class:`~kdops.config.recipes.Recipe`; networks of others draw their own.

    Raises:
        UsageError: a network of others cannot be built.
    """
    if isinstance(architecture, TorchvisionNet | FunctionNet):
        return _build_of_others(architecture, shape, classes, mean, std, stream)
    # Built without values first: PyTorch's own initialization would draw from the global random state.
    with torch.device("meta"):
        net = load_place(architecture.spec.place)(architecture, shape, classes)
    net.to_empty(device="cpu")
    for values in net.buffers():
        values.zero_()
    for weights in net.parameters():
        # Left as allocated, a weight that nobody sets would do in one process and not in another.
        weights.data.fill_(math.nan)
    if stream is not None:
        _initialize(net, stream, init)
    return Classifier(net, mean, std)


def _build_of_others(
    architecture: TorchvisionNet | FunctionNet,
    shape: tuple[int, int, int],
    classes: int,
    mean: Tensor,
    std: Tensor,
    stream: torch.Generator | None,
) -> ExternalClassifier:
    """Build a network of others, which initialized itself."""
    with as_global_rng(named_generator("to be loaded") if stream is None else stream):
        if isinstance(architecture, TorchvisionNet):
            net = build_torchvision(architecture, shape, classes, pretrained=stream is not None)
        else:
            net = build_function(architecture, shape, classes)
    found = ExternalClassifier(net, mean, std)
    if isinstance(architecture, FunctionNet):
        # Code that flattens by ``view`` breaks on any other order.
        found.memory_format = torch.contiguous_format
    return found


class ImagesByParts(Protocol):
    """Images ``[N, C, H, W]`` that need not all be in memory."""

    @property
    def shape(self) -> torch.Size:
        """The shape ``[N, C, H, W]``."""

    def split(self, size: int, /) -> Iterable[Tensor]:
        """Return the images in parts of a size."""


def pixel_statistics(images: ImagesByParts) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel of uint8 images ``[N, C, H, W]``, in pixel units.

    A channel that never changes gets the deviation 1, so that it stays finite.
    """
    count = torch.zeros(images.shape[1], 256, dtype=torch.float64)
    for part in images.split(4096):
        for channel in range(images.shape[1]):
            count[channel] += torch.bincount(part[:, channel].reshape(-1), minlength=256)
    share = count / count.sum(dim=1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64)
    mean = share @ values
    std = (share @ values.square() - mean.square()).clamp_min(0).sqrt()
    return mean.float(), torch.where(std > 0, std, torch.ones_like(std)).float()


def digest_of(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a state dict: names, shapes and bytes."""
    import hashlib

    found = hashlib.sha256()
    for name, value in sorted(state.items()):
        found.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _initialize(net: nn.Module, stream: torch.Generator, init: str) -> None:
    """Draw every weight and bias.

    ``pytorch`` is uniform from ±1/√fan_in, PyTorch's own rule for these layers, ``glorot`` uniform from
    ±√(6/(fan_in + fan_out)), ``he`` normal of deviation √(2/fan_in); biases of the last two are zero.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            bound = 1.0 / math.sqrt(layer.weight[0].numel())
            with torch.no_grad():
                if init == "glorot":
                    nn.init.xavier_uniform_(layer.weight, generator=stream)
                elif init == "he":
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=stream)
                else:
                    layer.weight.uniform_(-bound, bound, generator=stream)
                if layer.bias is not None:
                    layer.bias.uniform_(-bound, bound, generator=stream) if init == "pytorch" else layer.bias.zero_()
