"""What an engine is: it carries out orders. One file here with one class, and one line in ``kdops.config.engines``.

An :class:`Order` is one pass of training as plain values. The arrays that it needs, such as images and what a source
gives for them, it names by digest; an engine is given each of them once. :func:`perform` is all that carries out an
order: it trains, measures and returns the weights, without MLflow and without the store, in whichever process.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import psutil
import torch
from safetensors.torch import load, save
from torch import Tensor

from kdops.config.architectures import parse_architecture
from kdops.config.engines import ENGINES
from kdops.config.methods import parse_method
from kdops.config.recipes import Recipe
from kdops.config.settings import HARD
from kdops.data.memmap import Pixels, load_rows
from kdops.distillation.method import build_method
from kdops.distillation.sources import Kept, Live
from kdops.errors import KdopsError
from kdops.models.classifier import Classifier, build
from kdops.models.taps import features_of
from kdops.sweeps.fingerprint import code_digest
from kdops.sweeps.metrics import SOURCE_AGREEMENT, TRAIN_LOSS, TRAIN_SECONDS, VAL_ACCURACY, VAL_NLL
from kdops.training.checkpoint import Checkpoint, checkpoint_path
from kdops.training.evaluation import agreement, compute_logits, measure
from kdops.training.trainer import Group, Images, Trained, train_pass
from kdops.utils.hardware import num_threads
from kdops.utils.imports import load_place
from kdops.utils.progress import Progress

__all__ = [
    *("Done", "Engine", "Order", "OrderGroup", "SourceArrays", "Tell", "TrainedModel"),
    *("build_engine", "pack", "perform"),
]

Arrays = Mapping[str, np.ndarray]
"""Arrays by digest."""

Tell = Callable[..., None]
"""Called with the progress of an order: (digest of the order, images passed, images in all)."""


@dataclass(frozen=True)
class SourceArrays:
    """What a group learns from; all empty where it learns from labels alone.

    Attributes:
        logits: digest of the source's logits for the training images, float ``[N, classes]``.
        test_logits: digest of those for the test images.
        features: digest of its features for the training images by tap, ``[N, ...]``, where they are kept.
        live: taps whose features are computed for each batch instead.
        architecture: the network that computes these; empty where there is none.
        weights: digest of its weights, the bytes of a safetensors file as uint8.
    """

    logits: str = ""
    test_logits: str = ""
    features: Mapping[str, str] = field(default_factory=dict)
    live: tuple[str, ...] = ()
    architecture: str = ""
    weights: str = ""


@dataclass(frozen=True)
class OrderGroup:
    """Members that share a batch order and a source, as :class:`~kdops.training.training_pass.Group` has them.

    Attributes:
        seed: the replicate.
        temperatures: one a member; 0 means hard labels.
        source: what they learn from.
        own_order: draw the batch order from the temperature too.
        predictions: they learn what the source predicts instead of the labels.
    """

    seed: int
    temperatures: tuple[float, ...]
    source: SourceArrays
    own_order: bool = False
    predictions: bool = False


@dataclass(frozen=True)
class Order:
    """One pass of training.

    Attributes:
        digest: of all that decides its result; its checkpoint and its result go by this.
        role: whose random streams the networks start from.
        recipe: architecture, epochs, batch size and rates.
        method: the full text of what the members at T > 0 learn.
        groups: who is trained.
        images: digest of the images of the data set, uint8 ``[N, C, H, W]``.
        labels: digest of their labels, int64 ``[N]``.
        rows: digests of the rows that ``train``, ``validation`` and ``test`` have, int64.
        shape: (channels, height, width) of an image.
        classes: number of classes.
        mean: of each channel, see :class:`~kdops.models.classifier.Classifier`.
        std: of each channel.
        device: where to train.
        threads: how many compute.
        checkpoints: the folder of checkpoints; empty to keep none.
        resume: whether to go on with a checkpoint that is there.
        code: digest of the code that decides the result, see :func:`~kdops.sweeps.fingerprint.code_digest`.
        torch: the version of PyTorch.
    """

    digest: str
    role: str
    recipe: Recipe
    method: str
    groups: tuple[OrderGroup, ...]
    images: str
    labels: str
    rows: Mapping[str, str]
    shape: tuple[int, int, int]
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: str
    threads: int
    checkpoints: str = ""
    resume: bool = True
    code: str = field(default_factory=code_digest)
    torch: str = field(default_factory=lambda: version("torch"))

    @property
    def members(self) -> list[tuple[OrderGroup, float]]:
        """Each network's group and temperature, in the sequence of the result."""
        return [(group, temperature) for group in self.groups for temperature in group.temperatures]

    def to_json(self) -> str:
        """Return the order as JSON."""
        return json.dumps({**asdict(self), "recipe": self.recipe.as_dict()})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the order that :meth:`to_json` wrote."""
        plain: dict[str, Any] = json.loads(text)
        recipe = plain["recipe"]
        plain["recipe"] = Recipe(**{**recipe, "architecture": parse_architecture(recipe["architecture"])})
        plain["groups"] = tuple(_group(one) for one in plain["groups"])
        plain |= {name: tuple(plain[name]) for name in ("shape", "mean", "std")}
        return cls(**plain)

    def check(self) -> None:
        """Refuse to train with other code, or another PyTorch, than the fingerprints of the models say.

        Raises:
            KdopsError: names both.
        """
        if self.torch != version("torch"):
            raise KdopsError(f"this worker has PyTorch {version('torch')}, the study has {self.torch}")
        if self.code != code_digest():
            told = f"{code_digest()[:12]}, the study has {self.code[:12]}"
            raise KdopsError(f"this worker has another kdops: its code has the digest {told}")


def _group(plain: dict[str, Any]) -> OrderGroup:
    source = SourceArrays(**{**plain["source"], "live": tuple(plain["source"]["live"])})
    return OrderGroup(**{**plain, "temperatures": tuple(plain["temperatures"]), "source": source})


@dataclass(frozen=True)
class TrainedModel:
    """One network of an order.

    Attributes:
        state: its weights, on the CPU.
        history: the metrics of each epoch by name.
        metrics: its final metrics by name.
        seconds: wall time of its training; its share of that of its pass.
    """

    state: dict[str, Tensor]
    history: Mapping[str, tuple[float, ...]]
    metrics: Mapping[str, float]
    seconds: float


@dataclass(frozen=True)
class Done:
    """An order that was carried out.

    Attributes:
        digest: of the order.
        models: its networks, group by group.
        finished: when the training ended, in seconds since the epoch.
    """

    digest: str
    models: tuple[TrainedModel, ...]
    finished: float

    def to_bytes(self) -> bytes:
        """Return the result as one file of safetensors, the plain values in its header."""
        tensors = {f"{number}.{name}": own for number, one in enumerate(self.models) for name, own in one.state.items()}
        plain = [replace(one, state={}) for one in self.models]
        told = {"digest": self.digest, "finished": self.finished, "models": [asdict(one) for one in plain]}
        return pack(tensors, {"done": json.dumps(told)})

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Return the result that :meth:`to_bytes` wrote."""
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        told = json.loads(header["__metadata__"]["done"])
        states: list[dict[str, Tensor]] = [{} for _ in told["models"]]
        for name, values in load(content).items():
            number, _, own = name.partition(".")
            states[int(number)][own] = values
        models = [
            TrainedModel(**{**one, "state": state, "history": {k: tuple(v) for k, v in one["history"].items()}})
            for one, state in zip(told["models"], states, strict=True)
        ]
        return cls(told["digest"], tuple(models), told["finished"])


