"""Networks of one shape whose first layer is dense, as stacked tensors that are computed in one pass.

The members of a group (one replicate, all temperatures) see the same batch, so their first layers stand side
by side as one wide matrix and cost one matrix product; the later layers are one batched product over all
members of all groups. Groups differ in their batches and in their source.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdops.data.memmap import Pixels
from kdops.distillation.method import Outputs
from kdops.models.classifier import Classifier, Dropout, ExternalClassifier
from kdops.models.taps import EMBEDDING
from kdops.training.joint import JointNetworks
from kdops.training.optimizer import gradient_of
from kdops.training.update import Matrices


def normalized(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return images ``[N, C, H, W]`` as ``Classifier`` normalizes them, flat ``[N, C·H·W]``."""
    found = images.new_empty(images.shape, dtype=torch.float32)
    # A piece at a time that stays in the processor's cache.
    for place, part in zip(found.split(64), images.split(64), strict=True):
        place.copy_(part).sub_(mean).div_(std)
    return found.flatten(1)


def can_stack(net: Classifier) -> bool:
    """Return whether the network is a plain chain of dense layers, ReLU and dropout, as kdops builds it."""
    return not isinstance(net, ExternalClassifier) and all(
        isinstance(part, nn.Sequential | nn.Flatten | nn.Linear | nn.ReLU | Dropout) for part in net.net.modules()
    )


def first_layer(net: Classifier) -> nn.Linear:
    """Return a network's first dense layer."""
    return next(part for part in net.net.modules() if isinstance(part, nn.Linear))


PREPARED_BYTES = 2_000_000_000
"""Up to so much memory is spent on images that are normalized beforehand."""


class DenseNetworks(JointNetworks):
    """What stacked networks have in common whose first layer is dense, of one shape or of several.

    Args:
        nets: the networks; they are copied, not changed.
        device: where the tensors lie.

    Raises:
        ValueError: the networks normalize their images differently, so they cannot share a batch.
    """

    def __init__(self, nets: Sequence[Classifier], device: torch.device | str):
        if not all(torch.equal(net.mean, nets[0].mean) and torch.equal(net.std, nets[0].std) for net in nets):
            raise ValueError("networks that are stacked must share the mean and deviation of their images")
        self.mean, self.std = nets[0].mean.to(device), nets[0].std.to(device)
        self.count = len(nets)

    def prepared(self, images: Pixels) -> Pixels:
        """Return images as :meth:`outputs` may take them too: normalized floats ``[N, C·H·W]``, once for all epochs.

        What is prepared already comes back as it is. Where it would take more than ``PREPARED_BYTES``, and where images
        are in their file, they come back as they are too, and each batch is normalized by itself: the values are the
        same.
        """
        if not isinstance(images, Tensor) or images.dim() == 2 or 4 * images.numel() > PREPARED_BYTES:
            return images
        return normalized(images, self.mean, self.std)

    def logits(self, images: Sequence[Tensor]) -> Tensor:
        """Return logits ``[M, B, classes]``."""
        return self.outputs(images).logits

    def states(self) -> list[dict[str, Tensor]]:
        """Return each network's weights under the names of its own state, on the CPU."""
        shared = {"mean": self.mean, "std": self.std}
        return [
            {name: values.detach().cpu().clone() for name, values in {**shared, **self._named(member)}.items()}
            for member in range(self.count)
        ]

    @abstractmethod
    def _named(self, member: int) -> dict[str, Tensor]:
        """Return one network's own values under the names of its state, as views."""

    def _flat(self, images: Tensor) -> Tensor:
        """Return one batch normalized and flat, ``[B, C·H·W]``."""
        return images if images.dim() == 2 else normalized(images, self.mean, self.std)


