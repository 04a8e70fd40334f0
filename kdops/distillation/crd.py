"""The method ``crd``: each image's embeddings in both networks are near, and far from those of other classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdops.config.architectures import EMBEDDING
from kdops.distillation.adapters import MemberLinear
from kdops.distillation.method import Method, Needs, Shapes, SourceOutputs, Step
from kdops.distillation.softening import as_weight, with_gradient
from kdops.errors import UsageError

MEMORY_SHARE = 0.25
"""Of the free memory, which the memories of all students that are trained together may take."""

SCORES_AT_ONCE = 2**24
"""Pairs of an image and a negative that are computed at a time, of several students."""


@dataclass(frozen=True)
class ContrastiveDistillation(Method):
    r"""``CE(labels) + weight · (L of the student's embeddings + L of the source's)``; T has no part in it.

    Both embeddings go through a dense layer and are brought to length 1. For either network a memory has such a vector
    for each training image, which follows what is computed: ``momentum`` of the old, the rest of the new. A vector v
    is compared with the other network's memory u of the same image, and with that of K images of other classes
    (equations 17 to 19, noise contrastive estimation over N images):

    .. math::
        h(u, v) = \frac{p}{p + K / N}, \quad p = \frac{e^{u \cdot v / \tau}}{Z}, \qquad
        L = -\log h(u^+, v) - \sum_k \log (1 - h(u^-_k, v))

    the mean over the batch. The paper has no Z; in the authors' code it is N times the mean of the exponentials in the
    first batch, for good. Memories begin at random, so this is about :math:`N e^{1 / (2 d \tau^2)}` with vectors of
    length d, which is taken here. They draw K negatives for each image; here K are drawn for each batch, with
    replacement, and those of an image's own class left out for it, so that a product of matrices is left; the sum is
    K times the mean over what is left. Layers and memories are dropped in the end.

    Reference: Tian, Krishnan and Isola, "Contrastive Representation Distillation", ICLR 2020.

    Attributes:
        weight: of the sum.
        negatives: K.
        tau: the temperature of the products.
        dim: length of the vectors.
        momentum: share of a memory that stays.
        mode: ``exact`` for the same image as positive, ``relax`` for any image of its class.
    """

    weight: float | Tensor = 0.8
    negatives: int = 128
    tau: float | Tensor = 0.07
    dim: int = 32
    momentum: float | Tensor = 0.5
    mode: str = "exact"

    vanishes = False

    @property
    def needs(self) -> Needs:
        """The embedding of both networks, which may differ in size, and which images they are of."""
        return Needs((EMBEDDING,), (EMBEDDING,), joint=True, rows=True)

    def modules(self, student: Shapes, source: Shapes) -> nn.Module:
        """Return the dense layers; the memories are empty yet."""
        (own,), (theirs,) = student.features[EMBEDDING], source.features[EMBEDDING]
        return _Memories(own, theirs, self.dim)

    def check_room(self, images: int, members: int) -> None:
        """Refuse memories that would take too much of the free memory, before one is made.

        Raises:
            UsageError: says how much they would take.
        """
        # Each student has two, which are joined to one for all once they are made.
        size, free = 2 * 8 * members * images * self.dim, psutil.virtual_memory().available
        if size > MEMORY_SHARE * free:
            told = f"{size / 1e9:.1f} GB, more than {MEMORY_SHARE:g} of the free memory; lower dim"
            memories = f"the memories of {members} students for {images} images take"
            raise UsageError("method", f"crd(dim={self.dim})", f"{memories} {told}")

    def prepare(self, modules: nn.Module, source: SourceOutputs, labels: Tensor) -> None:
        """Make the memories."""
        assert isinstance(modules, _Memories)
        modules.fill(labels)

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the term ``contrast``."""
        assert isinstance(modules, _Memories)
        vectors = [
            F.normalize(layer(one.features[EMBEDDING]), dim=-1)
            for layer, one in zip(modules.layers, (step.student, step.source), strict=True)
        ]
        with torch.no_grad():
            found = self._compared(vectors, step, modules)
        both = [with_gradient(own, *one) for own, one in zip(vectors, found, strict=True)]
        return {"contrast": as_weight(self.weight, both[0]) * (both[0] + both[1])}

    def _compared(self, vectors: Sequence[Tensor], step: Step, modules: _Memories) -> list[tuple[Tensor, Tensor]]:
        """Compare the vectors of both networks with the memories, then remember them.

        Returns:
            For each network the loss ``[M]`` and its gradient by the vectors ``[M, B, d]``.
        """
        rows, memories = modules.drawn(self.negatives), modules.memories()
        near = before = [_rows_of(memory, step.rows) for memory in memories]
        if self.mode == "relax":
            positives = modules.of_class(step.labels, step.rows)
            near = [_rows_of(memory, positives) for memory in memories]
        modules.get_buffer("step").add_(1)
        others = modules.get_buffer("labels").gather(1, rows).unsqueeze(1) != step.labels.unsqueeze(2)
        tau = _for_each(self.tau, vectors[0]).expand(len(rows), 1, 1)
        # log Z K / N, where N is left out of both.
        scale = 1 / (2 * self.dim * tau.square()) + math.log(self.negatives)
        found = []
        for own, other in ((0, 1), (1, 0)):
            given = vectors[own], near[other], _rows_of(memories[other], rows), others.to(scale), tau, scale
            parts = zip(*(one.split(max(1, SCORES_AT_ONCE // others[0].numel())) for one in given), strict=True)
            found.append(tuple(map(torch.cat, zip(*(_contrast(*part) for part in parts), strict=True))))
        for memory, own_vectors, old in zip(memories, vectors, before, strict=True):
            new = F.normalize(torch.lerp(own_vectors, old, _for_each(self.momentum, old)), dim=-1)
            memory.scatter_(1, step.rows.unsqueeze(-1).expand_as(new), new)
        return found  # type: ignore[return-value]


class _Memories(nn.Module):
    """What is trained and remembered beside one student, or several; the first axis of each tensor is theirs.

    Draws are a function of a seed and of the number of steps, so they are the same after a checkpoint; see Steele, Lea
    and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
    """

    def __init__(self, inputs: int, source_inputs: int, dim: int):
        super().__init__()
        self.dim = dim
        self.layers = nn.ModuleList([MemberLinear(inputs, dim), MemberLinear(source_inputs, dim)])
        self.register_buffer("seed", torch.randint(2**62, (1, 1)))
        self.register_buffer("step", torch.zeros(1, 1, dtype=torch.long))

    def fill(self, labels: Tensor) -> None:
        """Make the memories of images, given by their labels."""
        weight, bound = self.layers[0].get_parameter("weight"), math.sqrt(3 / self.dim)
        for name in ("own", "source"):
            begin = torch.empty(1, len(labels), self.dim).uniform_(-bound, bound)
            self.register_buffer(name, begin.to(weight))
        order, counts = labels.argsort(stable=True), labels.bincount()
        for name, values in {"labels": labels, "order": order, "counts": counts, "ends": counts.cumsum(0)}.items():
            self.register_buffer(name, values.unsqueeze(0))

    def memories(self) -> list[Tensor]:
        """Return the memory of the student and that of the source, ``[M, N, d]``."""
        return [self.get_buffer("own"), self.get_buffer("source")]

    def drawn(self, count: int) -> Tensor:
        """Return rows of any images, ``[M, count]``."""
        labels = self.get_buffer("labels")
        return self._numbers(torch.arange(count, device=labels.device)) % labels.shape[1]

    def of_class(self, labels: Tensor, rows: Tensor) -> Tensor:
        """Return for each image ``[M, B]`` the row of any image of its class."""
        counts, ends = (self.get_buffer(name).gather(1, labels) for name in ("counts", "ends"))
        return self.get_buffer("order").gather(1, ends - 1 - self._numbers(rows + LATER) % counts)

    def _numbers(self, places: Tensor) -> Tensor:
        """Return a number from 0 to 2^62 for each place ``[M, ...]`` in the draws of a step."""
        found = self.get_buffer("seed") + (self.get_buffer("step") * 2 * LATER + places) * GOLDEN
        for shift, factor in MIXING:
            found = (found ^ (found >> shift & (1 << 64 - shift) - 1)) * factor
        return found >> 2 & (1 << 62) - 1


MOST = 80.0
"""The logarithm of odds beyond which a probability is 1 and the exponential would soon be infinite."""

LATER = 2**31
"""From which place on the draws of positives begin; no data set has as many images."""

GOLDEN = -7046029254386353131
MIXING = ((30, -4658895280553007687), (27, -7723592293110705685), (31, 1))
"""The constants of SplitMix64 as signed numbers: the golden ratio, shifts and factors."""


def _contrast(
    own: Tensor, near: Tensor, far: Tensor, others: Tensor, tau: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the loss of vectors, ``[M]``, and its gradient by them.

    Args:
        own: the vectors ``[M, B, d]``.
        near: the memory of the positive of each.
        far: those of the negatives ``[M, K, d]``.
        others: 1 for those of another class, else 0, ``[M, B, K]``.
        tau: temperatures ``[M, 1, 1]``.
        scale: the logarithm of Z K / N, ``[M, 1, 1]``.
    """
    batch, count = others.shape[1:]
    to_near = (own * near).sum(dim=-1, keepdim=True) / tau - scale
    odds = torch.baddbmm(-scale, own / tau, far.mT).clamp_max_(MOST).exp_().mul_(others)
    shares = count / others.sum(dim=-1, keepdim=True).clamp_min(1) / batch
    above = odds + 1
    loss = F.softplus(-to_near).mean(dim=(1, 2)) + (above.log() * shares).sum(dim=(1, 2))
    slopes = (odds.div_(above) @ far) * shares - torch.sigmoid(-to_near) * near / batch
    return loss, slopes / tau


def _rows_of(memory: Tensor, rows: Tensor) -> Tensor:
    """Return the vectors ``[M, B, d]`` of a memory ``[M, N, d]`` at rows ``[M, B]``."""
    members, count, dim = memory.shape
    places = rows + count * torch.arange(members, device=rows.device).unsqueeze(1)
    return memory.view(-1, dim).index_select(0, places.flatten()).view(*rows.shape, dim)


def _for_each(value: float | Tensor, like: Tensor) -> Tensor:
    """Return an option for tensors ``[M, B, ...]``."""
    # A number is filled in on the device: a copy from the memory of the program cannot be recorded.
    return value.to(like.dtype).view(-1, 1, 1) if isinstance(value, Tensor) else like.new_full((1, 1, 1), value)
