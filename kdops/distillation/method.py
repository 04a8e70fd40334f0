"""What a distillation method is. One file here with one class, and one line in ``kdops.config.methods.METHODS``.

A method defines which values of both networks it compares and how. All else is the trainer's: hard labels at T = 0, the
sum of the terms, metrics, the optimizer, random streams, checkpoints, phases, and whether students are stacked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from kdops.config.method_specs import ChosenMethod
from kdops.distillation.labels import LabelLoss
from kdops.utils.hardware import finest_float
from kdops.utils.imports import load_place


@dataclass(frozen=True)
class Needs:
    """What a method asks of the trainer beside the logits of both networks.

    Attributes:
        student: taps of the student, see :mod:`kdops.models.taps`.
        source: taps of the source.
        progress: whether :attr:`Step.progress` is read.
        joint: whether the modules of several members are one, see :mod:`kdops.distillation.adapters`.
        rows: whether :attr:`Step.rows` is read.
        peers: whether :attr:`Step.source` has the members' own outputs, see :mod:`kdops.distillation.company`.
        more: whether what is trained and stored is more than the student; the table of methods says what, and the
            student's logits and taps are those of that network.
        head: whether the last layer of that network is the source's, and stays as it is.
    """

    student: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    progress: bool = False
    joint: bool = False
    rows: bool = False
    peers: bool = False
    more: bool = False
    head: bool = False


@dataclass(frozen=True)
class Outputs:
    """The outputs of networks for their batches.

    Attributes:
        logits: ``[M, B, classes]``, or ``[N, classes]`` of one network.
        features: by tap; ``embedding`` is ``[M, B, D]``, a convolution's stage ``[M, B, C, H, W]``.
        own: terms of the loss by name, each ``[M]``, that the networks themselves add while they are trained.
    """

    logits: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)
    own: Mapping[str, Tensor] = field(default_factory=dict)

    def map(self, function) -> Outputs:
        """Return outputs with a function applied to logits and features."""
        return Outputs(function(self.logits), {name: function(values) for name, values in self.features.items()})


@dataclass(frozen=True)
class Shapes:
    """The shapes of a network's values for one image, by which adapters are built.

    Attributes:
        classes: number of classes.
        features: by tap, without the batch.
    """

    classes: int
    features: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Step:
    """One batch of every member; M members share no weights.

    Attributes:
        student: the students' outputs, with gradient.
        source: their sources' outputs, without gradient.
        labels: class numbers ``[M, B]``.
        temperature: ``[M, 1, 1]``, above zero.
        progress: share of the training done, in [0, 1): a tensor of one value that changes in place.
        phase: the name of the phase.
        rows: each image's row among the training images, ``[M, B]``; one value unless :attr:`Needs.rows`.
        label_loss: the loss of the labels, as the recipe has it.
    """

    student: Outputs
    source: Outputs
    labels: Tensor
    temperature: Tensor
    progress: Tensor
    phase: str = "train"
    rows: Tensor = field(default_factory=lambda: torch.zeros(()))
    label_loss: LabelLoss = field(default_factory=LabelLoss)


class SourceOutputs(Protocol):
    """A source's outputs for all training images, see :mod:`kdops.distillation.sources`."""

    def at(self, rows: Tensor) -> Outputs:
        """Return the outputs ``[B, ...]`` of some images, given by their rows."""


@dataclass(frozen=True)
class Phase:
    """A part of the training, with an optimizer and a learning rate schedule of its own.

    Attributes:
        name: the value of :attr:`Step.phase` during the phase.
        share: of the recipe's epochs; the shares of a method's phases sum to 1.
        labels: whether the cross entropy with the labels is learned too, see :meth:`Method.label_weight`.
    """

    name: str = "train"
    share: float = 1.0
    labels: bool = True