def chain_names(layers: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return weight and bias of layer after layer under the names of a chain's state."""
    # In the network's chain a dense layer is followed by ReLU and dropout; flatten comes first.
    return {
        f"net.{1 + 3 * (number // 2)}.{('weight', 'bias')[number % 2]}": values for number, values in enumerate(layers)
    }


class WideNetworks(DenseNetworks):
    """Stacked networks of one architecture, the first layers of each group as one wide matrix.

    Args:
        groups: for each group its networks; they are copied, not changed.
        device: where the stacked tensors lie.
        taps: whose values :meth:`outputs` adds.

    Raises:
        ValueError: the networks normalize their images differently, so they cannot share a batch.
    """

    def __init__(self, groups: Sequence[Sequence[Classifier]], device: torch.device | str, taps: Sequence[str]):
        super().__init__([net for group in groups for net in group], device)
        self.taps, self.batches = tuple(taps), len(groups)
        self.sizes = [len(group) for group in groups]
        firsts = [[first_layer(net) for net in group] for group in groups]
        self.hidden = firsts[0][0].out_features

        def kept(values: Tensor) -> Tensor:
            values = values.detach().to(device)
            values.grad = torch.zeros_like(values)
            return values

        # One wide leaf a group, not one for all: its gradient is then one product, written in place.
        self.wide_weights = [kept(torch.cat([layer.weight for layer in group])) for group in firsts]
        self.wide_biases = [kept(torch.cat([layer.bias for layer in group])) for group in firsts]

    @abstractmethod
    def later(self) -> list[Tensor]:
        """Return the trained tensors of the later layers, each of all members."""

    def parts(self) -> list[list[Tensor]]:
        """Return every trained tensor, in one part."""
        return [[*self.wide_weights, *self.wide_biases, *self.later()]]

    def matrices(self) -> list[dict[int, Matrices]]:
        """Return the hidden matrices of its tensors, by their place."""
        later = enumerate(self.later(), start=2 * len(self.sizes))
        weights = {place: values.shape for place, values in later if values.dim() > 2}
        if not weights:
            return [{}]
        inputs = self.wide_weights[0].shape[1]
        firsts = {place: Matrices(size, self.hidden, inputs) for place, size in enumerate(self.sizes)}
        hidden = list(weights.items())[:-1]
        return [firsts | {place: Matrices(own[0], own[1], own[2:].numel(), leading=2) for place, own in hidden}]

    def tensors(self) -> dict[str, Tensor]:
        """Return every value that training may change, by name: the tensors themselves."""
        return {str(number): values.detach() for number, values in enumerate(self.parts()[0])}

    def clear_gradients(self) -> None:
        """Forget every gradient but the first layer's, which is written anew."""
        for values in self.later():
            values.grad = None

    def complete_gradients(self) -> None:
        """Compute the gradient of the first layer.

        Autograd would allocate it, most of the memory, anew in every step, and touching new memory costs a third of the
        product itself.
        """
        firsts = zip(self._latest, self.wide_weights, self.wide_biases, strict=True)
        for (inputs, units), weight, bias in firsts:
            gradient = gradient_of(units).flatten(0, 1)
            torch.mm(gradient, inputs, out=weight.grad)
            torch.sum(gradient, 1, out=bias.grad)

    def _units(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Return what the first layers return for each group's batch, ``[K, hidden, B]``, with gradient."""
        inputs = [self._flat(one) for one in images]
        units = [self._first(g, batch) for g, batch in enumerate(inputs)]
        if torch.is_grad_enabled():
            self._latest = list(zip(inputs, [own.requires_grad_() for own in units], strict=True))
        return units

    @torch.no_grad()
    def _first(self, group: int, inputs: Tensor) -> Tensor:
        """Compute the first layer of one group: ``[B, C·H·W]`` to ``[K, hidden, B]``."""
        # Weights times images, not images times weights: the same numbers, and the quicker product of a wide matrix.
        wide = torch.addmm(self.wide_biases[group].unsqueeze(1), self.wide_weights[group], inputs.t())
        return wide.view(self.sizes[group], self.hidden, len(inputs))

    def _first_of(self, member: int) -> list[Tensor]:
        """Return weight and bias of one network's first layer, as views."""
        group, offset = 0, member
        while offset >= self.sizes[group]:
            offset -= self.sizes[group]
            group += 1
        rows = slice(offset * self.hidden, (offset + 1) * self.hidden)
        return [self.wide_weights[group][rows], self.wide_biases[group][rows]]


class StackedMLPs(WideNetworks):
    """Stacked dense networks of one shape.

    Args:
        groups: for each group its networks, for which :func:`can_stack` holds; they are copied, not changed.
        device: where the stacked tensors lie.
        taps: whose values :meth:`outputs` adds: the embedding, or none.

    Raises:
        ValueError: the networks normalize their images differently, so they cannot share a batch.
    """

    def __init__(
        self, groups: Sequence[Sequence[Classifier]], device: torch.device | str = "cpu", taps: Sequence[str] = ()
    ):
        super().__init__(groups, device, taps)
        members = [list(net.net.children()) for group in groups for net in group]
        self.dropouts = [[part for part in parts if isinstance(part, Dropout)] for parts in members]
        linears = [[part for part in parts if isinstance(part, nn.Linear)] for parts in members]

        def leaf(values: Tensor) -> Tensor:
            return values.detach().to(device).clone().requires_grad_()

        later = list(zip(*[layers[1:] for layers in linears], strict=True))
        self.weights = [leaf(torch.stack([layer.weight for layer in layers])) for layers in later]
        self.biases = [leaf(torch.stack([layer.bias for layer in layers])) for layers in later]

    def later(self) -> list[Tensor]:
        """Return weights and biases of the later layers."""
        return [*self.weights, *self.biases]

    def outputs(self, images: Sequence[Tensor]) -> Outputs:
        """Compute all members at once.

        Args:
            images: for each group its batch, uint8 ``[B, C, H, W]`` or some rows of what :meth:`prepared` returned.

        Returns:
            Logits ``[M, B, classes]``, the groups' members one after another, and where it is tapped their embedding
            ``[M, B, hidden]``.
        """
        logits, hidden = self._computed(images)
        return Outputs(logits, {EMBEDDING: hidden.transpose(1, 2)} if self.taps else {})

    def _computed(self, images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits ``[M, B, classes]`` and what the last layer takes, ``[M, hidden, B]``."""
        units = self._units(images)
        hidden = units[0].relu() if len(units) == 1 else torch.cat([own.relu() for own in units])
        for depth, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            # Weights times units here too, [K, H, B]: without dropout nothing is transposed in memory.
            given = self._dropped(hidden, depth)
            hidden = torch.baddbmm(bias.unsqueeze(2), weight, given)
            if depth + 1 < len(self.weights):
                hidden = hidden.relu()
        return hidden.transpose(1, 2), given

    def _dropped(self, hidden: Tensor, depth: int) -> Tensor:
        if not self.training or self.dropouts[0][depth].rate == 0.0:
            return hidden
        # Drawn in the order in which the network by itself draws: image after image.
        dropped = [drops[depth](h.t().contiguous()).t() for drops, h in zip(self.dropouts, hidden, strict=True)]
        return torch.stack(dropped)

    def _named(self, member: int) -> dict[str, Tensor]:
        later = [own[member] for pair in zip(self.weights, self.biases, strict=True) for own in pair]
        return chain_names([*self._first_of(member), *later])
