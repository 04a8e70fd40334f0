"""The networks of stored models, and their outputs for the images of a study: logits and features, computed once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.nn import Module

from kdops.config.architectures import Architecture, FunctionNet, parse_architecture
from kdops.config.augmentation import LIVE
from kdops.config.recipes import Recipe
from kdops.data.cache import allocate
from kdops.data.dataset import Dataset
from kdops.data.memmap import IN_MEMORY, Pixels, load_rows
from kdops.data.splits import Split
from kdops.data.views import Views, key_of_views
from kdops.distillation.method import Method
from kdops.distillation.sources import Asked, Kept, KeptViews, Mixture, RowOutputs, averaged
from kdops.errors import UsageError
from kdops.models.classifier import Classifier, build, pixel_statistics
from kdops.models.size import network_size
from kdops.models.taps import check_taps, features_of
from kdops.sweeps.model import COPY_SEEDS, Model
from kdops.sweeps.params import CODE
from kdops.training.evaluation import compute_logits, measure
from kdops.training.feeds import asked_of
from kdops.training.groups import Images
from kdops.utils.hardware import num_threads, process_threads
from kdops.utils.memory import malloc_keeps_pages

BLOCK = 512
"""Images at a time, which bounds the memory."""


class Networks:
    """The networks that the models of a study are distilled from, or vote with.

    Args:
        device: where networks of kdops are computed.
        load_weights: reads the weights of a stored model.
        load_program: reads a stored model as a program, which needs none of the code that it was written in.
        named: the architectures that the caller names; the code of any other, which a stored run names, is not
            imported.
    """

    def __init__(
        self,
        data: Dataset,
        split: Split,
        device: str,
        load_weights: Callable[[Model], dict[str, Tensor]],
        load_program: Callable[[Model], Module],
        named: Collection[Architecture] = (),
    ):
        self.data, self.split, self.device = data, split, device
        self.load_weights, self.load_program, self.named = load_weights, load_program, named
        # Test and validation images have no part in the normalization.
        seen = np.union1d(split.teacher, np.concatenate(split.transfers))
        with num_threads(process_threads()):
            self.statistics = pixel_statistics(self.pixels(seen))
        self._external: dict[str, Module] = {}
        """The networks that kdops did not build, by URI."""
        self._weights: dict[str, Mapping[str, Tensor]] = {}
        self._outputs: dict[tuple[str, ...], Tensor] = {}
        self._seen: dict[tuple[str, ...], KeptViews | Asked] = {}

    def adopt(self, model: Model, network: Module) -> None:
        """Use a network that kdops did not build as that of a model."""
        self._external[model.uri] = network

    def keep(self, model: Model, weights: Mapping[str, Tensor]) -> None:
        """Keep the weights of a model that was just stored, since it may be a source next."""
        self._weights[model.uri] = weights

    def build(self, architecture: Architecture) -> Classifier:
        """Return a network as it is before it is trained; its values mean nothing."""
        return build(architecture, self.data.shape, len(self.data.classes), *self.statistics)

    def with_weights(self, architecture: Architecture, weights: Mapping[str, Tensor]) -> Classifier:
        """Return a network with its weights, in ``eval()``."""
        net = self.build(architecture)
        net.load_state_dict(dict(weights))
        return net.eval()

    def of(self, model: Model) -> Module:
        """Return the network of a stored model, in ``eval()``."""
        if model.uri in self._external:
            return self._external[model.uri]
        architecture = parse_architecture(model.architecture)
        if model.uri not in self._weights and not self._is_code_of(model, architecture):
            self._external[model.uri] = self.load_program(model)
            return self._external[model.uri]
        return self.with_weights(architecture, self.weights_of(model))

    def weights_of(self, model: Model) -> Mapping[str, Tensor]:
        """Return the weights of a stored model that kdops built."""
        if model.uri not in self._weights:
            self._weights[model.uri] = self.load_weights(model)
        return self._weights[model.uri]

    def logits(self, models: Sequence[Model], rows: np.ndarray) -> Tensor:
        """Return the logits ``[models, images, classes]`` of stored models of one architecture on some images."""
        nets = [net for net in map(self.of, models) if isinstance(net, Classifier)]
        if len(nets) < len(models):
            raise ValueError("the models must all be networks that kdops built")
        with num_threads(process_threads()):
            return compute_logits(nets, self.pixels(rows), self.device)

    def logits_of(self, model: Model, rows: np.ndarray, part: str) -> Tensor:
        """Return a model's logits ``[images, classes]``, computed once for each model and part."""
        key = (model.weights, part)
        if key not in self._outputs:
            net = self.of(model)
            ours = isinstance(net, Classifier)
            self._outputs[key] = self.logits([model], rows)[0] if ours else self._external_logits(net, rows)
        return self._outputs[key]

    def keep_logits(self, model: Model, part: str, logits: Tensor) -> None:
        """Keep a model's logits ``[images, classes]`` that were computed elsewhere."""
        self._outputs[model.weights, part] = logits

    def is_unasked(self, model: Model, part: str) -> bool:
        """Return whether a model's logits are not known, and its architecture and weights are all that they take."""
        is_own = isinstance(self.of(model), Classifier) and model.uri not in self._external
        return is_own and (model.weights, part) not in self._outputs

    def knows(self, model: Model, rows: np.ndarray) -> bool:
        """Return whether a model has outputs for some images; those that were stored may be of others only."""
        return _knows(self.of(model), rows)

    def averaged_logits(self, model: Model, rows: np.ndarray, part: str, temperature: float) -> Tensor:
        """Return the joint outputs of several sources at a temperature; on hard labels it has no part."""
        key, net = (model.weights, part, "each"), self.of(model)
        assert isinstance(net, Mixture)
        if key not in self._outputs:
            self._outputs[key] = torch.stack([self._external_logits(one, rows).float() for one in net.members])
        return averaged(self._outputs[key], net.shares, temperature or 1.0)

    @torch.no_grad()
    def view_logits(self, model: Model, views: Views, count: int, temperature: float) -> Tensor:
        """Return a source's logits for each view of the training images, ``[count, images, classes]``.

        Raises:
            UsageError: its outputs were stored, for the images themselves.
        """
        net = self.of(model)
        _refuse_stored(net, model)
        found = []
        with num_threads(process_threads()):
            for view in range(count):
                views.enter(view)
                seen = map(views.at, torch.arange(len(views)).split(BLOCK))
                found.append(torch.cat([self._ask(net, images, temperature) for images in seen]))
        return torch.stack(found)

    def seen(self, model: Model, rows: np.ndarray, recipe: Recipe, seed: int, temperature: float) -> KeptViews | Asked:
        """Return a source's outputs for what students see of some images that a recipe augments, made once.

        Args:
            model: the source.
            rows: the images.
            recipe: how they are augmented, and how many views there are.
            seed: the replicate.
            temperature: of the students; only of several sources the outputs differ by it.

        Raises:
            UsageError: the source cannot be asked about views.
        """
        joint = temperature if isinstance(self.of(model), Mixture) else 1.0
        replicate = seed % COPY_SEEDS
        views_of = key_of_views(recipe.augment, replicate)
        key = (model.weights, digest_of_rows(rows), views_of, recipe.views, f"{joint:g}")
        if key not in self._seen:
            if recipe.views == LIVE:
                self._seen[key] = asked_of(self.check_live(model).to(self.device))
            else:
                views = Views(recipe.augment, self.pixels(rows), replicate)
                self._seen[key] = KeptViews(self.view_logits(model, views, int(recipe.views), joint), views.key)
        return self._seen[key]

    def check_live(self, model: Model) -> Classifier:
        """Return the network of a source that is to be asked in each step.

        Raises:
            UsageError: it is no network of kdops.
        """
        net = self.of(model)
        _refuse_stored(net, model)
        if not isinstance(net, Classifier):
            problem = f"the source {model.uri} is no network of kdops, so its outputs are kept: give views=4"
            raise UsageError("views", LIVE, problem)
        return net

    def _ask(self, net: Module, images: Tensor, temperature: float) -> Tensor:
        """Return a network's logits for some images; of several networks their joint ones at a temperature."""
        if isinstance(net, Mixture):
            return averaged(net.each(images), net.shares, temperature or 1.0)
        return compute_logits([net], images, self.device)[0] if isinstance(net, Classifier) else net(images)

    def kept_at(self, model: Model, rows: np.ndarray, part: str, temperatures: Sequence[float]) -> list[Kept]:
        """Return a source's logits at each temperature; only of several sources they are another thing at each."""
        if not isinstance(self.of(model), Mixture):
            return [Kept(self.logits_of(model, rows, part))] * len(temperatures)
        found = {t: Kept(self.averaged_logits(model, rows, part, t)) for t in set(temperatures)}
        return [found[t] for t in temperatures]

    @torch.no_grad()
    def features_of(self, model: Model, rows: np.ndarray, part: str, tap: str, method: Method) -> Tensor:
        """Return what a method keeps of a model's features on some images, computed once.

        What takes more than a quarter of the free memory lies in a file, which goes with the process.
        """
        key = (model.weights, part, tap, method.reduction)
        if key not in self._outputs:
            net, pixels = self.of(model), self.pixels(rows)
            assert isinstance(net, Classifier)
            found: np.ndarray | None = None
            with num_threads(process_threads()), malloc_keeps_pages():
                for start in range(0, len(rows), BLOCK):
                    own = method.reduced(features_of(net, pixels[start : start + BLOCK], (tap,))[tap]).numpy()
                    found = _room_for((len(rows), *own.shape[1:])) if found is None else found
                    found[start : start + BLOCK] = own
            assert found is not None
            self._outputs[key] = torch.from_numpy(found)
        return self._outputs[key]

    def feature_shapes(self, model: Model, method: Method) -> dict[str, tuple[int, ...]]:
        """Return the shape of what a method keeps of a model at each tap for one image.

        Raises:
            UsageError: the model is no network of kdops, or lacks a tap.
        """
        net, taps = self.of(model), method.needs.source
        if not isinstance(net, Classifier):
            raise logits_only(model)
        check_taps(net, taps, "source")
        found = features_of(net, self.pixels(np.arange(1))[:1], taps)
        return {tap: tuple(method.reduced(own).shape[1:]) for tap, own in found.items()}

    def measure(self, network: Module) -> dict[str, float]:
        """Measure a network that kdops did not build, on the validation and the test images that it knows."""
        found: dict[str, float] = {}
        for prefix, rows in (("val", self.split.validation), ("test", self.split.test)):
            if not _knows(network, rows):
                continue
            found |= measure(self._external_logits(network, rows), self.images(rows).labels, prefix)
        return found

    def images(self, rows: np.ndarray) -> Images:
        """Return some images of the data set with their labels."""
        return Images(self.pixels(rows), torch.from_numpy(np.array(self.data.labels[rows])))

    @torch.no_grad()
    def _external_logits(self, net: Module, rows: np.ndarray) -> Tensor:
        if isinstance(net, RowOutputs):
            return net(torch.from_numpy(np.array(rows)))
        if isinstance(net, Mixture):
            each = [self._external_logits(one, rows).float() for one in net.members]
            return averaged(torch.stack(each), net.shares, 1.0)
        with num_threads(process_threads()), malloc_keeps_pages():
            return torch.cat([net(self.pixels(rows[i : i + BLOCK])) for i in range(0, len(rows), BLOCK)])

    def _is_code_of(self, model: Model, architecture: Architecture) -> bool:
        """Return whether the code that a stored model was written in is here and is still the same."""
        if architecture.is_counted:
            return True
        if isinstance(architecture, FunctionNet) and architecture not in self.named:
            return False
        try:
            now = network_size(architecture, self.data.shape, len(self.data.classes)).code
        except UsageError:
            return False
        return now == model.params.get(CODE)

    def pixels(self, rows: np.ndarray) -> Pixels:
        """Return some images of the data set, those without labels by the rows behind its own."""
        more = self.data.unlabeled.images if self.data.unlabeled else None
        return load_rows(self.data.images, rows, psutil.virtual_memory().available, more)


