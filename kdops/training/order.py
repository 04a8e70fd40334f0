"""An order: one pass of training as plain values, and its result. Both are text or bytes, for any process to read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from safetensors.torch import load, save
from torch import Tensor, cuda

from kdops.config.architectures import parse_architecture
from kdops.config.recipes import Recipe
from kdops.errors import KdopsError
from kdops.sweeps.fingerprint import whole_digest
from kdops.utils.hardware import numeric_mode, process_threads
from kdops.utils.versions import installed_version

__all__ = ["Done", "Order", "OrderGroup", "OrderTrial", "SourceArrays", "TrainedModel", "pack"]


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
        head: likewise of its last layer alone, which students reuse; empty where none does.
        view_logits: digest of its logits for the views of the training images, ``[views, N, classes]``.
        views: key of these views; empty where the images themselves are seen, or the source is asked in each step.
    """

    logits: str = ""
    test_logits: str = ""
    features: Mapping[str, str] = field(default_factory=dict)
    live: tuple[str, ...] = ()
    architecture: str = ""
    weights: str = ""
    head: str = ""
    view_logits: str = ""
    views: str = ""

    @property
    def asks(self) -> bool:
        """Whether the source is asked in each step about what the members see."""
        return bool(self.weights and not self.live)

    @property
    def is_there(self) -> bool:
        """Whether the group has a source."""
        return bool(self.logits or self.view_logits or self.asks)


