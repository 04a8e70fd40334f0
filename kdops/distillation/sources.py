"""What a student learns from: a source's outputs for its training images, kept or live, and several sources as one.

*Kept*: computed once for all rows, in ``eval()`` and without gradient, and read by row number. This is exact, since the
student sees the very images that the source saw. Of features is kept what the method needs of each image, such as the
mean over the channels of a map; logits and embeddings always, others up to ``KEPT_BYTES``, and in a file where they
take more than a quarter of the free memory, which changes no bit. *Live*: features that would take more are computed
for each batch by the source itself, which lasts a forward pass of the source for each step, once for all members.
Which of the two it is follows from the sizes alone, so it is the same wherever a study runs. Where students see
augmented images, the source is asked about the very views: *kept* for each view, or *asked* in each step. *Averaged*:
:class:`Mixture` returns one set of logits for several sources, at each temperature another; it has no features.
*Stored*: :class:`RowOutputs` has been computed elsewhere, for rows of the data set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from kdops.distillation.method import Outputs, Shapes

KEPT_BYTES = 2_000_000_000
"""Features of a source that take more than this are computed for each batch."""


@dataclass(frozen=True, eq=False)
class Kept:
    """A source's outputs for every training image.

    Attributes:
        logits: ``[N, classes]``.
        features: by tap, ``[N, ...]``.
    """

    logits: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> Kept:
        """Return the same on another device."""
        return Kept(self.logits.to(device), {name: values.to(device) for name, values in self.features.items()})

    def at(self, rows: Tensor) -> Outputs:
        """Return the outputs ``[B, ...]`` of some images, given by their rows."""
        return Outputs(self.logits[rows], {name: values[rows] for name, values in self.features.items()})

    def logits_at(self, rows: Tensor) -> Tensor:
        """Return the logits of some images alone."""
        return self.logits[rows]

    @property
    def shapes(self) -> Shapes:
        """The shapes for one image."""
        return Shapes(self.logits.shape[-1], {name: tuple(own.shape[1:]) for name, own in self.features.items()})


@dataclass(frozen=True, eq=False)
class Live:
    """A source whose logits are kept, and whose features are computed for each batch.

    Attributes:
        logits: ``[N, classes]``.
        compute: from the rows of a batch to its features by tap, without gradient, on the device of the training.
    """

    logits: Tensor
    compute: Callable[[Tensor], Mapping[str, Tensor]]

    def to(self, device: torch.device | str) -> Live:
        """Return the same with its logits on another device."""
        return Live(self.logits.to(device), self.compute)

    def at(self, rows: Tensor) -> Outputs:
        """Return the outputs ``[B, ...]`` of some images, given by their rows."""
        return Outputs(self.logits[rows], self.compute(rows))

    def logits_at(self, rows: Tensor) -> Tensor:
        """Return the logits of some images alone."""
        return self.logits[rows]

    @property
    def shapes(self) -> Shapes:
        """The shapes for one image."""
        found = self.compute(torch.zeros(1, dtype=torch.long))
        return Shapes(self.logits.shape[-1], {name: tuple(own.shape[1:]) for name, own in found.items()})


@dataclass(frozen=True, eq=False)
class KeptViews:
    """A source's logits for every view of every training image, where students see views.

    Attributes:
        logits: ``[views, N, classes]``.
        key: of the views that the source was asked about, see :func:`kdops.data.views.key_of_views`.
    """

    logits: Tensor
    key: str

    def to(self, device: torch.device | str) -> KeptViews:
        """Return the same on another device."""
        return KeptViews(self.logits.to(device), self.key)


@dataclass(frozen=True, eq=False)
class Asked:
    """A source that is asked about the very batches that students see.

    Attributes:
        compute: from uint8 images ``[B, C, H, W]`` to logits ``[B, classes]``, without gradient.
    """

    compute: Callable[[Tensor], Tensor]

    def to(self, device: torch.device | str) -> Asked:
        """Return the same: it computes where the images are."""
        return self


@dataclass(frozen=True, eq=False)
class Reordered:
    """A source whose outputs for each image are those of another source for the image of another row.

    Attributes:
        source: the other one.
        rows: ``[N]``, on the device of the training.
    """

    source: Kept | Live
    rows: Tensor

    def at(self, rows: Tensor) -> Outputs:
        """Return the outputs ``[B, ...]`` of some images, given by their rows."""
        return self.source.at(self.rows[rows])

    def logits_at(self, rows: Tensor) -> Tensor:
        """Return the logits of some images alone."""
        return self.source.logits_at(self.rows[rows])

    @property
    def shapes(self) -> Shapes:
        """The shapes for one image."""
        return self.source.shapes


class FromProbabilities(nn.Module):
    """Returns log-probabilities of a program that returns probabilities: logits whose softmax is these again.

    Args:
        program: from uint8 images to probabilities ``[N, classes]``, or to several outputs.
        output: which of several outputs; None for the only one.
    """

    def __init__(self, program: nn.Module, output: int | None = None):
        super().__init__()
        self.program, self.output = program, output

    def forward(self, images: Tensor) -> Tensor:
        """Return log-probabilities ``[N, classes]``; a probability of zero counts as the smallest number there is."""
        given = self.program(images)
        given = given if self.output is None else given[self.output]
        return given.clamp_min(torch.finfo(given.dtype).tiny).log()


class RowOutputs(nn.Module):
    """A source that is asked with rows of the data set, not with images: its outputs were computed elsewhere.

    Args:
        logits: float32 ``[rows, classes]`` for every row of the data set; nan where they are not known.
        from_probabilities: these are the logarithms of probabilities.
    """

    logits: Tensor

    def __init__(self, logits: Tensor, from_probabilities: bool = False):
        super().__init__()
        self.from_probabilities = from_probabilities
        self.register_buffer("logits", logits)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the logits ``[N, classes]`` of rows, int64 ``[N]``."""
        return self.logits[rows]

    def knows(self, rows: np.ndarray) -> np.ndarray:
        """Return whether the outputs of rows are known, bool ``[N]``."""
        return self.logits[torch.from_numpy(np.array(rows))].isfinite().all(dim=1).numpy()


class Mixture(nn.Module):
    """Sources with shares.

    Args:
        members: from uint8 images ``[N, C, H, W]`` to logits ``[N, classes]``.
        shares: of each member, above zero; they sum to 1.
    """

    shares: Tensor

    def __init__(self, members: Sequence[nn.Module], shares: Sequence[float]):
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("shares", torch.tensor(shares))
        self.training = False

    def each(self, images: Tensor) -> Tensor:
        """Return the logits of every member, ``[members, N, classes]``."""
        return torch.stack([member(images).float() for member in self.members])

    def forward(self, images: Tensor) -> Tensor:
        """Return the logarithm of the averaged probabilities, ``[N, classes]``."""
        return averaged(self.each(images), self.shares, 1.0)


def averaged(each: Tensor, shares: Tensor, temperature: float) -> Tensor:
    r"""Return logits that, softened at a temperature, are the average of the members' softened probabilities.

    .. math:: z = T \log \sum_m w_m \operatorname{softmax}(z_m / T)

    Args:
        each: the members' logits ``[members, N, classes]``.
        shares: ``[members]``, which sum to 1.
        temperature: above zero.
    """
    softened = torch.log_softmax(each / temperature, dim=-1) + shares.log().view(-1, 1, 1)
    return temperature * torch.logsumexp(softened, dim=0)
