"""What an engine is: it carries out orders. One file here with one class, and one line in ``kdops.config.engines``.

An order (:mod:`kdops.training.order`) is one pass of training as plain values. The arrays that it needs, such as images
and a source's outputs for them, it names by digest; an engine is given each of them once. :func:`perform` is all that
carries out an order: it trains, measures and returns the weights, without MLflow and without the store, in whichever
process.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psutil
import torch
from safetensors.torch import load
from torch import Tensor

from kdops.config.architectures import parse_architecture
from kdops.config.companies import parse_company
from kdops.config.engines import AUTO_WORKERS, ENGINES, engine_parts
from kdops.config.methods import parse_method
from kdops.config.settings import HARD
from kdops.data.memmap import Pixels, load_rows
from kdops.distillation.company import build_company
from kdops.distillation.method import build_method
from kdops.distillation.sources import Asked, Kept, KeptViews, Live
from kdops.models.classifier import Classifier, build
from kdops.models.taps import features_of
from kdops.sweeps.metrics import (
    METHOD_BYTES,
    METHOD_PARAMETERS,
    SOURCE_AGREEMENT,
    TRAIN_KL,
    TRAIN_LOSS,
    TRAIN_PEAK_BYTES,
    TRAIN_SECONDS,
)
from kdops.sweeps.model import COPY_SEEDS
from kdops.training.activity import measure_units
from kdops.training.checkpoint import Checkpoint, checkpoint_path
from kdops.training.company import train_company
from kdops.training.evaluation import agreement, compute_logits, measure
from kdops.training.feeds import asked_of
from kdops.training.groups import Group, Images, PassInputs
from kdops.training.history import Trained
from kdops.training.order import Done, Order, OrderGroup, SourceArrays, TrainedModel
from kdops.training.trainer import train_pass
from kdops.training.trials import TrialPlan, train_trials
from kdops.utils.hardware import num_threads
from kdops.utils.imports import load_place
from kdops.utils.peak_memory import PeakMemory
from kdops.utils.progress import Progress

__all__ = ["Engine", "Report", "build_engine", "held_by", "perform"]

Arrays = Mapping[str, np.ndarray]
"""Arrays by digest."""

HELD, HELD_EACH = 64, 4
"""Models that are done before an earlier order is, at least, and for each worker; see :func:`held_by`."""

Report = Callable[..., None]
"""Called with the progress of an order: (digest of the order, images passed, images in all), or also a note, a line of
what is to be said about it."""


class Engine(Protocol):
    """Carries out orders, here or elsewhere.

    Attributes:
        workers: how many orders are carried out at the same time.
    """

    workers: int

    def put(self, digest: str, array: np.ndarray) -> None:
        """Take an array that orders name; one that it has already is not taken again."""

    def run(self, orders: Iterable[Order], report: Report) -> Generator[Done, None, None]:
        """Carry out orders, and yield each result as soon as it is there, in any sequence.

        Closing the iterator cancels what is not done.

        Args:
            orders: asked for as there is room for them, and as long as fewer models are done than :func:`held_by`
                says that were asked for after one that is not; the arrays of each are there before it.
            report: called with the progress of each order.

        Raises:
            DivergenceError: a loss stopped being finite.
            UsageError: the networks lack what the method needs.
        """

    def close(self) -> None:
        """Release arrays and workers."""


def build_engine(text: str, workers: int = AUTO_WORKERS, device: str = "cpu") -> Engine:
    """Return a new engine of ``ENGINES``.

    Args:
        text: its name, ``name:address`` for a cluster that is there.
        workers: how many train; 0 for as many as there are GPUs, or one on the CPU.
        device: where they train, ``cpu`` or ``cuda``.
    """
    name, address = engine_parts(text)
    return load_place(ENGINES[name].place)(workers, device, *([address] if address else []))


def held_by(workers: int) -> int:
    """Return how many models may be done before an earlier order is; with so many no further order is asked for.

    Many workers leave many orders behind while one lasts long: with too few of them all wait for that one.
    """
    return max(HELD, HELD_EACH * workers)


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
        if order.trials:
            return _tried(order, arrays, progress)
        if order.asks:
            return _answered(order, arrays)
        with PeakMemory(order.device) as peak:
            trained = _trained(order, arrays, progress)
        return _measured(order, arrays, trained, peak.found)


def _trained(order: Order, arrays: Arrays, progress: Progress) -> Sequence[Trained]:
    inputs, checkpoint = _inputs(order, arrays), None
    if order.checkpoints:
        checkpoint = Checkpoint(checkpoint_path(Path(order.checkpoints), order.digest), order.digest, order.resume)
    how: dict[str, Any] = {"progress": progress, "checkpoint": checkpoint}
    if order.nets:
        nets, (group,) = [parse_architecture(net) for net in order.nets], order.groups
        seeds = [group.seed + COPY_SEEDS * place for place in range(len(nets))]
        company, temperature = build_company(parse_company(order.method)), group.temperatures[0]
        return train_company(order.recipe, nets, seeds, temperature, inputs, company, **how)
    groups = [_with_arrays(group, order, arrays, inputs.images.pixels) for group in order.groups]
    return train_pass(order.recipe, groups, inputs, build_method(parse_method(order.method)), **how)


def _tried(order: Order, arrays: Arrays, progress: Progress) -> Done:
    """Train the trials of a search."""
    plans = [
        TrialPlan(one.recipe, group.temperatures[0], build_method(parse_method(one.method)))
        for one, group in zip(order.trials, order.groups, strict=True)
    ]
    inputs = _inputs(order, arrays)
    # Those that share a source have the same object.
    each = {repr(group.source): group.source for group in order.groups}
    outputs = {key: _outputs(source, order, arrays, inputs.images.pixels) for key, source in each.items()}
    sources = [outputs[repr(group.source)] for group in order.groups]
    found = train_trials(plans, order.groups[0].seed, sources, inputs, progress=progress)
    ended = sorted(found, key=lambda one: one.number)
    models = tuple(TrainedModel({}, one.history, {}, one.seconds, one.ended) for one in ended)
    return Done(order.digest, models, time.time(), platform.node(), _device_name(order.device))


def _answered(order: Order, arrays: Arrays) -> Done:
    """Compute a source's logits."""
    began, source = time.monotonic(), order.groups[0].source
    net = _net(order, source.architecture, load(arrays[source.weights].tobytes()))
    logits = {
        part: compute_logits([net], _images(order, arrays, part).pixels, order.device)[0].cpu() for part in order.rows
    }
    model = TrainedModel(logits, {}, {}, time.monotonic() - began)
    return Done(order.digest, (model,), time.time(), platform.node(), _device_name(order.device))