class Method:
    """What a student learns from its source. Subclasses are frozen dataclasses, whose fields are the options.

    Attributes:
        vanishes: whether the gradient is zero where the outputs of student and source are equal, labels left aside.
    """

    vanishes: ClassVar[bool] = True

    @property
    def needs(self) -> Needs:
        """What it asks of the trainer beside logits."""
        return Needs()

    @property
    def is_stacked(self) -> bool:
        """Whether students can be stacked and trained in one pass: modules are joint, one phase, only embeddings."""
        fits = not self.needs.more and (self.needs.joint or not self.has_modules)
        return fits and len(self.phases()) == 1 and set(self.needs.student) <= {"embedding"}

    @property
    def has_modules(self) -> bool:
        """Whether something is trained beside a student."""
        return type(self).modules is not Method.modules

    def label_weight(self) -> float | Tensor:
        """Return the weight of the cross entropy with the labels; ``[M]`` where members differ."""
        return 1.0

    def phases(self) -> tuple[Phase, ...]:
        """Return the parts of the training, in order."""
        return (Phase(),)

    def modules(self, student: Shapes, source: Shapes) -> nn.Module:
        """Return what is trained beside one student, such as a regressor; initialized from PyTorch's global state.

        The trainer replaces that state by the stream ("method", role, seed, T). Unless :attr:`Needs.joint`, a method
        with modules is computed member by member: M is 1 in each :class:`Step`.

        Raises:
            UsageError: the shapes do not fit the method.
        """
        return nn.Module()

    def check_room(self, images: int, members: int) -> None:
        """Refuse modules of several students that would take too much memory, before one is made.

        Args:
            images: number of training images.
            members: number of students that are trained together.

        Raises:
            UsageError: says how much they would take.
        """

    def prepare(self, modules: nn.Module, source: SourceOutputs, labels: Tensor) -> None:
        """Set what the modules of one student hold of all training images, once; draws as :meth:`modules` does.

        Args:
            modules: what :meth:`modules` returned.
            source: the source's outputs.
            labels: class numbers of the training images, ``[N]``, on the device of the training.
        """

    @property
    def reduction(self) -> str:
        """The name of what :meth:`reduced` computes, with the options that it depends on; empty for nothing."""
        return ""

    def reduced(self, values: Tensor) -> Tensor:
        """Return what is kept of the source's values ``[N, ...]`` at a tap: a function of each image alone."""
        return values

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the weighted terms of the loss by name, each ``[M]``: the mean over a member's batch.

        Nothing is asked of the device (no ``item``, no ``if`` of a value): the step is recorded and replayed on a GPU.
        """
        raise NotImplementedError

    def rows(self, labels: Tensor, stream: torch.Generator) -> Tensor:
        """Return for each training image the row of the image whose source outputs it gets: its own.

        Args:
            labels: class numbers of the training images, ``[N]``, on the CPU.
            stream: to draw from; the same for all members of a replicate.
        """
        return torch.arange(len(labels))

    @classmethod
    def stacked(cls, methods: Sequence[Self], device: torch.device | str) -> Self:
        """Return one method for members that each have options of their own.

        Options in which all agree stay; numbers and truth values that differ become tensors ``[M]``, numbers in
        double, as Python's own.
        """
        changes: dict[str, Method | Tensor] = {}
        for option in fields(methods[0]):  # type: ignore[arg-type]
            values = [getattr(one, option.name) for one in methods]
            if any(value != values[0] for value in values):
                changes[option.name] = _together(values, device)
        return replace(methods[0], **changes)  # type: ignore[type-var]


def _together(values: Sequence[Any], device: torch.device | str) -> Method | Tensor:
    """Return one value for members that each have their own."""
    if isinstance(values[0], Method):
        return type(values[0]).stacked(values, device)
    kind = torch.bool if isinstance(values[0], bool) else finest_float(device)
    return torch.tensor(values, dtype=kind, device=device)


@dataclass(frozen=True)
class Modifier(Method):
    """A method that changes another one; what it does not define itself is the other's.

    Attributes:
        method: the other one.
    """

    method: Method = field(default_factory=Method)

    @property
    def needs(self) -> Needs:
        """What the other method asks for."""
        return self.method.needs

    @property
    def is_stacked(self) -> bool:
        """Whether the other's students can be trained together in one pass."""
        return self.method.is_stacked

    @property
    def has_modules(self) -> bool:
        """Whether the other method trains something beside a student."""
        return self.method.has_modules

    def label_weight(self) -> float | Tensor:
        """Return that of the other method."""
        return self.method.label_weight()

    def phases(self) -> tuple[Phase, ...]:
        """Return those of the other method."""
        return self.method.phases()

    def modules(self, student: Shapes, source: Shapes) -> nn.Module:
        """Return what the other method trains beside one student."""
        return self.method.modules(student, source)

    def check_room(self, images: int, members: int) -> None:
        """Refuse what the other method refuses."""
        self.method.check_room(images, members)

    def prepare(self, modules: nn.Module, source: SourceOutputs, labels: Tensor) -> None:
        """Set what the modules of the other method hold of all training images."""
        self.method.prepare(modules, source, labels)

    @property
    def reduction(self) -> str:
        """That of the other method."""
        return self.method.reduction

    def reduced(self, values: Tensor) -> Tensor:
        """Return what the other method keeps."""
        return self.method.reduced(values)

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the terms of the other method."""
        return self.method.terms(step, modules)

    def rows(self, labels: Tensor, stream: torch.Generator) -> Tensor:
        """Return those of the other method."""
        return self.method.rows(labels, stream)


def build_method(chosen: ChosenMethod) -> Method:
    """Return the method that was chosen, with its options."""
    options = {
        name: build_method(one) if isinstance(one, ChosenMethod) else one for name, one in chosen.options.items()
    }
    return load_place(chosen.spec.place)(**options)


@dataclass(frozen=True)
class LabelsOnly(Method):
    """No method: the cross entropy with the labels alone."""

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return no terms."""
        return {}
