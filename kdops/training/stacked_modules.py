"""Networks of any one architecture whose first layer is dense, computed in one pass.

The first layers are one wide matrix, as those of dense networks are. All that follows is the network's own code, which
:func:`torch.vmap` computes for all members at once: a family needs no second version of it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from kdops.distillation.method import Outputs
from kdops.models.classifier import Classifier
from kdops.models.taps import captured
from kdops.training.stacked import WideNetworks, first_layer

Named = dict[str, Tensor]


class StackedModules(WideNetworks):
    """Stacked networks that flatten their images, give them to a dense layer, and go on as they like.

    What follows the first layer draws nothing, since vmap has one random stream for all; it may add terms to the loss
    and change buffers in place.

    Args:
        groups: for each group its networks, all of the same architecture; they are copied, not changed.
        device: where the stacked tensors lie.
        taps: whose values :meth:`outputs` adds.

    Raises:
        ValueError: the networks normalize their images differently, so they cannot share a batch.
    """

    def __init__(
        self, groups: Sequence[Sequence[Classifier]], device: torch.device | str = "cpu", taps: Sequence[str] = ()
    ):
        super().__init__(groups, device, taps)
        members = [net for group in groups for net in group]
        self.names = list(members[0].net.state_dict())
        self.rest = copy.deepcopy(members[0]).to("meta")
        self.first = next(name for name, part in self.rest.net.named_modules() if part is first_layer(self.rest))
        # Without its first layer the network takes what that returns, and flattens what is flat.
        self.rest.net.set_submodule(self.first, nn.Identity())
        trained, others = stack_module_state([net.net for net in members])
        own = {name: values.detach().to(device) for name, values in trained.items() if not self._is_first(name)}
        self.trained = {name: values.requires_grad_() for name, values in own.items()}
        self.buffers = {name: values.to(device) for name, values in others.items()}
        self._compute = vmap(self._alone)

    def later(self) -> list[Tensor]:
        """Return the trained tensors of the later layers, each of all members."""
        return list(self.trained.values())

    def tensors(self) -> Named:
        """Return every value that training may change, by name: the tensors themselves."""
        return super().tensors() | {f"buffer.{name}": values for name, values in self.buffers.items()}

    def outputs(self, images: Sequence[Tensor]) -> Outputs:
        """Compute all members at once.

        Args:
            images: for each group its batch, uint8 ``[B, C, H, W]`` or some rows of what :meth:`prepared` returned.

        Returns:
            Logits ``[M, B, classes]``, the groups' members one after another, the values ``[M, B, ...]`` at the taps,
            and the networks' own terms.
        """
        self.rest.net.train(self.training)
        units = self._units(images)
        together = units[0] if len(units) == 1 else torch.cat(units)
        logits, features, own = self._compute(self.trained, self.buffers, together.transpose(1, 2))
        return Outputs(logits, features, {name: values.flatten() for name, values in own.items()})

    def _alone(self, trained: Named, buffers: Named, units: Tensor) -> tuple[Tensor, Named, Named]:
        """Return one network's logits, the values at the taps and its own terms, of ``[B, hidden]``."""
        with captured(self.rest, self.taps) as found:
            logits = functional_call(self.rest.net, (trained, buffers), (units,))
        return logits, found, self.rest.own_terms()

    def _is_first(self, name: str) -> bool:
        """Return whether a value of this name is of the first layer."""
        return name.rpartition(".")[0] == self.first

    def _named(self, member: int) -> Named:
        own = {name: values[member] for name, values in (self.trained | self.buffers).items()}
        own |= zip((f"{self.first}.weight", f"{self.first}.bias"), self._first_of(member), strict=True)
        return {f"net.{name}": own[name] for name in self.names}