def pack(tensors: Mapping[str, Tensor], told: dict[str, str] | None = None) -> bytes:
    """Return tensors as the bytes of a safetensors file; ``told`` is its header."""
    # Copies: what shares memory, as tied weights do, is refused.
    return save({name: values.contiguous().clone() for name, values in tensors.items()}, told)


class Engine(Protocol):
    """Carries out orders, here or elsewhere."""

    def put(self, digest: str, array: np.ndarray) -> None:
        """Take an array that orders name; one that it has already is not taken again."""

    def run(self, orders: Iterable[Order], tell: Tell) -> Generator[Done, None, None]:
        """Carry out orders, and yield each result as soon as it is there, in any sequence.

        Closing the iterator cancels what is not done.

        Args:
            orders: asked for as there is room for them; the arrays of each are there before it.
            tell: called with the progress of each order.

        Raises:
            DivergenceError: a loss stopped being finite.
            UsageError: the networks lack what the method needs.
        """

    def close(self) -> None:
        """Let go of arrays and workers."""


def build_engine(name: str) -> Engine:
    """Return a new engine of ``ENGINES``."""
    return load_place(ENGINES[name].place)()


def perform(order: Order, arrays: Arrays, progress: Progress) -> Done:
    """Carry out an order: train its networks, measure them, and return both.

    Args:
        order: what to train.
        arrays: those that it names.
        progress: called with (images passed, images in all), counted over its networks.

    Raises:
        DivergenceError: a loss stopped being finite; names the network.
        UsageError: the networks lack what the method needs.
        KdopsError: this is not the code, or not the PyTorch, that the order is for.
    """
    order.check()
    with num_threads(order.threads):
        return _measured(order, arrays, _trained(order, arrays, progress))


