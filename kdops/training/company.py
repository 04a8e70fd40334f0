"""Training of a company: nets from scratch that see the same batches and learn from each other, without a source.

Each net is computed by tensors of its own, as if it were alone, whatever the others are: stacked, its last bits would
depend on them, and nets that learn nothing from each other are to be the very nets that they are alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add

import torch
from torch import Tensor

from kdops.config.architectures import Architecture
from kdops.config.recipes import Recipe
from kdops.distillation.company import CompanyMethod
from kdops.distillation.method import Outputs
from kdops.models.classifier import Classifier
from kdops.training.checkpoint import Checkpoint
from kdops.training.groups import Group, Images
from kdops.training.history import Meter, Trained
from kdops.training.initialization import new_network, streams_of_networks
from kdops.training.joint import JointNetworks
from kdops.training.separate import SeparateModels
from kdops.training.stacked import DenseNetworks, StackedMLPs, can_stack
from kdops.training.training_pass import TrainingPass
from kdops.utils.hardware import threads_for
from kdops.utils.progress import Progress

__all__ = ["PeerNetworks", "train_company"]


class PeerNetworks(JointNetworks):
    """Nets of any architectures that are given one batch, each computed as if it were alone.

    Args:
        nets: the nets.
        device: where they are computed.
        can_replay: whether a step may be recorded.

    Attributes:
        each: what computes each net.
    """

    batches, has_own_rates = 1, True

    def __init__(self, nets: Sequence[Classifier], device: torch.device | str, can_replay: bool):
        stacks = [StackedMLPs if can_stack(net) else SeparateModels for net in nets]
        self.each: list[JointNetworks] = [stack([[net]], device) for stack, net in zip(stacks, nets, strict=True)]
        self.can_replay = can_replay

    def prepared(self, images):
        """Return images as dense nets take them quickest, where all nets are dense."""
        return self.each[0].prepared(images) if all(isinstance(own, DenseNetworks) for own in self.each) else images

    def parts(self) -> list[list[Tensor]]:
        """Return the trained tensors of each net."""
        return [part for own in self.each for part in own.parts()]

    def tensors(self) -> dict[str, Tensor]:
        """Return every value that training may change, by name: the tensors themselves."""
        named = ((place, own.tensors().items()) for place, own in enumerate(self.each))
        return {f"{place}.{name}": values for place, own in named for name, values in own}

    def outputs(self, images: Sequence[Tensor]) -> Outputs:
        """Compute all nets on one batch: logits ``[K, B, classes]``."""
        return Outputs(torch.cat([self.outputs_of(place, images).logits for place in range(len(self.each))]))

    def outputs_of(self, place: int, images: Sequence[Tensor]) -> Outputs:
        """Compute one net: logits ``[1, B, classes]``."""
        own = self.each[place]
        own.training = self.training
        return own.outputs(images)

    def logits(self, images: Sequence[Tensor]) -> Tensor:
        """Return logits ``[K, B, classes]``."""
        return self.outputs(images).logits

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


class _SequentialPass(TrainingPass):
    """A company whose nets learn in turn, each from what the others return after the steps before its."""

    networks: PeerNetworks

    def _step(self, *chosen: Tensor) -> None:
        """Learn from one batch, given by the rows ``[B]`` of its images."""
        (rows,), networks, found = chosen, self.networks, []
        images, count = [self.pixels[rows]], len(networks.each)
        labels = self.feeds[0].labels[rows].expand(count, -1)
        with torch.no_grad():
            latest = [networks.outputs_of(place, images).logits for place in range(count)]
        for place, own in enumerate(networks.each):
            latest[place] = networks.outputs_of(place, images).logits
            student = Outputs(torch.cat(latest))
            terms = self.objective.terms(student, labels, student.map(Tensor.detach), self.progress, self.stage.phase)
            terms = {name: values[place] for name, values in terms.items()}
            own.backward(reduce(add, terms.values()))
            self.optimizer.step_part(place)
            found.append(terms)
            with torch.no_grad():
                latest[place] = networks.outputs_of(place, images).logits
        joined = {name: torch.stack([terms[name] for terms in found]) for name in found[0]}
        self._add_up(reduce(add, joined.values()), joined, len(rows))


def train_company(
    role: str,
    recipe: Recipe,
    nets: Sequence[Architecture],
    seeds: Sequence[int],
    temperature: float,
    images: Images,
    validation: Images,
    classes: int,
    statistics: tuple[Tensor, Tensor],
    method: CompanyMethod,
    *,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
) -> list[Trained]:
    """Train a company for the recipe's epochs and keep the last epoch.

    Net k starts as one of (role, its seed) on hard labels does, whatever the method, and the batch order of all is that
    of (role, first seed): so companies of different methods are paired, and the first net of independent ones is the
    net that is trained on hard labels by itself.

    Args:
        role: name of the random streams.
        recipe: epochs, batch size and rates, the same for all; its architecture is left aside.
        nets: the architecture of each net, one of kdops's own.
        seeds: the seed of each; the first is that of the replicate.
        temperature: at which they learn from each other; 0 for labels alone.
        images: what they are trained on.
        validation: measured after every epoch, never trained on.
        classes: number of classes.
        statistics: mean and standard deviation of each channel, see :class:`~kdops.models.classifier.Classifier`.
        method: what they learn from each other.
        device: where to train.
        progress: called with (images passed, images in all), counted over the nets.
        checkpoint: where the pass is kept from time to time; None to keep nothing.

    Returns:
        The nets in their order.

    Raises:
        DivergenceError: a loss stopped being finite; names the net.
    """
    channels, height, width = images.pixels.shape[1:]
    shape = (channels, height, width)
    images, validation = images.to(device), validation.to(device)
    recipes = [recipe.replace(architecture=net) for net in nets]
    built = [
        new_network(role, own, seed, 0.0, shape, classes, statistics, device)
        for own, seed in zip(recipes, seeds, strict=True)
    ]
    in_turn = method.order == "sequential" and temperature > 0
    networks = PeerNetworks(built, device, can_replay=not in_turn)
    training = (_SequentialPass if in_turn else TrainingPass)(
        role,
        [Group(seeds[0], (temperature,) * len(nets))],
        recipes,
        [method] * len(nets),
        networks,
        streams_of_networks(built),
        images,
        validation,
        device,
        threads_for(max(net.flops(shape, classes) for net in nets), recipe.batch_size),
    )
    meter = Meter(progress, len(nets) * len(images.labels) * recipe.epochs)
    return list(training.run(meter, checkpoint))