def _inputs(order: Order, arrays: Arrays) -> PassInputs:
    given, validation = _images(order, arrays, "train"), _images(order, arrays, "validation")
    return PassInputs(order.role, given, validation, order.classes, _statistics(order), order.device, order.keep_epochs)


def _measured(order: Order, arrays: Arrays, trained: Sequence[Trained], peak: float) -> Done:
    finished = time.time()
    architectures = order.nets or [str(order.recipe.architecture)] * len(trained)
    nets = [_net(order, own, one.state) for own, one in zip(architectures, trained, strict=True)]
    parts = {"val": _images(order, arrays, "validation"), "test": _images(order, arrays, "test")}
    # The nets of a company are measured as each is trained, as if it were alone.
    together = [[net] for net in nets] if order.nets else [nets]
    logits = {
        part: torch.cat([compute_logits(own, images.pixels, order.device) for own in together])
        for part, images in parts.items()
    }
    models = []
    for place, (one, (group, t)) in enumerate(zip(trained, order.members, strict=True)):
        metrics = {
            **measure(logits["val"][place], parts["val"].labels, "val"),
            **measure(logits["test"][place], parts["test"].labels, "test"),
            **measure_units(nets[place], parts["val"].pixels, order.device),
            TRAIN_LOSS: one.train_loss[-1],
            **({TRAIN_KL: one.train_kl[-1]} if one.train_kl else {}),
            TRAIN_SECONDS: one.seconds,
            **({TRAIN_PEAK_BYTES: peak} if math.isfinite(peak) else {}),
            **{f"loss_{name}": values[-1] for name, values in one.terms.items() if not math.isnan(values[-1])},
        }
        if group.source.is_there and t != HARD:
            single = (group.source.logits, group.source.view_logits, group.source.weights)
            kept = (*filter(None, single), *group.source.features.values())
            metrics[METHOD_PARAMETERS] = one.beside
            metrics[METHOD_BYTES] = one.beside_bytes + sum(arrays[digest].nbytes for digest in kept)
        if group.source.test_logits and (t != HARD or group.predictions):
            metrics[SOURCE_AGREEMENT] = agreement(logits["test"][place], _tensor(arrays, group.source.test_logits))
        models.append(TrainedModel(one.state, one.history, metrics, one.seconds, kept=one.kept))
    return Done(order.digest, tuple(models), finished, platform.node(), _device_name(order.device))


