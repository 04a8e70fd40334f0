"""Ensembles of a study: how the best N members of each replicate vote, for every N, and what they have in common."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kdops.config.settings import Settings
from kdops.data.examples import in_blocks
from kdops.errors import UsageError
from kdops.packaging.ensemble import digest_of_members, write_ensemble
from kdops.packaging.latency import latency
from kdops.packaging.vote import Vote
from kdops.sweeps.fingerprint import fingerprint
from kdops.sweeps.model import Model, Sweep
from kdops.sweeps.params import ARCHITECTURE, DATASET, FLOPS, MEMBERS, PARAMETERS, SPLIT_SEED, TRANSFER, VOTE
from kdops.sweeps.ranking import ranked
from kdops.tracking.datasets import Trainset
from kdops.tracking.model_run import Outcome
from kdops.training.evaluation import METRICS, measure
from kdops.verdicts.votes import Disagreement, McNemar, accuracy_curve, choose_size, disagreement, mcnemar, vote_scores

if TYPE_CHECKING:
    from kdops.study.study import Study


@dataclass(frozen=True, eq=False)
class VoteCurves:
    """What the members of one replicate choose, the best first.

    Attributes:
        seed: the replicate.
        members: the models.
        validation: ``[members]``, validation accuracy of the first N by simple majority, for every N.
        test: ``[members]``, test accuracy of the same.
        test_probability: ``[members]``, test accuracy of the first N by mean probability.
        shared: what the members have in common, on the test images.
    """

    seed: int
    members: tuple[Model, ...]
    validation: np.ndarray
    test: np.ndarray
    test_probability: np.ndarray
    shared: Disagreement


@dataclass(frozen=True)
class Cost:
    """What a model costs: trained values, and seconds a call for one image and for 64."""

    parameters: int
    latency_1: float
    latency_64: float


class EnsembleEvaluation:
    """The ensembles of the replicates, computed when they are asked for.

    Args:
        study: whose data, split and networks are used.
        replicates: the members of each replicate by its seed, in any order.
        top: how many of the best of each replicate vote; None for all.
    """

    def __init__(self, study: Study[Settings], replicates: Mapping[int, Sequence[Model]], top: int | None = None):
        self.study, self.by = study, study.settings.select_on
        self._members, self._top = replicates, top
        self.most = min(len(members[:top]) for members in replicates.values())
        """The number of members that every replicate has."""
        if top is not None and top > self.most:
            raise UsageError("top", top, f"there are {self.most} members; give at most {self.most}")

    @cached_property
    def replicates(self) -> dict[int, list[Model]]:
        """The members of each replicate, the best first."""
        by = self.study.settings.criterion
        return {seed: ranked(members, by)[: self._top] for seed, members in self._members.items()}

    @cached_property
    def ballots(self) -> tuple[VoteCurves, ...]:
        """The votes of each replicate."""
        return tuple(self._ballot(seed, members) for seed, members in self.replicates.items())

    def curves(self, what: str) -> np.ndarray:
        """Return ``validation``, ``test`` or ``test_probability`` for every N as ``[replicates, members]``."""
        return np.stack([getattr(ballot, what)[: self.most] for ballot in self.ballots])

    def size(self) -> int:
        """Choose the number of members: on validation, or on test where ``select_on`` is ``test``."""
        return choose_size(self.curves(self.by))

    def single(self) -> np.ndarray:
        """Return the test accuracy of each replicate's best member, ``[replicates]``."""
        return self.curves("test")[:, 0]

    def of(self, size: int) -> np.ndarray:
        """Return the test accuracy of each replicate's first ``size`` members, ``[replicates]``."""
        return self.curves("test")[:, min(size, self.most) - 1]

    def shared(self) -> list[Disagreement]:
        """Return what the members of each replicate have in common."""
        return [ballot.shared for ballot in self.ballots]

    def paired(self, size: int) -> list[McNemar]:
        """Compare each replicate's ensemble with its best member image by image."""
        test, found = self.study.split.test, []
        labels = self._labels(test)
        for members in self.replicates.values():
            each = self._probabilities(members[:size], test)
            single, together = (scores.argmax(axis=1) == labels for scores in (each[0], vote_scores(each)))
            found.append(mcnemar(single, together))
        return found

    def costs(self, size: int) -> tuple[Cost, Cost]:
        """Return what the best member of the first replicate costs, and what its ensemble does, on one thread."""
        members = next(iter(self.replicates.values()))
        return self._cost(members[:1]), self._cost(members[:size])

    def register(self, size: int) -> Sweep:
        """Store and register the ensemble of each replicate."""
        return Sweep(tuple(self._register(seed, members[:size]) for seed, members in self.replicates.items()))

    def _ballot(self, seed: int, members: Sequence[Model]) -> VoteCurves:
        split = self.study.split
        val, test = self._labels(split.validation), self._labels(split.test)
        validation = accuracy_curve(self._probabilities(members, split.validation), val)
        each = self._probabilities(members, split.test)
        return VoteCurves(
            seed,
            tuple(members),
            validation,
            accuracy_curve(each, test),
            accuracy_curve(each, test, vote="probability"),
            disagreement(each.argmax(axis=2), test),
        )

    def _register(self, seed: int, members: Sequence[Model]) -> Model:
        study, data, split = self.study, self.study.data, self.study.split
        metrics: dict[str, float] = {}
        for prefix, rows in (("val", split.validation), ("test", split.test)):
            metrics |= measure_vote(self._logits(members, rows), torch.from_numpy(self._labels(rows)), prefix)
        weights = digest_of_members([member.weights for member in members])
        chains = {member.chain or member.role for member in members}
        flops = [member.params.get(FLOPS) for member in members]
        architectures = sorted({member.architecture for member in members})
        select_on = "test" if any(member.select_on == "test" for member in members) else self.by
        record = Model(
            role="ensemble",
            seed=seed,
            temperature=math.nan,
            chain=f"{chains.pop() if len(chains) == 1 else 'several'}>ensemble",
            source=" ".join(member.uri for member in members),
            uri="",
            weights=weights,
            select_on=select_on,
            metrics=metrics,
            params={
                DATASET: data.name,
                ARCHITECTURE: f"vote({len(members)} x {' or '.join(architectures)})",
                MEMBERS: str(len(members)),
                PARAMETERS: str(sum(int(member.params[PARAMETERS]) for member in members)),
                # Where one cannot be counted, neither can the sum.
                **({} if None in flops else {FLOPS: str(sum(int(one) for one in flops if one is not None))}),
                VOTE: "majority",
                TRANSFER: split.mode,
                SPLIT_SEED: str(study.settings.split_seed),
            },
        )
        chosen = {"select_on": select_on} if select_on == "test" else {}
        digest = fingerprint(
            ensemble=weights, members=record.source, split=split.digest, data=data.digest, seed=seed, **chosen
        )
        trainset = Trainset(split.hop(0), "transfer images of the members")
        outcome = Outcome(record, digest, digest, tuple(members), trainset, {}, 0.0, time.time())
        write = partial(
            write_ensemble,
            nets=[study.network(member) for member in members],
            image_shape=data.shape,
            metadata={**data.metadata, "architecture": record.architecture},
            members=members,
        )
        return study.store(outcome, write)

    def _cost(self, members: Sequence[Model]) -> Cost:
        nets = [self.study.network(member) for member in members]
        module = nets[0] if len(nets) == 1 else Vote(nets)
        shape = self.study.data.shape
        parameters = sum(int(member.params[PARAMETERS]) for member in members)
        return Cost(parameters, latency(module, shape, 1), latency(module, shape, 64))

    def _labels(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.study.data.labels[rows])

    def _probabilities(self, members: Sequence[Model], rows: np.ndarray) -> np.ndarray:
        """Return the members' probabilities ``[members, images, classes]``."""
        return self._logits(members, rows).softmax(dim=2).numpy()

    @torch.no_grad()
    def _logits(self, members: Sequence[Model], rows: np.ndarray) -> Tensor:
        """Return the members' logits ``[members, images, classes]``."""
        vote = Vote([self.study.network(member) for member in members])
        return torch.cat([vote.logits(block) for block in in_blocks(self.study.data.images, rows)], dim=1)


