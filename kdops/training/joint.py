"""What a pass of training asks of its networks, whether they are stacked tensors or computed one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor

from kdops.data.memmap import Pixels
from kdops.distillation.method import Outputs
from kdops.training.update import Matrices

MEASURED_AT_ONCE = 1024
"""Images of a batch that is measured, where nothing is kept for a way back."""


class JointNetworks(ABC):
    """M networks that share no weights and are trained together.

    Attributes:
        batches: how many batches are given to :meth:`outputs`: one for each group, or one for all.
        training: whether dropout is applied.
        learns_from_one: whether a batch of one image may be learned from.
        can_replay: whether a step asks the device for nothing, so that it can be recorded.
        has_own_rates: whether :meth:`parts` has one part for each network, each with a learning rate of its own.
        most_images: the most images that are measured at once.
    """

    batches: int
    training = True
    learns_from_one = True
    can_replay = True
    has_own_rates = False
    most_images = MEASURED_AT_ONCE

    def prepared(self, images: Pixels) -> Pixels:
        """Return images in the form in which :meth:`outputs` takes them quickest, computed once for all epochs."""
        return images

    @abstractmethod
    def parts(self) -> list[list[Tensor]]:
        """Return the trained tensors: one list for all networks, or one for each, see ``has_own_rates``."""

    @abstractmethod
    def matrices(self) -> list[dict[int, Matrices]]:
        """Return for each list of :meth:`parts` the weights of all layers but the last, by their place in it."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return every value that training may change, by name: the tensors themselves."""

    @abstractmethod
    def outputs(self, images: Sequence[Tensor]) -> Outputs:
        """Compute all networks.

        Args:
            images: ``batches`` batches, each uint8 ``[B, C, H, W]`` or some rows of what :meth:`prepared` returned.

        Returns:
            Logits ``[M, B, classes]``, the groups' networks one after another, and the values ``[M, B, ...]`` at the
            taps.
        """

    @abstractmethod
    def logits(self, images: Sequence[Tensor]) -> Tensor:
        """Compute the logits of :meth:`outputs` alone."""

    def backward(self, loss: Tensor) -> None:
        """Replace every gradient by that of ``loss``, which was computed from the latest outputs."""
        self.clear_gradients()
        loss.backward()
        self.complete_gradients()

    @abstractmethod
    def clear_gradients(self) -> None:
        """Forget every gradient."""

    @abstractmethod
    def complete_gradients(self) -> None:
        """Compute the gradients that autograd did not."""

    @abstractmethod
    def states(self) -> list[dict[str, Tensor]]:
        """Return each network's weights under the names of its own state, on the CPU."""

    def keep(self, members: Sequence[int]) -> None:
        """Drop all networks but these, given by their places; from now on they are the networks, in this order.

        Tensors that were returned before no longer belong to them.

        Raises:
            NotImplementedError: these networks can only be trained to the end together.
        """
        raise NotImplementedError(f"no network can leave {type(self).__name__}")