def _device_name(device: str) -> str:
    if device == "mps":
        return device
    return torch.cuda.get_device_name() if device == "cuda" else f"cpu {torch.backends.cpu.get_cpu_capability()}"


def _with_arrays(group: OrderGroup, order: Order, arrays: Arrays, pixels: Pixels) -> Group:
    """Return a group with its source's outputs themselves."""
    source = group.source
    if not source.is_there:
        return Group(group.seed, group.temperatures, None, group.own_order, bootstrap=order.bootstrap)
    labels = _tensor(arrays, source.logits).argmax(dim=1) if group.predictions else None
    outputs = _outputs(source, order, arrays, pixels)
    head = load(arrays[source.head].tobytes()) if source.head else {}
    return Group(group.seed, group.temperatures, outputs, group.own_order, labels, head, order.bootstrap)


def _outputs(source: SourceArrays, order: Order, arrays: Arrays, pixels: Pixels) -> Kept | Live | KeptViews | Asked:
    """Return a source's outputs for the training images or their views."""
    if source.views:
        return KeptViews(_tensor(arrays, source.view_logits), source.views)
    if not source.weights:
        features = {tap: _tensor(arrays, own) for tap, own in source.features.items()}
        return Kept(_tensor(arrays, source.logits), features)
    net = _net(order, source.architecture, load(arrays[source.weights].tobytes())).to(order.device)
    if source.asks:
        return asked_of(net)
    seen, method = pixels.to(order.device), build_method(parse_method(order.method))

    def computed(chosen: Tensor) -> dict[str, Tensor]:
        found = features_of(net, seen[chosen], source.live)
        return {tap: method.reduced(values) for tap, values in found.items()}

    return Live(_tensor(arrays, source.logits), computed)


def _images(order: Order, arrays: Arrays, part: str) -> Images:
    rows = arrays[order.rows[part]]
    labels = torch.from_numpy(np.array(arrays[order.labels][rows]))
    more = arrays[order.unlabeled] if order.unlabeled else None
    return Images(load_rows(arrays[order.images], rows, psutil.virtual_memory().available, more), labels)


def _net(order: Order, architecture: str, state: Mapping[str, Tensor]) -> Classifier:
    net = build(parse_architecture(architecture), order.shape, order.classes, *_statistics(order))
    net.load_state_dict(dict(state))
    return net.eval()


def _statistics(order: Order) -> tuple[Tensor, Tensor]:
    return torch.tensor(order.mean), torch.tensor(order.std)


def _tensor(arrays: Arrays, digest: str) -> Tensor:
    return torch.from_numpy(arrays[digest])
