"""Dense networks of unequal width and depth, computed in one pass on one batch.

The first layers stand side by side as one wide matrix and cost one matrix product. What follows is stacked for
members of about the same width, each padded with zeros to the widest of them.

Padding needs no masks: the output of a padded unit is relu(0) = 0, and what leaves it is weighted by 0. So its gradient
is exactly 0, in and out, and AdamW leaves a weight of 0 with no gradient and no moments where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from kdops.distillation.method import Outputs
from kdops.models.classifier import Classifier, Dropout
from kdops.training.optimizer import gradient_of
from kdops.training.stacked import DenseNetworks, chain_names
from kdops.training.update import Matrices

PADDED_AT_MOST = 2.0
"""The most times its own width that a member is padded to; beyond it a stack of its own is faster."""


class PaddedMLPs(DenseNetworks):
    """Dense networks of unequal width and depth that share their batches, and may leave.

    Args:
        nets: networks for which :func:`~kdops.training.stacked.can_stack` holds, of the same inputs and classes, each
            with one width in all its hidden layers; they are copied, not changed.
        device: where the tensors lie.

    Raises:
        ValueError: the networks normalize their images differently, so they cannot share a batch.
    """

    batches, has_own_rates, can_replay = 1, True, False

    def __init__(self, nets: Sequence[Classifier], device: torch.device | str = "cpu"):
        super().__init__(nets, device)
        self.dropouts = [[part for part in net.net.children() if isinstance(part, Dropout)] for net in nets]
        self._arrange([[value.detach().to(device) for value in net.parameters()] for net in nets])

    def parts(self) -> list[list[Tensor]]:
        """Return each network's trained tensors, in the order of its layers.

        They are parts of :meth:`leaves`, and their ``grad`` is a part of what :meth:`backward` fills. All but the first
        layer's have padding, at the end of each axis.
        """
        return self._parts

    def matrices(self) -> list[dict[int, Matrices]]:
        """Return each network's hidden matrices, by their place, of the size that they have without padding."""
        inputs = self._wide[0].shape[1]
        found = []
        for width, part in zip(self.widths, self._parts, strict=True):
            own = {0: Matrices(1, width, inputs)}
            found.append(own | {place: Matrices(1, width, width) for place in range(2, len(part) - 2, 2)})
        return found

    def leaves(self) -> list[Tensor]:
        """Return the stacked tensors, padding included."""
        return [*self._wide, *(leaf for stack in self._stacks for leaf in stack.leaves)]

    def tensors(self) -> dict[str, Tensor]:
        """Return every value that training may change, by name: the tensors themselves."""
        return {str(number): values.detach() for number, values in enumerate(self.leaves())}

    def outputs(self, images: Sequence[Tensor]) -> Outputs:
        """Compute all members at once.

        Args:
            images: one batch for all, ``[B, C, H, W]`` or some rows of what :meth:`prepared` returned.

        Returns:
            Logits ``[M, B, classes]`` in the order of the networks.
        """
        inputs = self._flat(*images)
        weight, bias = self._wide
        # Units by images, so that the units of one stack are rows that lie together.
        with torch.no_grad():
            first = torch.addmm(bias.unsqueeze(1), weight, inputs.t())
        shares = first.split([len(stack.places) for stack in self._stacks])
        padded = [stack.padded(share) for stack, share in zip(self._stacks, shares, strict=True)]
        if torch.is_grad_enabled():
            self._latest = inputs, [units.requires_grad_() for units in padded]
        found = [
            stack.logits(units, partial(self._dropped, stack.numbers))
            for stack, units in zip(self._stacks, padded, strict=True)
        ]
        return Outputs(torch.cat(found).index_select(0, self._given))

    def clear_gradients(self) -> None:
        """Set every gradient to zero but the first layer's, which is written anew."""
        for stack in self._stacks:
            for leaf in stack.leaves:
                gradient_of(leaf).zero_()

    def complete_gradients(self) -> None:
        """Compute the gradient of the first layer, which autograd would allocate anew in every step."""
        inputs, padded = self._latest
        gradients = [stack.unpadded(gradient_of(units)) for stack, units in zip(self._stacks, padded, strict=True)]
        weight, bias = self._wide
        torch.mm(torch.cat(gradients), inputs, out=weight.grad)
        torch.cat([gradient.sum(1) for gradient in gradients], out=bias.grad)

    def keep(self, members: Sequence[int]) -> None:
        """Drop all networks but these, given by their places; from now on they are the networks, in this order.

        Tensors that were returned before no longer belong to them.
        """
        self.count, self.dropouts = len(members), [self.dropouts[member] for member in members]
        self._arrange([self._layers(member) for member in members])

    def _arrange(self, nets: Sequence[Sequence[Tensor]]) -> None:
        """Lay out networks, each given as weight and bias of layer after layer."""
        self.widths = [len(net[0]) for net in nets]
        self._stacks = [_Stack(numbers, nets) for numbers in _alike(self.widths)]
        order = [number for stack in self._stacks for number in stack.numbers]
        self._given = torch.tensor([order.index(number) for number in range(len(nets))], device=self.mean.device)
        self._wide = [_with_gradient(torch.cat([nets[number][place] for number in order])) for place in (0, 1)]
        later = [parts for stack in self._stacks for parts in stack.parts()]
        self._parts: list[list[Tensor]] = [[] for _ in nets]
        start = 0
        for number, parts in zip(order, later, strict=True):
            rows = slice(start, start := start + self.widths[number])
            self._parts[number] = [*(_part(leaf, rows) for leaf in self._wide), *parts]

    def _named(self, member: int) -> dict[str, Tensor]:
        return chain_names(self._layers(member))

    def _layers(self, member: int) -> list[Tensor]:
        """Return one network's weight and bias of layer after layer, as views."""
        # Without the padding.
        (first, *hidden, weight, bias), width = self._parts[member], self.widths[member]
        return [first, *(part[(slice(width),) * part.dim()] for part in hidden), weight[:, :width], bias]

    def _dropped(self, numbers: Sequence[int], hidden: Tensor, layer: int) -> Tensor:
        """Drop out units of the first of these members, as many as ``hidden`` ``[K, H, B]`` has."""
        drops = [self.dropouts[number][layer] for number in numbers[: len(hidden)]]
        if not self.training or all(drop.rate == 0.0 for drop in drops):
            return hidden
        found = []
        for number, drop, units in zip(numbers, drops, hidden, strict=False):
            own, padding = units.split([self.widths[number], len(units) - self.widths[number]])
            # Drawn in the order in which the network by itself draws: image after image, without the padding.
            found.append(torch.cat([drop(own.t().contiguous()).t(), padding]))
        return torch.stack(found)


