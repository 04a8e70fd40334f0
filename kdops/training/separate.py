"""Networks of any kind, each computed by itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import zip_longest

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdops.distillation.method import Outputs
from kdops.models.classifier import Classifier, ExternalClassifier
from kdops.models.taps import captured
from kdops.training.joint import MEASURED_AT_ONCE, JointNetworks
from kdops.training.update import Matrices
from kdops.utils.hardware import autocast_bf16


class SeparateModels(JointNetworks):
    """Networks of one architecture that are trained in one pass.

    On a GPU each has a queue of its own: one small network does not fill it.

    Args:
        groups: for each group its networks; they are trained themselves, not copies of them.
        device: where they are computed.
        taps: whose values :meth:`outputs` adds, see :mod:`kdops.models.taps`.
    """

    def __init__(
        self, groups: Sequence[Sequence[Classifier]], device: torch.device | str = "cpu", taps: Sequence[str] = ()
    ):
        self.taps = tuple(taps)
        self.sizes = [len(group) for group in groups]
        self.batches = len(groups)
        self.nets = [net.to(device).to(memory_format=net.memory_format) for group in groups for net in group]
        # What others wrote may ask the device, draws from the global state, and was not tried in half precision.
        self.is_own = not isinstance(self.nets[0], ExternalClassifier)
        self.learns_from_one = self.can_replay = self.is_own
        # All networks are measured at once too, each in memory of its own.
        self.most_images = max(1, MEASURED_AT_ONCE // len(self.nets))
        self.device, self.on_gpu = device, torch.device(device).type == "cuda"
        self.queues = [torch.cuda.Stream() for _ in self.nets] if self.on_gpu and len(self.nets) > 1 else []

    def parts(self) -> list[list[Tensor]]:
        """Return every trained tensor, in one part."""
        return [[values for net in self.nets for values in net.parameters() if values.requires_grad]]

    def matrices(self) -> list[dict[int, Matrices]]:
        """Return the weights of all layers but the last, by their place; a filter is a row of its layer's matrix."""
        last = {id([values for values in net.parameters() if values.dim() > 1][-1]) for net in self.nets}
        chosen = enumerate(self.parts()[0])
        hidden = {place: values for place, values in chosen if values.dim() > 1 and id(values) not in last}
        return [{place: Matrices(1, len(own), own[0].numel()) for place, own in hidden.items()}]

    def tensors(self) -> dict[str, Tensor]:
        """Return every value that training may change, by name: the tensors themselves."""
        return {
            f"{number}.{name}": values.detach()
            for number, net in enumerate(self.nets)
            for name, values in (*net.named_parameters(), *net.named_buffers())
        }

    def logits(self, images: Sequence[Tensor]) -> Tensor:
        """Return logits ``[M, B, classes]`` of each group's batch, uint8 ``[B, C, H, W]``."""
        return self._computed(images, ()).logits

    def outputs(self, images: Sequence[Tensor]) -> Outputs:
        """Return the logits, and the values at the taps: ``[M, B, ...]`` each."""
        return self._computed(images, self.taps)

    def clear_gradients(self) -> None:
        """Forget every gradient."""
        for net in self.nets:
            net.zero_grad(set_to_none=True)

    def complete_gradients(self) -> None:
        """Do nothing: autograd computes all of them."""

    def states(self) -> list[dict[str, Tensor]]:
        """Return each network's weights, on the CPU and in the default memory order."""
        return [
            {name: values.detach().cpu().contiguous().clone() for name, values in net.state_dict().items()}
            for net in self.nets
        ]

    def _computed(self, images: Sequence[Tensor], taps: Sequence[str]) -> Outputs:
        batches = [batch.contiguous(memory_format=self.nets[0].memory_format) for batch in images]
        given = [batch for batch, size in zip(batches, self.sizes, strict=True) for _ in range(size)]
        found: list[Outputs] = []
        if not self.queues:
            found = [self._alone(net, batch, taps) for net, batch in zip(self.nets, given, strict=True)]
        else:
            here = torch.cuda.current_stream()
            for net, batch, queue in zip(self.nets, given, self.queues, strict=True):
                queue.wait_stream(here)
                with torch.cuda.stream(queue):
                    found.append(self._alone(net, batch, taps))
            for queue in self.queues:
                here.wait_stream(queue)
        features = {tap: torch.stack([one.features[tap] for one in found]) for tap in taps}
        own = {name: torch.cat([one.own[name] for one in found]) for name in found[0].own}
        return Outputs(torch.stack([one.logits for one in found]), features, own)

    def _alone(self, net: Classifier, batch: Tensor, taps: Sequence[str]) -> Outputs:
        net.train(self.training)
        with captured(net, taps) as found:
            if not (self.training and self.is_own and self.on_gpu):
                return Outputs(net(batch), found, net.own_terms())
            with autocast_bf16(self.device):
                is_chain = isinstance(net.net, nn.Sequential)
                compute = partial(_with_late_biases, net.net) if is_chain else net.net
                logits = compute(net.normalized(batch)).float()
            return Outputs(logits, {tap: values.float() for tap, values in found.items()}, net.own_terms())


def _with_late_biases(chain: nn.Module, values: Tensor) -> Tensor:
    """Compute a chain, with the bias of a convolution that is pooled added after pooling.

    The largest of some values, each with the bias, is the largest of them with the bias. To add it, and to add up its
    gradient, takes a quarter of the memory then: on a GPU both took longer than the convolutions.
    """
    bias: Tensor | None = None
    parts = list(chain.children())
    for part, following in zip_longest(parts, parts[1:]):
        if isinstance(part, nn.Conv2d) and isinstance(following, nn.MaxPool2d):
            bias = part.bias
            values = functional.conv2d(values, part.weight, None, part.stride, part.padding)
            continue
        values = part(values)
        if bias is not None:
            values, bias = values + bias.to(values.dtype).view(-1, 1, 1), None
    return values
