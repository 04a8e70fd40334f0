"""A trained network as it is: a file of weights, and the network that the caller names. Nothing in the file is run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import psutil
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from kdops.config.architectures import FunctionNet, TorchvisionNet
from kdops.config.sources import SAFETENSORS, NormalizedBy, WeightsFile
from kdops.data.dataset import Dataset
from kdops.data.memmap import load_rows
from kdops.errors import UsageError
from kdops.models.classifier import Classifier, build, pixel_statistics
from kdops.models.torchvision import RESNETS, load_torchvision
from kdops.store.faults import first_line
from kdops.utils.random import as_global_rng, named_generator

WITHIN = ("state_dict", "model_state_dict", "model", "module")
"""Names under which checkpoints keep the weights."""
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
"""What wrappers, such as those for several GPUs or compiled networks, put before every name."""
AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")
"""Weights of outputs that only help training."""
WHOLE = (
    "holds more than weights, and kdops does not open what may run code; save the weights alone: "
    "torch.save(model.state_dict(), 'teacher.pt')"
)


class Logits(nn.Module):
    """A network that returns its logits, whatever else it gives.

    Args:
        net: returns logits, a dictionary with ``logits``, or an object with ``.logits``.
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[N, classes]`` of images ``[N, C, H, W]``."""
        given = self.net(images)
        if isinstance(given, Mapping):
            return given["logits"]
        return getattr(given, "logits", given)


def load_weights_file(file: WeightsFile, data: Dataset) -> nn.Module:
    """Load a trained network: uint8 images to logits, in ``eval()`` and without gradients.

    Args:
        file: the file, the network and what it is given.
        data: whose images and classes it is for.

    Raises:
        UsageError: the file or the network cannot be used, or the weights are not of this network.
    """
    net = build_network(file, data, read_tensors(file.path))
    return Logits(normalized(net, data, file.normalize)).eval().requires_grad_(False)


def load_classifier_file(file: WeightsFile, data: Dataset) -> Classifier:
    """Load a trained network as kdops builds it, in ``eval()``, so that it can be stored and built again.

    Args:
        file: the file, the network and what it is given.
        data: whose images and classes it is for.

    Raises:
        UsageError: the file or the network cannot be used, or the weights are not of this network as kdops builds it.
    """
    given = normalized(nn.Identity(), data, file.normalize)
    mean, std = given.mean.reshape(-1), given.std.reshape(-1)
    try:
        found = build(file.network, data.shape, len(data.classes), mean, std)
    except UsageError as error:
        raise UsageError("source_model", file.network, error.allowed) from error
    _fill(_innermost(found.net, file), read_tensors(file.path), file, len(data.classes))
    return found.eval()


def normalized(net: nn.Module, data: Dataset, normalize: NormalizedBy) -> Classifier:
    """Return a network of normalized floats as one of uint8 images.

    Args:
        data: whose images that are not test images are measured where nothing else is given.
        normalize: what the network was trained to see.

    Raises:
        UsageError: there are means for another number of channels.
    """
    channels = data.shape[0]
    if not normalize.mean:
        rows = np.flatnonzero(~data.test)
        return Classifier(net, *pixel_statistics(load_rows(data.images, rows, psutil.virtual_memory().available)))
    if len(normalize.mean) not in (1, channels):
        problem = f"has {len(normalize.mean)} means, and the images of {data.name} have {channels} channels"
        raise UsageError("source_normalize", normalize.text, problem)
    mean, std = (255 * torch.tensor(values).expand(channels) for values in (normalize.mean, normalize.std))
    return Classifier(net, mean, std)


def read_tensors(path: str) -> dict[str, Tensor]:
    """Read a file of weights without running anything; those of a checkpoint are found within it.

    Raises:
        UsageError: it is not there, or holds something else.
    """
    if not Path(path).expanduser().is_file():
        raise UsageError("source", path, "there is no such file")
    try:
        if path.lower().endswith(SAFETENSORS):
            return load_file(Path(path).expanduser())
        found = torch.load(Path(path).expanduser(), map_location="cpu", weights_only=True)
    except Exception as error:
        reason = first_line(error, 200)
        is_code = "weights_only" in str(error) or "TorchScript" in str(error) or "Unsupported" in str(error)
        kind = SAFETENSORS if path.lower().endswith(SAFETENSORS) else "PyTorch"
        # The reason may be a number alone, such as the byte that was found.
        problem = f"is no file of {kind}, or a damaged one" + (f" ({reason})" if " " in reason else "")
        raise UsageError("source", path, WHOLE if is_code else problem) from error
    for name in WITHIN:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    items = found.items() if isinstance(found, Mapping) else ()
    if not items or not all(isinstance(name, str) and isinstance(one, Tensor) for name, one in items):
        raise UsageError("source", path, f"holds no weights by name; {WHOLE.partition('; ')[2]}")
    return dict(found)


def build_network(file: WeightsFile, data: Dataset, weights: Mapping[str, Tensor]) -> nn.Module:
    """Build the network of a file from normalized floats to what it gives, and load its weights.

    Raises:
        UsageError: it cannot be built, or the weights are those of another one.
    """
    network, classes = file.network, len(data.classes)

    def fill(net: nn.Module) -> None:
        _fill(net, weights, file, classes)

    try:
        with as_global_rng(named_generator("to be loaded")):
            if isinstance(network, TorchvisionNet) and not _is_for_small_images(network, weights):
                return load_torchvision(network, data.shape, classes, fill)
        one = torch.ones(data.shape[0])
        net = build(network, data.shape, classes, one, one).net
    except UsageError as error:
        if error.parameter != "architecture":
            raise
        raise UsageError("source_model", network, error.allowed) from error
    fill(_innermost(net, file))
    return net


def _innermost(net: nn.Module, file: WeightsFile) -> nn.Module:
    """Return the network that weights are of: torchvision's own, without the part that resizes images."""
    resizes = isinstance(file.network, TorchvisionNet) and isinstance(net, nn.Sequential)
    return net.get_submodule("1") if resizes else net


