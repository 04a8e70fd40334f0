"""A chain of distillations: what does each station on the way cost against distilling directly?

The last step is distilled from the first (the direct way), and from the best net of each station. Each claim is about
one number a replicate, the mean over the temperatures of a way's accuracy minus the direct one's, and is tested for
equivalence:

- ``chain``, primary: the whole chain, through every station. Of one station it is the claim of
  :func:`~kdops.verdicts.transitivity.transitivity_verdict`, with its words: its 90 % interval alone decides.
- ``station_1``, ``station_2``, ...: the way that ends at each earlier station.
- ``distilled_chain``: the whole chain from station to station by the best *distilled* net. The best of all may have
  learned from labels, and nothing of what came before passes through that.

The words of the others, and what they are adjusted for: see :mod:`kdops.verdicts.claims`.
"""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from kdops.config.chain import describe_path
from kdops.verdicts.claims import Verdict, check_accuracies
from kdops.verdicts.transitivity import Wording, in_replicates, way_spec, way_verdict


def chain_verdict(
    ways: Sequence[ArrayLike],
    direct: ArrayLike,
    margin: float,
    *,
    names: Sequence[str],
    via_distilled: ArrayLike | None = None,
    on_labels: Sequence[Sequence[int]] = (),
    select_on: str = "validation",
) -> Verdict:
    """Return for each station of a chain whether distilling through it is as good as distilling directly.

    Args:
        ways: for each station in order ``[replicates, temperatures]``, test accuracies of the last step's nets that
            are distilled from it, T >= 1 only; those of the last station are the whole chain's.
        direct: ``[replicates, temperatures]``, of those distilled from the first step.
        margin: accuracy difference that counts as none, a fraction above zero.
        names: what each station is called.
        via_distilled: as one of ``ways``, of the whole chain through distilled nets.
        on_labels: for each station the seeds of the replicates whose best net there learned from labels.
        select_on: ``validation`` or ``test``, what the best were chosen on; the sentence names ``test``.

    Returns:
        The verdict. Its statistics are those of each claim (:func:`kdops.verdicts.claims.equivalence_statistics`),
        then ``<claim>_via_accuracy``, ``chain_margin``, ``chain_direct_accuracy`` and ``chain_cut`` (in how many
        replicates the best net of some station learned from labels).

    Raises:
        ValueError: for no way at all, shapes that do not fit, accuracies that are not finite or not in [0, 1], a
            margin that is not above zero, or another ``select_on``.
    """
    if not len(ways) or len(ways) != len(names):
        raise ValueError(f"a chain needs at least one station, each with a name; there are {len(ways)}, {len(names)}")
    direct = check_accuracies("direct", direct)
    *earlier, whole = [check_accuracies("ways", way, direct.shape) for way in ways]
    specs = [
        way_spec(f"station_{number}", f"the last nets via {describe_path(names[:number])}", way, direct)
        for number, way in enumerate(earlier, start=1)
    ]
    if via_distilled is not None:
        subject = "the last nets via the best distilled net of every station"
        specs.append(way_spec("distilled_chain", subject, via_distilled, direct))
    cut = {seed for seeds in on_labels for seed in seeds}
    chosen = "the chosen nets and what is distilled from them"
    wording = Wording("the last nets", describe_path(names), "the stations", chosen)
    remark = _cut_phrase(len(cut), len(direct), on_labels, names) if cut else ""
    further = {"chain_cut": float(len(cut))}
    return way_verdict("chain", whole, direct, margin, lambda word: specs, select_on, wording, remark, further)


def _cut_phrase(cut: int, replicates: int, on_labels: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    stations = ", ".join(f"{name} ({len(seeds)})" for name, seeds in zip(names, on_labels, strict=True) if seeds)
    return (
        f"{in_replicates(cut, replicates)} the best net of a station is the one trained on hard labels, at {stations}: "
        "nothing of what came before passes through it."
    )
