"""What a caller names to distill from, as checked text: models by URI, with weights or without, or one file."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass

from kdops.config.architectures import Architecture, parse_architecture
from kdops.config.options import Real
from kdops.errors import UsageError

ONE = (
    "must be a model URI such as models:/name/3, models:/name@alias or runs:/id/name, or a file: weights "
    "(.safetensors, .pt, .pth) with source_model, or outputs (.npz, .safetensors)"
)
SEVERAL = "must be model URIs such as models:/name/3,models:/name@alias, all or none weighted as in 0.7*URI,0.3*URI"
TORCH_FILES = (".pt", ".pth")
SAFETENSORS, NUMPY = ".safetensors", ".npz"

NORMALIZATIONS = {
    "none": ((0.0,), (1 / 255,)),
    "unit": ((0.0,), (1.0,)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and standard deviation of pixels from 0 to 1; ``none`` leaves them from 0 to 255."""
DATA = "data"

_WEIGHT = Real(0, 1_000_000, open_low=True)
_PART = re.compile(r"(?:([^*]*)\*)?\s*((?:models|runs):/\S+)")


@dataclass(frozen=True)
class NormalizedBy:
    """What a network of others was trained to see.

    Attributes:
        text: ``data``, a name of ``NORMALIZATIONS``, or MEAN/STD.
        mean: of each channel of pixels from 0 to 1, or one for all; empty for those of the data.
        std: likewise the standard deviation.
    """

    text: str = DATA
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @classmethod
    def parse(cls, text: str) -> NormalizedBy:
        """Read the parameter ``source_normalize``.

        Raises:
            UsageError: it is neither a name nor as many means as deviations above zero.
        """
        if text == DATA:
            return cls()
        if text in NORMALIZATIONS:
            return cls(text, *NORMALIZATIONS[text])
        try:
            mean, std = (tuple(map(float, part.split(","))) for part in text.split("/"))
        except ValueError:
            mean, std = (), ()
        fits = len(mean) == len(std) and all(map(math.isfinite, (*mean, *std))) and all(one > 0 for one in std)
        if not mean or not fits:
            names = ", ".join((DATA, *NORMALIZATIONS))
            problem = f"must be one of {names}, or MEAN/STD of pixels from 0 to 1, such as 0.5,0.5,0.5/0.25,0.25,0.25"
            raise UsageError("source_normalize", text or "(empty)", problem)
        return cls(text, mean, std)


@dataclass(frozen=True)
class SourceModels:
    """Models by URI.

    Attributes:
        parts: the share and the URI of each; shares sum to 1.
        normalize: what a program that takes floats is given.
    """

    parts: tuple[tuple[float, str], ...]
    normalize: NormalizedBy = NormalizedBy()


@dataclass(frozen=True)
class WeightsFile:
    """The weights of a trained network.

    Attributes:
        path: the file.
        network: what it holds the weights of.
        normalize: what the network is given.
    """

    path: str
    network: Architecture
    normalize: NormalizedBy


@dataclass(frozen=True)
class OutputsFile:
    """Outputs for the images of a data set; the network itself is not needed.

    Attributes:
        path: the file.
    """

    path: str


Source = SourceModels | WeightsFile | OutputsFile


def parse_source(text: str, network: str = "", normalize: str = DATA) -> Source:
    """Read the parameters ``source``, ``source_model`` and ``source_normalize``.

    Raises:
        UsageError: they name no source, or do not go together; a weight is not above zero, or one is named twice.
    """
    if not text.isprintable():
        raise UsageError("source", repr(text), "must be printable")
    ending = os.path.splitext(text.lower())[1]
    given = NormalizedBy.parse(normalize)
    if re.match(r"(?:[^*]*\*)?\s*(?:models|runs):/", text) or ending not in (*TORCH_FILES, SAFETENSORS, NUMPY):
        if network:
            problem = "names the network of a file of weights, and source is no .safetensors, .pt or .pth"
            raise UsageError("source_model", network, problem)
        return SourceModels(_parse_models(text), given)
    if network and ending != NUMPY:
        return WeightsFile(text, parse_architecture(network, "source_model"), given)
    if network:
        raise UsageError("source_model", network, "is for weights (.safetensors, .pt, .pth); .npz holds outputs alone")
    if ending in TORCH_FILES:
        problem = "holds weights: name the network with source_model=module:function or source_model=torchvision:NAME"
        raise UsageError("source", text, problem)
    if given != NormalizedBy():
        raise UsageError("source_normalize", normalize, "is for networks; stored outputs need none")
    return OutputsFile(text)


def _parse_models(text: str) -> tuple[tuple[float, str], ...]:
    parts = text.split(",")
    matches = [match for part in parts if (match := _PART.fullmatch(part.strip()))]
    if len(matches) < len(parts) or len({match[1] is None for match in matches}) > 1:
        raise UsageError("source", text, ONE if len(parts) == 1 else SEVERAL)
    weights = [1.0 if match[1] is None else _weight(match[1].strip(), text) for match in matches]
    uris = [match[2] for match in matches]
    if len(set(uris)) < len(uris):
        raise UsageError("source", text, "names a model twice; give it a greater weight instead")
    return tuple((weight / math.fsum(weights), uri) for weight, uri in zip(weights, uris, strict=True))


def _weight(written: str, text: str) -> float:
    try:
        return _WEIGHT.read(written)
    except ValueError:
        advice = f"the weight {written or '(empty)'} must be a number above 0, such as 0.7"
        raise UsageError("source", text, advice) from None