def file_digest(path: str) -> str:
    """Return the SHA-256 of a file."""
    with Path(path).expanduser().open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_for_small_images(network: TorchvisionNet, weights: Mapping[str, Tensor]) -> bool:
    """Return whether weights are of a ResNet for small images, see :mod:`kdops.models.torchvision`."""
    first = next((own for name, own in weights.items() if name.endswith("conv1.weight")), torch.empty(0))
    return network.name.startswith(RESNETS) and tuple(first.shape[2:]) == (3, 3)


def _fill(net: nn.Module, weights: Mapping[str, Tensor], file: WeightsFile, classes: int) -> None:
    """Load weights into a network, by name.

    Raises:
        UsageError: names differ, or shapes.
    """
    wanted = net.state_dict()
    given = dict(weights)
    while prefix := next((one for one in PREFIXES if all(name.startswith(one) for name in given)), ""):
        if not given or any(name.startswith(prefix) for name in wanted):
            break
        given = {name.removeprefix(prefix): own for name, own in given.items()}
    given = {name: own for name, own in given.items() if not name.startswith(AUXILIARY) or name in wanted}
    if {"mean", "std"} <= given.keys() and not {"mean", "std"} & wanted.keys():
        problem = (
            "is of a model of kdops, with its normalization: name that by source=models:/NAME/VERSION, or drop mean"
        )
        raise UsageError("source", file.path, f"{problem} and std from the file and give them as source_normalize")
    optional = {name for name in wanted if name.endswith("num_batches_tracked")}
    called = f"{file.network}" if isinstance(file.network, FunctionNet) else f"{file.network} for {classes} classes"
    for first, other, words in ((wanted, given, f"lacks {{}} of {called}"), (given, wanted, f"has {{}}, not {called}")):
        if names := [name for name in first if name not in other and name not in optional]:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise UsageError("source", file.path, words.format(f"{names[0]}{more}"))
    for name, own in given.items():
        if own.shape != wanted[name].shape:
            shapes = f"{list(own.shape)}, and {called} has {list(wanted[name].shape)}"
            raise UsageError("source", file.path, f"has {name} {shapes}")
    net.load_state_dict(given, strict=False)
