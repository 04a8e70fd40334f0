"""A chain of distillations: what does each station on the way cost against distilling directly?"""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from kdops.config.chain import describe_path
from kdops.verdicts.claims import (
    LEVEL,
    Claim,
    Verdict,
    adjust,
    check_accuracies,
    check_select_on,
    equivalence_statistics,
    percent,
    replicate_means,
    secondary_claim,
)
from kdops.verdicts.statistics import equivalence
from kdops.verdicts.transitivity import Wording, transitivity_word, worded

__all__ = ["chain_verdict"]

WORDING = Wording("the last nets", "the stations", "the chosen nets and what is distilled from them")


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
    """Return of each station of a chain whether the way through it gives what distilling directly gives.

    The last step is distilled from the first (the direct way), and from the best net of each station. Each claim is
    about one number a replicate, the mean over the temperatures of a way's accuracy minus the direct one's, and is
    tested for equivalence within ``margin``:

    - ``chain``, primary: the whole chain, through every station. Of one station it is the claim of
      :func:`~kdops.verdicts.transitivity.transitivity_verdict`, with its words: its 90 % interval alone decides.
    - ``station_1``, ``station_2``, ...: the way that ends at each earlier station.
    - ``distilled_chain``, with ``via_distilled``: the whole chain from station to station by the best *distilled* net.
      The best of all may have learned from labels, and nothing of what came before passes through that.

    The others are ``equal``, ``different`` or ``inconclusive`` by p-values below 5 % after Holm's adjustment over all
    the claims, as there. Fewer than three replicates leave every claim ``inconclusive``.

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
        The verdict. Its statistics are those of each claim's test, see
        :func:`~kdops.verdicts.transitivity.transitivity_verdict`, then ``chain_margin``, ``chain_via_accuracy``,
        ``chain_direct_accuracy``, ``station_<n>_via_accuracy``, ``distilled_chain_via_accuracy`` and
        ``chain_cut`` (in how many replicates the best net of some station learned from labels).

    Raises:
        ValueError: for no way at all, shapes that do not fit, accuracies that are not finite or not in [0, 1], a
            margin that is not above zero, or another ``select_on``.
    """
    check_select_on(select_on)
    if not len(ways) or len(ways) != len(names):
        raise ValueError(f"a chain needs at least one station, each with a name; there are {len(ways)}, {len(names)}")
    direct = check_accuracies("direct", direct)
    ways = [check_accuracies("ways", way, direct.shape) for way in ways]
    subjects = {f"station_{number}": describe_path(names[:number]) for number in range(1, len(ways))}
    accuracies = {"chain": ways[-1], **dict(zip(subjects, ways, strict=False))}
    if via_distilled is not None:
        accuracies["distilled_chain"] = check_accuracies("via_distilled", via_distilled, direct.shape)
        subjects["distilled_chain"] = "the best distilled net of every station"

    results = {
        name: equivalence(replicate_means(values - direct), margin, LEVEL) for name, values in accuracies.items()
    }
    adjusted = adjust({name: (r.p_equivalent, r.p_different) for name, r in results.items()})

    primary = results["chain"]
    word = transitivity_word(primary)
    told = f"{percent(ways[-1])} on average via {describe_path(names)} against {percent(direct)} directly"
    sentence = worded(word, primary, told, direct.shape[1], select_on, WORDING)
    cut = {seed for seeds in on_labels for seed in seeds}
    if cut:
        sentence += " " + _cut_told(len(cut), len(direct), on_labels, names)
    claims = [Claim("chain", word, sentence, primary)]
    claims += [
        secondary_claim(
            name, f"the last nets via {subject} against direct ones", results[name], adjusted[name], len(results)
        )
        for name, subject in subjects.items()
    ]

    statistics: dict[str, float] = {}
    for name, result in results.items():
        statistics |= equivalence_statistics(name, result, adjusted[name])
    statistics |= {f"{name}_via_accuracy": float(values.mean()) for name, values in accuracies.items()}
    statistics |= {"chain_margin": primary.margin, "chain_direct_accuracy": float(direct.mean())}
    return Verdict(word, sentence, {**statistics, "chain_cut": float(len(cut))}, tuple(claims))


def _cut_told(cut: int, replicates: int, on_labels: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    where = "the only replicate" if replicates == 1 else f"{cut} of {replicates} replicates"
    stations = ", ".join(f"{name} ({len(seeds)})" for name, seeds in zip(names, on_labels, strict=True) if seeds)
    return (
        f"In {where} the best net of a station is the one trained on hard labels, at {stations}: nothing of what came "
        "before passes through it."
    )