def measure_vote(logits: Tensor, labels: Tensor, part: str) -> dict[str, float]:
    """Measure an ensemble: by its majority vote how often it is right, by its mean probability how sure it is.

    Args:
        logits: of the members, ``[members, N, classes]``.
        labels: ``[N]`` class numbers.
        part: ``val`` or ``test``.

    Returns:
        As :func:`kdops.training.evaluation.measure`; an ensemble of one has the numbers of its member.
    """
    mean = logits.double().log_softmax(dim=2).logsumexp(dim=0) - math.log(len(logits))
    # The scores sum to 1, so their logarithms are logits whose softmax they are.
    voted = measure(torch.from_numpy(vote_scores(logits.softmax(dim=2).numpy())).log(), labels, part)
    of_vote = {f"{part}_{name}" for name, metric in METRICS.items() if metric.of_vote}
    return measure(mean, labels, part) | {name: value for name, value in voted.items() if name in of_vote}


def common(whose: str, shared: Sequence[Disagreement]) -> str:
    """Return in a sentence what members have in common, as the mean over replicates."""
    parts = [f"one of two is right alone on {100 * np.mean([d.disagreement for d in shared]):.1f} % of images"]
    q = [d.q_statistic for d in shared if d.q_statistic is not None]
    alike = [d.wrong_alike for d in shared if d.wrong_alike is not None]
    parts += [f"Q statistic {np.mean(q):.3f}"] if q else []
    parts += [f"two that are wrong agree in {100 * np.mean(alike):.1f} %"] if alike else []
    return f"{whose}: {', '.join(parts)} (n = {len(shared)})."


def describe_costs(one: Cost, many: Cost) -> str:
    """Return in a sentence what an ensemble costs against one member."""
    return (
        f"The ensemble has {many.parameters:,} parameters against {one.parameters:,} of one member, and takes "
        f"{1e3 * many.latency_1:.2f} against {1e3 * one.latency_1:.2f} ms for one image, "
        f"{1e3 * many.latency_64:.2f} against {1e3 * one.latency_64:.2f} ms for 64, on one thread here."
    )
