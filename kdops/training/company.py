"""Training of a company: nets from scratch that see the same batches and learn from each other, without a source.

Each net is computed by tensors of its own, as if it were alone, whatever the others are: stacked, its last bits would
depend on them, and nets that learn nothing from each other are to be the very nets that they are alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import cast

import torch
from torch import Tensor, nn

from kdops.config.architectures import Architecture
from kdops.config.recipe_settings import ONE_CYCLE
from kdops.config.recipes import Recipe
from kdops.data.memmap import Pixels
from kdops.distillation.company import CompanyMethod, Turn
from kdops.distillation.method import Method, Outputs
from kdops.models.classifier import Classifier
from kdops.training.checkpoint import Checkpoint
from kdops.training.groups import Group, PassInputs
from kdops.training.history import Meter, Trained
from kdops.training.initialization import new_network, streams_of_networks
from kdops.training.joint import JointNetworks
from kdops.training.optimizer import Optimizer
from kdops.training.schedule import rates_of
from kdops.training.separate import SeparateModels
from kdops.training.stacked import DenseNetworks, StackedMLPs, can_stack
from kdops.training.training_pass import TrainingPass
from kdops.training.update import Matrices
from kdops.utils.hardware import threads_for
from kdops.utils.progress import Progress
from kdops.utils.random import as_global_rng, named_generator

BY_TURNS = "turns."
"""Begins the names of what the optimizer of the method's further steps keeps."""