class _Stack:
    """All layers but the first of members of about the same width, padded to the widest and stacked.

    The deepest member comes first, so that each layer works on those before some place, and the output layer on all.

    Attributes:
        numbers: the members, deepest first.
        places: of the members' own units, one after another, among all ``M·H`` of them.
        leaves: weight and bias of layer after layer: ``[K, H, H]`` and ``[K, H]``, then ``[M, classes, H]`` and
            ``[M, classes]``.
    """

    def __init__(self, numbers: Sequence[int], nets: Sequence[Sequence[Tensor]]):
        self.numbers = sorted(numbers, key=lambda number: -len(nets[number]))
        members = [nets[number] for number in self.numbers]
        self.width = max(len(net[0]) for net in members)
        own = [place * self.width + torch.arange(len(net[0])) for place, net in enumerate(members)]
        self.places = torch.cat(own).to(members[0][0].device)
        hidden = [[net[layer] for net in members if layer < len(net) - 2] for layer in range(2, len(members[0]) - 2)]
        self.leaves = [_stacked(values, (self.width,) * values[0].dim()) for values in hidden]
        classes = len(members[0][-1])
        self.leaves.append(_stacked([net[-2] for net in members], (classes, self.width)))
        self.leaves.append(_stacked([net[-1] for net in members], (classes,)))

    def padded(self, units: Tensor) -> Tensor:
        """Return the members' own units ``[sum of widths, B]`` as ``[M, H, B]``."""
        found = units.new_zeros(len(self.numbers) * self.width, units.shape[1])
        return found.index_copy_(0, self.places, units).view(len(self.numbers), self.width, -1)

    def unpadded(self, units: Tensor) -> Tensor:
        """Return the members' own units of ``[M, H, B]`` as ``[sum of widths, B]``."""
        return units.flatten(0, 1).index_select(0, self.places)

    def logits(self, units: Tensor, dropped: Callable[[Tensor, int], Tensor]) -> Tensor:
        """Return logits ``[M, B, classes]`` of the outputs of the first layers, ``[M, H, B]``."""
        *later, weight, bias = self.leaves
        hidden = dropped(units.relu(), 0)
        finished: list[Tensor] = []
        for layer, (w, b) in enumerate(zip(later[::2], later[1::2], strict=True)):
            if len(w) < len(hidden):
                hidden, done = hidden.split([len(w), len(hidden) - len(w)])
                finished.insert(0, done)
            hidden = dropped(torch.baddbmm(b.unsqueeze(2), w, hidden).relu(), layer + 1)
        last = torch.cat([hidden, *finished]) if finished else hidden
        # Transposed afterwards: a product with the images first is ten times slower where classes are few.
        return torch.baddbmm(bias.unsqueeze(2), weight, last).transpose(1, 2)

    def parts(self) -> list[list[Tensor]]:
        """Return each member's part of every leaf that it is in."""
        return [[_part(leaf, n) for leaf in self.leaves if n < len(leaf)] for n in range(len(self.numbers))]


def _alike(widths: Sequence[int]) -> list[list[int]]:
    """Part members by width, the widest first, so that none is padded more than ``PADDED_AT_MOST`` times."""
    found: list[list[int]] = []
    for number in sorted(range(len(widths)), key=lambda number: -widths[number]):
        if found and widths[found[-1][0]] <= PADDED_AT_MOST * widths[number]:
            found[-1].append(number)
        else:
            found.append([number])
    return found


def _stacked(values: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
    """Stack values, each padded with zeros at the end of its axes."""
    leaf = values[0].new_zeros(len(values), *shape)
    for place, value in zip(leaf, values, strict=True):
        place[tuple(map(slice, value.shape))] = value
    return _with_gradient(leaf).requires_grad_()


def _with_gradient(leaf: Tensor) -> Tensor:
    leaf.grad = torch.zeros_like(leaf)
    return leaf


def _part(leaf: Tensor, index: int | slice) -> Tensor:
    """Return some rows of a leaf; their gradient is those rows of its gradient."""
    part = leaf.detach()[index]
    part.grad = gradient_of(leaf)[index]
    return part