def _trained(order: Order, arrays: Arrays, progress: Progress) -> Sequence[Trained]:
    images = _images(order, arrays, "train")
    checkpoint = None
    if order.checkpoints:
        checkpoint = Checkpoint(checkpoint_path(Path(order.checkpoints), order.digest), order.digest, order.resume)
    return train_pass(
        order.role,
        order.recipe,
        [_with_arrays(group, order, arrays, images.pixels) for group in order.groups],
        images,
        _images(order, arrays, "validation"),
        order.classes,
        _statistics(order),
        build_method(parse_method(order.method)),
        device=order.device,
        progress=progress,
        checkpoint=checkpoint,
    )


def _measured(order: Order, arrays: Arrays, trained: Sequence[Trained]) -> Done:
    finished = time.time()
    nets = [_net(order, str(order.recipe.architecture), one.state) for one in trained]
    parts = [_images(order, arrays, part) for part in ("validation", "test")]
    val, test = (compute_logits(nets, part.pixels, order.device) for part in parts)
    models = []
    for place, (one, (group, t)) in enumerate(zip(trained, order.members, strict=True)):
        on_val, on_test = (measure(each[place], part.labels) for each, part in zip((val, test), parts, strict=True))
        metrics = {
            VAL_ACCURACY: on_val["accuracy"],
            VAL_NLL: on_val["nll"],
            **{f"test_{name}": value for name, value in on_test.items()},
            TRAIN_LOSS: one.train_loss[-1],
            TRAIN_SECONDS: one.seconds,
            **{f"loss_{name}": values[-1] for name, values in one.terms.items() if not math.isnan(values[-1])},
        }
        if group.source.test_logits and (t != HARD or group.predictions):
            metrics[SOURCE_AGREEMENT] = agreement(test[place], _tensor(arrays, group.source.test_logits))
        models.append(TrainedModel(one.state, one.history, metrics, one.seconds))
    return Done(order.digest, tuple(models), finished)


def _with_arrays(group: OrderGroup, order: Order, arrays: Arrays, pixels: Pixels) -> Group:
    """Return a group with its source's outputs themselves."""
    source = group.source
    if not source.logits:
        return Group(group.seed, group.temperatures, None, group.own_order)
    logits = _tensor(arrays, source.logits)
    labels = logits.argmax(dim=1) if group.predictions else None
    outputs: Kept | Live = Kept(logits, {tap: _tensor(arrays, own) for tap, own in source.features.items()})
    if source.live:
        net = _net(order, source.architecture, load(arrays[source.weights].tobytes())).to(order.device)
        seen = pixels.to(order.device)
        outputs = Live(logits, lambda chosen: features_of(net, seen[chosen], source.live))
    return Group(group.seed, group.temperatures, outputs, group.own_order, labels)


def _images(order: Order, arrays: Arrays, part: str) -> Images:
    rows = arrays[order.rows[part]]
    labels = torch.from_numpy(np.array(arrays[order.labels][rows]))
    return Images(load_rows(arrays[order.images], rows, psutil.virtual_memory().available), labels)


def _net(order: Order, architecture: str, state: Mapping[str, Tensor]) -> Classifier:
    net = build(parse_architecture(architecture), order.shape, order.classes, *_statistics(order))
    net.load_state_dict(dict(state))
    return net.eval()


def _statistics(order: Order) -> tuple[Tensor, Tensor]:
    return torch.tensor(order.mean), torch.tensor(order.std)


def _tensor(arrays: Arrays, digest: str) -> Tensor:
    return torch.from_numpy(arrays[digest])
