"""torchvision's classification models, fitted to the images and classes of a data set.

The first convolution takes the data's channels and the last layer has its classes. These models are made for images
of 224 pixels a side; small images would be pooled away, so

- a ResNet (``resnet``, ``resnext``, ``wide_resnet``) for images with a side below 64 pixels starts with a 3x3
  convolution of stride 1 and without max pooling, as He et al., "Deep Residual Learning", 2015, have it for CIFAR-10;
- any other model enlarges images with a side below 64 pixels (``inception_v3``: 96), bilinearly and keeping their form;
- vision transformers and ``maxvit_t`` take one size only, to which every image is resized.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from kdops.config.architectures import TorchvisionNet
from kdops.errors import KdopsError, UsageError
from kdops.utils.quiet import without_warning

SMALL = 64
"""Images with a side below this are small."""

RESNETS = ("resnet", "resnext", "wide_resnet")
SMALLEST = {"inception_v3": 96}
"""The shortest side that a model can take, where ``SMALL`` is not enough."""

ONE_SIZE = {"maxvit_t": 224}
WITH_AUXILIARY = ("googlenet", "inception_v3")
"""Models with outputs that only help training."""
TRAINED_ON = 1000
"""Classes of the weights that torchvision offers."""


def build_torchvision(
    architecture: TorchvisionNet, shape: tuple[int, int, int], classes: int, pretrained: bool
) -> nn.Module:
    """Build a model; random values are drawn from PyTorch's global random state.

    Where it is to be ``pretrained`` it has the weights that the architecture asks for, if it does.

    Raises:
        UsageError: there is no such model, or its weights cannot be had.
    """
    name = architecture.name
    net = _model(architecture, pretrained and architecture.pretrained)
    _take_channels(net, shape[0])
    _give_classes(net, classes)
    if not name.startswith(RESNETS):
        return _resizing(name, net, SMALL)
    if min(shape[1:]) < SMALL:
        net.conv1 = _convolution(cast(nn.Conv2d, net.conv1), shape[0], kernel_size=3, stride=1, padding=1)
        net.maxpool = nn.Identity()
    return net


def load_torchvision(
    architecture: TorchvisionNet, shape: tuple[int, int, int], classes: int, fill: Callable[[nn.Module], None]
) -> nn.Module:
    """Build a model as torchvision has it, to be given the weights that somebody trained.

    Raises:
        UsageError: there is no such model.
    """
    drawn = {"init_weights": False} if architecture.name in WITH_AUXILIARY else {}
    net = _model(architecture, pretrained=False, num_classes=classes, **drawn)
    _take_channels(net, shape[0])
    fill(net)
    return _resizing(architecture.name, net, 1)


class Resized(nn.Module):
    """Resizes images bilinearly: to ``side`` squared where there is one, else only if a side is below ``smallest``."""

    def __init__(self, side: int | None, smallest: int):
        super().__init__()
        self.side, self.smallest = side, smallest

    def forward(self, images: Tensor) -> Tensor:
        """Return images ``[N, C, H, W]`` of the size that the network takes."""
        height, width = images.shape[2:]
        size = (self.side, self.side) if self.side else (height, width)
        if not self.side and min(height, width) < self.smallest:
            # Whole numbers, rounded up: the shorter side becomes exactly the smallest.
            short = min(height, width)
            size = (-(-height * self.smallest // short), -(-width * self.smallest // short))
        if size == (height, width):
            return images
        return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=False)


def _model(architecture: TorchvisionNet, pretrained: bool, **options: object) -> nn.Module:
    """Return a model as torchvision has it, without the outputs that only help training: it returns one tensor."""
    from torchvision import models

    names = models.list_models(module=models)
    if architecture.name not in names:
        problem = f"torchvision has no such classifier; there are {', '.join(names)}"
        raise UsageError("architecture", architecture, problem)
    if architecture.name in WITH_AUXILIARY:
        options["aux_logits"] = False
    with without_warning():
        weights = _weights(architecture) if pretrained else None
        net = models.get_model(architecture.name, weights=weights, **options)
    if hasattr(net, "transform_input"):
        net.transform_input = False
    return net


def _resizing(name: str, net: nn.Module, smallest: int) -> nn.Module:
    """Return a model that resizes images to the size that it takes, and enlarges those with a side below another."""
    side = ONE_SIZE.get(name) or getattr(net, "image_size", None)
    smallest = max(smallest, SMALLEST.get(name, smallest))
    return nn.Sequential(Resized(side, smallest), net) if side or smallest > 1 else net


def _weights(architecture: TorchvisionNet):
    """Return the default weights of a model, downloaded; they are read without pickle."""
    from torchvision import models

    weights = models.get_model_weights(architecture.name).DEFAULT
    try:
        weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError, ValueError) as error:
        # It may fail on its way here, on the disk, or by another digest than it should have.
        problem = f"its weights cannot be downloaded from {weights.url}: {' '.join(str(error).split())[:200]}"
        raise KdopsError(f"{architecture}: {problem}") from error
    return weights


def _take_channels(net: nn.Module, channels: int) -> None:
    """Replace the first convolution where the images have other channels."""
    first, convolution = next((name, part) for name, part in net.named_modules() if isinstance(part, nn.Conv2d))
    if channels != 3:
        _replace(net, first, _convolution(convolution, channels))


def _give_classes(net: nn.Module, classes: int) -> None:
    """Replace the last layer."""
    (*_, (last, old)) = (
        (name, part)
        for name, part in net.named_modules()
        if (isinstance(part, nn.Linear) and part.out_features == TRAINED_ON)
        or (isinstance(part, nn.Conv2d) and part.out_channels == TRAINED_ON)
    )
    if isinstance(old, nn.Linear):
        _replace(net, last, nn.Linear(old.in_features, classes, bias=old.bias is not None))
    else:
        options = {name: getattr(old, name) for name in ("kernel_size", "stride", "padding")}
        _replace(net, last, nn.Conv2d(old.in_channels, classes, **options))


def _convolution(old: nn.Conv2d, channels: int, **changes: object) -> nn.Conv2d:
    """Return a convolution like another for images of other channels, drawn anew (He et al., 2015)."""
    options = {name: getattr(old, name) for name in ("kernel_size", "stride", "padding", "dilation")}
    new = nn.Conv2d(channels, old.out_channels, **{**options, **changes}, bias=old.bias is not None)
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    return new


def _replace(net: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(net.get_submodule(parent), last, part)