def _knows(net: Module, rows: np.ndarray) -> bool:
    parts = net.members if isinstance(net, Mixture) else [net]
    return all(not isinstance(one, RowOutputs) or bool(one.knows(rows).all()) for one in parts)


def _refuse_stored(net: Module, model: Model) -> None:
    """Refuse outputs that were stored where views are asked about. Raises UsageError if some of them are."""
    if any(isinstance(one, RowOutputs) for one in (net.members if isinstance(net, Mixture) else [net])):
        advice = "give augment=none for the student, or name the network as its source"
        raise UsageError("augment", model.uri, f"outputs were stored for the images as they are; {advice}")


def _room_for(shape: tuple[int, ...]) -> np.ndarray:
    """Return room for float32 values: in memory, or where they would take too much of it in a file."""
    if 4 * math.prod(shape) <= IN_MEMORY * psutil.virtual_memory().available:
        return np.empty(shape, np.float32)
    found = allocate(shape, np.float32)
    if isinstance(found, np.memmap):
        # The map keeps the file, also once its name is gone; on Windows the name stays, and is cleared later.
        with suppress(OSError):
            Path(str(found.filename)).unlink()
    return found


def digest_of_rows(rows: np.ndarray) -> str:
    """Return the digest of rows of a data set, in their order."""
    return hashlib.sha256(rows.tobytes()).hexdigest()


def logits_only(model: Model) -> UsageError:
    """Return the refusal of a source that has no features."""
    return UsageError(
        "method", model.uri, "this source has logits only, for it is no network of kdops; a method of logits fits it"
    )
