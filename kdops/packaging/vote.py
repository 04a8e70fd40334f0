"""An ensemble as one network: its members vote, and the votes are its scores."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn

from kdops.models.classifier import Classifier
from kdops.training.stacked import StackedMLPs, can_stack


class Vote(nn.Module):
    r"""The simple majority vote of networks; ties go to the higher mean probability.

    With :math:`p_m` the softmax of member :math:`m` of :math:`M` and :math:`v_c` the number of members whose highest
    probability is class :math:`c` (the first one, where several are as high), the scores are

    .. math:: s_c = \frac{v_c + \frac1M \sum_m p_m(c)}{M + 1}

    They sum to 1 and their highest is the majority's class: a member's probability of the class it votes for is at
    least that of any other, so the mean term, which alone is at most 1, can never make up for a whole vote.

    Dense members of one shape are computed in one pass, as when they were trained: 29 of them are exported in the
    time of one. Only for inference: ``train()`` and ``eval()`` change nothing.

    Args:
        members: networks from uint8 images ``[N, C, H, W]`` to logits ``[N, classes]``. They are put into ``eval()``;
            dense ones are copied.

    Raises:
        ValueError: there are no members.
    """

    order: Tensor

    def __init__(self, members: Sequence[nn.Module]):
        super().__init__()
        if not members:
            raise ValueError("an ensemble needs members")
        groups = _alike(members)
        self.parts = nn.ModuleList(_part([members[place] for place in group]) for group in groups)
        places = torch.tensor([place for group in groups for place in group])
        self.register_buffer("order", places.argsort(), persistent=False)
        self.count, self.sorted = len(members), bool((places.diff() > 0).all())
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores ``[N, classes]`` of uint8 images ``[N, C, H, W]``."""
        return _vote_scores(self.probabilities(images))

    def probabilities(self, images: Tensor) -> Tensor:
        """Return each member's probabilities, ``[members, N, classes]``, in the order of the members."""
        return self.logits(images).softmax(dim=2)

    def logits(self, images: Tensor) -> Tensor:
        """Return each member's logits, ``[members, N, classes]``, in the order of the members."""
        logits = torch.cat([part(images) for part in self.parts])
        return logits if self.sorted else logits[self.order]

    def train(self, mode: bool = True) -> Vote:
        """Leave everything as it is; networks that were exported refuse to be asked."""
        return self


class Tally(nn.Module):
    """What is stored of an ensemble: its scores, and beside them its mean probabilities, each ``[N, classes]``."""

    def __init__(self, vote: Vote):
        super().__init__()
        self.vote = vote

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores and mean probabilities ``[N, classes]`` of uint8 images ``[N, C, H, W]``."""
        probabilities = self.vote.probabilities(images)
        return _vote_scores(probabilities), probabilities.mean(dim=0)


def export_vote(vote: Vote, image_shape: tuple[int, int, int]) -> torch.export.ExportedProgram:
    """Export an ensemble, as :class:`Tally`, for batches of any size."""
    # Two images: a batch of one would be built into the exported program as its only size.
    example = torch.zeros(2, *image_shape, dtype=torch.uint8)
    with torch.no_grad():
        return torch.export.export(Tally(vote), (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))


class _Stacked(nn.Module):
    """Dense networks of one shape, computed as :class:`kdops.training.stacked.StackedMLPs` does it."""

    mean: Tensor
    std: Tensor
    wide_weight: Tensor
    wide_bias: Tensor

    def __init__(self, members: Sequence[Classifier]):
        super().__init__()
        stacked = StackedMLPs([members])
        self.size, self.hidden = len(members), stacked.hidden
        for name, value in {
            "mean": stacked.mean,
            "std": stacked.std,
            "wide_weight": stacked.wide_weights[0],
            "wide_bias": stacked.wide_biases[0],
            **{f"weight{depth}": value for depth, value in enumerate(stacked.weights)},
            **{f"bias{depth}": value for depth, value in enumerate(stacked.biases)},
        }.items():
            self.register_buffer(name, value.detach())
        self.depth = len(stacked.weights)

    def forward(self, images: Tensor) -> Tensor:
        inputs = ((images.float() - self.mean) / self.std).flatten(1)
        wide = nn.functional.linear(inputs, self.wide_weight, self.wide_bias).relu()
        hidden = wide.unflatten(1, (self.size, self.hidden)).transpose(0, 1)
        for depth in range(self.depth):
            weight, bias = getattr(self, f"weight{depth}"), getattr(self, f"bias{depth}")
            hidden = torch.baddbmm(bias.unsqueeze(1), hidden, weight.transpose(1, 2))
            if depth + 1 < self.depth:
                hidden = hidden.relu()
        return hidden


class _Single(nn.Module):
    """One network of any kind, its logits as ``[1, N, classes]``."""

    def __init__(self, member: nn.Module):
        super().__init__()
        self.member = member
        if any(part.training for part in member.modules()):
            # An exported network may be marked as training though it cannot train, and refuses ``eval()``.
            with suppress(NotImplementedError):
                member.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.member(images).float().unsqueeze(0)


def _alike(members: Sequence[nn.Module]) -> list[list[int]]:
    """Return the places of members that can be computed in one pass; each other member by itself."""
    groups: dict[object, list[int]] = {}
    for place, member in enumerate(members):
        groups.setdefault(_shape(member) or place, []).append(place)
    return list(groups.values())


def _shape(member: nn.Module) -> tuple | None:
    """Return what dense networks must share to be stacked; None for any other network."""
    if not isinstance(member, Classifier) or not can_stack(member):
        return None
    linears = [tuple(part.weight.shape) for part in member.net.children() if isinstance(part, nn.Linear)]
    if len(linears) < 2:
        return None
    return (*linears, tuple(member.mean.flatten().tolist()), tuple(member.std.flatten().tolist()))


def _part(members: Sequence[nn.Module]) -> nn.Module:
    if _shape(members[0]) is None:
        return _Single(members[0])
    return _Stacked([member for member in members if isinstance(member, Classifier)])


def _vote_scores(probabilities: Tensor) -> Tensor:
    """Return the scores ``[N, classes]`` of members' probabilities ``[members, N, classes]``.

    As :func:`kdops.verdicts.votes.vote_scores` has them: computed in float64, returned in float32.
    """
    members, _, classes = probabilities.shape
    # PyTorch's argmax returns the first of equals, so a member that is undecided votes for the lowest class.
    votes = nn.functional.one_hot(probabilities.argmax(dim=2), classes).sum(dim=0)
    return ((votes + probabilities.double().sum(dim=0) / members) / (members + 1)).float()