@dataclass(frozen=True)
class OrderGroup:
    """Members that share a batch order and a source, as :class:`~kdops.training.groups.Group` has them.

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
class OrderTrial:
    """What a trial of a search has of its own beside its group.

    Attributes:
        recipe: how it is trained.
        method: the full text of what it learns.
    """

    recipe: Recipe
    method: str


@dataclass(frozen=True)
class Order:
    """One pass of training.

    Attributes:
        digest: of all that decides its result; its checkpoint and its result go by this.
        role: whose random streams the networks start from.
        recipe: architecture, epochs, batch size and rates.
        method: the full text of what the members at T > 0 learn.
        groups: the members to train.
        images: digest of the images of the data set, uint8 ``[N, C, H, W]``.
        labels: digest of their labels, int64 ``[N]``; those of images without labels are ``UNLABELED``.
        unlabeled: digest of images without labels, which have the rows behind these; empty for none.
        rows: digests of the rows that ``train``, ``validation`` and ``test`` have, int64.
        shape: (channels, height, width) of an image.
        classes: number of classes.
        mean: of each channel, see :class:`~kdops.models.classifier.Classifier`.
        std: of each channel.
        device: where to train.
        threads: how many compute.
        checkpoints: the folder of checkpoints; empty to keep none.
        resume: whether to go on with a checkpoint that is there.
        arithmetic: the coarsest of the device, see :func:`~kdops.utils.hardware.numeric_mode`.
        code: digest of the code that decides the result, see :func:`~kdops.sweeps.fingerprint.whole_digest`.
        torch: the version of PyTorch.
        bootstrap: each group learns from a sample of the images, see :class:`~kdops.training.groups.Group`.
        nets: the architectures of a company, whose one replicate has the groups' members for nets; empty for others.
        trials: what each group, a trial's, has of its own; empty for others. Trials are not measured but by their
            history, and have no weights.
        asks: nothing is trained; the result has the logits of the only group's source for the rows of each part, as
            weights of one network.
        keep_epochs: after these epochs, counted from 1, the weights are kept.
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
    arithmetic: str = "fp32"
    code: str = field(default_factory=whole_digest)
    torch: str = field(default_factory=lambda: installed_version("torch"))
    nets: tuple[str, ...] = ()
    bootstrap: bool = False
    trials: tuple[OrderTrial, ...] = ()
    asks: bool = False
    unlabeled: str = ""
    keep_epochs: tuple[int, ...] = ()

    @property
    def members(self) -> list[tuple[OrderGroup, float]]:
        """Each network's group and temperature, in the sequence of the result."""
        return [(group, temperature) for group in self.groups for temperature in group.temperatures]

    def to_json(self) -> str:
        """Return the order as JSON."""
        trials = [{"recipe": one.recipe.as_dict(), "method": one.method} for one in self.trials]
        return json.dumps({**asdict(self), "recipe": self.recipe.as_dict(), "trials": trials})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the order that :meth:`to_json` wrote."""
        plain: dict[str, Any] = json.loads(text)
        plain["recipe"] = _recipe(plain["recipe"])
        plain["trials"] = tuple(OrderTrial(_recipe(one["recipe"]), one["method"]) for one in plain["trials"])
        plain["groups"] = tuple(_group(one) for one in plain["groups"])
        plain |= {name: tuple(plain[name]) for name in ("shape", "mean", "std", "nets", "keep_epochs")}
        return cls(**plain)

    def check(self) -> None:
        """Refuse to train with other code, PyTorch, threads or arithmetic than the fingerprints of the models hold.

        Raises:
            KdopsError: names both.
        """
        if self.torch != installed_version("torch"):
            raise KdopsError(f"this worker has PyTorch {installed_version('torch')}, the study has {self.torch}")
        if self.code != whole_digest():
            digests = f"{whole_digest()[:12]}, the study has {self.code[:12]}"
            raise KdopsError(f"this worker has another kdops: its code has the digest {digests}")
        if self.threads != process_threads():
            raise KdopsError(f"this worker computes with {process_threads()} threads, the study with {self.threads}")
        if self.arithmetic != (found := _arithmetic(self.device)):
            raise KdopsError(f"this worker computes in {found} on {self.device}, the study in {self.arithmetic}")


def _arithmetic(device: str) -> str:
    return "nothing" if device == "cuda" and not cuda.is_available() else numeric_mode(device)


def _recipe(plain: dict[str, Any]) -> Recipe:
    return Recipe(**{**plain, "architecture": parse_architecture(plain["architecture"])})


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
        ended: ``complete`` or, of a trial, ``diverged``.
        kept: its weights after some epochs, likewise, by epoch.
    """

    state: dict[str, Tensor]
    history: Mapping[str, tuple[float, ...]]
    metrics: Mapping[str, float]
    seconds: float
    ended: str = "complete"
    kept: Mapping[int, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Its weights by ``.name``, and those after an epoch by ``@epoch.name``."""
        kept = {f"@{epoch}.{name}": own for epoch, state in self.kept.items() for name, own in state.items()}
        return {f".{name}": own for name, own in self.state.items()} | kept


@dataclass(frozen=True)
class Done:
    """An order that was carried out.

    Attributes:
        digest: of the order.
        models: its networks, group by group.
        finished: when the training ended, in seconds since the epoch.
        host: the name of the machine that trained.
        device: the name of its GPU, or what its processor computes with.
        attempt: the number of the attempt, from 1; workers of those before died.
    """

    digest: str
    models: tuple[TrainedModel, ...]
    finished: float
    host: str = ""
    device: str = ""
    attempt: int = 1

    @property
    def trained_on(self) -> str:
        """Where it was carried out, as the runs of its models record it."""
        return f"{self.host}, {self.device}, attempt {self.attempt}"

    def to_bytes(self) -> bytes:
        """Return the result as one file of safetensors, the plain values in its header."""
        tensors = {
            f"{number}{name}": own for number, one in enumerate(self.models) for name, own in one.tensors.items()
        }
        plain = [replace(one, state={}, kept={}) for one in self.models]
        header = asdict(replace(self, models=())) | {"models": [asdict(one) for one in plain]}
        return pack(tensors, {"done": json.dumps(header)})

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Return the result that :meth:`to_bytes` wrote."""
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        done = json.loads(header["__metadata__"]["done"])
        states: list[dict[str, Tensor]] = [{} for _ in done["models"]]
        kept: list[dict[int, dict[str, Tensor]]] = [{} for _ in done["models"]]
        for name, values in load(content).items():
            place, _, own = name.partition(".")
            number, _, epoch = place.partition("@")
            (kept[int(number)].setdefault(int(epoch), {}) if epoch else states[int(number)])[own] = values
        # safetensors returns tensors in no fixed sequence; epochs ascend, as where they were kept.
        kept = [dict(sorted(own.items())) for own in kept]
        models = [
            TrainedModel(
                **{**one, "state": state, "kept": own, "history": {k: tuple(v) for k, v in one["history"].items()}}
            )
            for one, state, own in zip(done["models"], states, kept, strict=True)
        ]
        return cls(**{**done, "models": tuple(models)})


def pack(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Return tensors as the bytes of a safetensors file with ``metadata`` in its header."""
    # Copies: what shares memory, as tied weights do, is refused.
    return save({name: values.contiguous().clone() for name, values in tensors.items()}, metadata)