class PeerNetworks(JointNetworks):
    """Nets of any architectures that are given one batch, each computed as if it were alone.

    Args:
        device: where they are computed.
        can_replay: whether a step may be recorded.
        taps: the tap of each net whose values :meth:`features` returns; empty for none.

    Attributes:
        each: what computes each net.
    """

    batches, has_own_rates = 1, True

    def __init__(
        self, nets: Sequence[Classifier], device: torch.device | str, can_replay: bool, taps: Sequence[str] = ()
    ):
        stacks = [StackedMLPs if can_stack(net) else SeparateModels for net in nets]
        self.taps = taps or [""] * len(nets)
        self.each: list[JointNetworks] = [
            stack([[net]], device, [tap] if tap else ())
            for stack, net, tap in zip(stacks, nets, self.taps, strict=True)
        ]
        self.can_replay = can_replay

    def prepared(self, images: Pixels) -> Pixels:
        """Return images as dense nets take them quickest, where all nets are dense."""
        return self.each[0].prepared(images) if all(isinstance(own, DenseNetworks) for own in self.each) else images

    def parts(self) -> list[list[Tensor]]:
        """Return the trained tensors of each net."""
        return [part for own in self.each for part in own.parts()]

    def matrices(self) -> list[dict[int, Matrices]]:
        """Return the hidden matrices of each net."""
        return [found for own in self.each for found in own.matrices()]

    def tensors(self) -> dict[str, Tensor]:
        """Return every value that training may change, by name: the tensors themselves."""
        named = ((place, own.tensors().items()) for place, own in enumerate(self.each))
        return {f"{place}.{name}": values for place, own in named for name, values in own}

    def outputs(self, images: Sequence[Tensor]) -> Outputs:
        """Compute all nets on one batch: logits ``[K, B, classes]``."""
        return _as_one([self.outputs_of(place, images) for place in range(len(self.each))])

    def outputs_of(self, place: int, images: Sequence[Tensor]) -> Outputs:
        """Compute one net: logits ``[1, B, classes]``."""
        return self._ready()[place].outputs(images)

    def features(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Return the values of each net at its tap, ``[B, ...]``."""
        return [self.outputs_of(place, images).features[tap][0] for place, tap in enumerate(self.taps)]

    def logits(self, images: Sequence[Tensor]) -> Tensor:
        """Return logits ``[K, B, classes]``."""
        return torch.cat([own.logits(images) for own in self._ready()])

    def _ready(self) -> list[JointNetworks]:
        for own in self.each:
            own.training = self.training
        return self.each

    def clear_gradients(self) -> None:
        """Forget every gradient."""
        for own in self.each:
            own.clear_gradients()

    def complete_gradients(self) -> None:
        """Compute the gradients that autograd did not."""
        for own in self.each:
            own.complete_gradients()

    def states(self) -> list[dict[str, Tensor]]:
        """Return each net's weights under the names of its own state, on the CPU."""
        return [state for own in self.each for state in own.states()]


def _as_one(found: Sequence[Outputs]) -> Outputs:
    """Return the outputs of several nets as those of one: logits, and terms of their own, 0 where a net has none."""
    names = dict.fromkeys(name for one in found for name in one.own)
    own = {name: torch.cat([one.own.get(name, one.logits.new_zeros(1)) for one in found]) for name in names}
    return Outputs(torch.cat([one.logits for one in found]), own=own)


class CompanyPass(TrainingPass):
    """A pass whose nets learn from each other: all at once or in turn, and by the further steps of their method."""

    networks: PeerNetworks
    modules = nn.ModuleDict()

    @property
    def method(self) -> CompanyMethod:
        """What the nets learn from each other."""
        return cast("CompanyMethod", self.methods[0])

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The further steps on each batch; none where only labels are learned."""
        return self.method.turns() if self.is_soft else ()

    def _modules(self, method: Method) -> list[nn.Module]:
        """Return what is trained beside the nets, as one module."""
        if not method.has_modules:
            return []
        self.networks.training = False
        with torch.no_grad():
            values = self.networks.features([self.images.pixels[:1].to(self.device)])
        seed, temperature = self.members[0]
        with as_global_rng(named_generator("method", self.role, seed, f"{temperature:g}")):
            self.modules = self.method.beside([tuple(own.shape[1:]) for own in values]).to(self.device)
        return [self.modules]

    def _enter(self, epoch: int, kept: Mapping[str, Tensor] | None = None) -> None:
        super()._enter(epoch, kept)
        turns, steps = self.turns, (self.stage.stop - self.stage.start) * len(self.batches)
        nets = [values for part in self.networks.parts() for values in part]
        own = [[values for name in turn.modules for values in self.modules[name].parameters()] for turn in turns]
        parts = [[*(nets if turn.nets else ()), *values] for turn, values in zip(turns, own, strict=True)]
        rates = [rates_of(ONE_CYCLE, steps, one.rate) for one in turns]
        self.by_turns = Optimizer(parts, rates, [one.decay for one in turns])
        if kept is not None and epoch > self.stage.start:
            ours = {name: values for name, values in kept.items() if name.startswith(BY_TURNS)}
            self.by_turns.load({name.removeprefix(BY_TURNS): values for name, values in ours.items()})

    def _set_rates(self, step: int) -> None:
        super()._set_rates(step)
        self.by_turns.set_rate(step)

    def _moments(self) -> dict[str, Tensor]:
        return super()._moments() | {f"{BY_TURNS}{name}": values for name, values in self.by_turns.state().items()}

    def _step(self, *chosen: Tensor) -> None:
        """Learn from one batch, given by the rows ``[B]`` of its images: by the terms first, then turn after turn."""
        (rows,) = chosen
        if self.method.order == "sequential":
            self._step_in_sequence(rows)
        else:
            super()._step(rows)
        turns = [(place, turn) for place, turn in enumerate(self.turns) if len(rows) >= turn.least]
        values: list[Tensor] = []
        for place, turn in turns:
            values = values or self.networks.features(self._seen([rows]))
            for name in turn.modules:
                self.modules[name].zero_grad(set_to_none=True)
            losses = turn.losses(values, self.modules)
            if turn.nets:
                self.networks.backward(losses.sum())
            else:
                losses.sum().backward()
            self.by_turns.step_part(place)
            self.losses.add_terms({turn.name: losses.expand(len(values))}, len(rows))
            if turn.nets:
                # They are others now, and the graph of the values is gone.
                values = []

    def _step_in_sequence(self, rows: Tensor) -> None:
        """Let each net learn from what the others return after the steps of those before it."""
        networks, found = self.networks, []
        images, count, loss = self._seen([rows]), len(networks.each), self._label_loss([rows])
        labels = self.feeds[0].labels[rows].expand(count, -1)
        with torch.no_grad():
            latest = [networks.outputs_of(place, images) for place in range(count)]
        for place, own in enumerate(networks.each):
            latest[place] = networks.outputs_of(place, images)
            student = _as_one(latest)
            source, phase = student.map(Tensor.detach), self.stage.phase
            terms = self.objective.terms(student, labels, source, self.progress, phase, label_loss=loss)
            terms = {name: values[place] for name, values in terms.items()}
            own.backward(reduce(add, terms.values()))
            self.optimizer.step_part(place)
            found.append(terms)
            with torch.no_grad():
                latest[place] = networks.outputs_of(place, images)
        joined = {name: torch.stack([terms[name] for terms in found]) for name in found[0]}
        self._add_up(reduce(add, joined.values()), joined, len(rows))


def train_company(
    recipe: Recipe,
    nets: Sequence[Architecture],
    seeds: Sequence[int],
    temperature: float,
    inputs: PassInputs,
    method: CompanyMethod,
    *,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
) -> list[Trained]:
    """Train a company for the recipe's epochs and keep the last epoch.

    Net k starts as one of (role, its seed) on hard labels does, whatever the method, and the batch order of all is that
    of (role, first seed): so companies of different methods are paired, and the first net of independent ones is the
    net that is trained on hard labels by itself.

    Args:
        recipe: epochs, batch size and rates, the same for all; its architecture is left aside.
        nets: the architecture of each net, one of kdops's own.
        seeds: the seed of each; the first is that of the replicate.
        temperature: at which they learn from each other; 0 for labels alone.
        inputs: images, classes, statistics, and where to train.
        method: what they learn from each other.
        progress: called with (images passed, images in all), counted over the nets.
        checkpoint: where the pass is kept from time to time; None to keep nothing.

    Returns:
        The nets in their order.

    Raises:
        DivergenceError: a loss stopped being finite; names the net.
    """
    inputs = inputs.there()
    recipes = [recipe.replace(architecture=net) for net in nets]
    built = [new_network(inputs, own, seed, 0.0) for own, seed in zip(recipes, seeds, strict=True)]
    can_replay = method.order == "simultaneous" and not method.turns()
    networks = PeerNetworks(built, inputs.device, can_replay, method.taps(nets))
    training = CompanyPass(
        inputs,
        [Group(seeds[0], (temperature,) * len(nets))],
        recipes,
        [method] * len(nets),
        networks,
        streams_of_networks(built),
        threads_for(max(net.flops(inputs.shape, inputs.classes) for net in nets), recipe.batch_size),
    )
    training.members = [(seed, temperature) for seed in seeds]
    meter = Meter(progress, len(nets) * len(inputs.images.labels) * recipe.epochs)
    return list(training.run(meter, checkpoint))
