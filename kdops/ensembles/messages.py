"""Messages about members: which replicates they are of, what was left out, and what there is where none can vote."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from shlex import quote

from kdops.config.settings import HIGHEST_SEED
from kdops.data.dataset import Dataset
from kdops.data.splits import Split
from kdops.errors import UsageError
from kdops.registry.registered import RegisteredModels, RegisteredVersion
from kdops.registry.versions import group_of
from kdops.sweeps import schema
from kdops.sweeps.params import TRANSFER

STUDIES = {"teacher": "teacher", "student": "students", "middle": "transitivity", "reversed": "symmetry"}
"""The entry point that trains a role; any other role comes with an ensemble."""


def advice(role: str, data: Dataset, transfer: str = "") -> str:
    """Return which command makes models that can vote."""
    transfer = f" --transfer {transfer}" if transfer else ""
    return f"run `kdops {STUDIES.get(role, 'ensemble')} --dataset {quote(data.given)}{transfer}` first"


def describe_replicates(seeds: Collection[int]) -> str:
    """Return which replicates: ``replicate 3``, ``replicates 0 to 2``, ``replicates 0, 2, 5``."""
    known = sorted(seeds) if not isinstance(seeds, range) else seeds
    first, last = known[0], known[-1]
    if isinstance(seeds, range) and last == HIGHEST_SEED:
        return f"replicates from {first} on"
    if first == last:
        return f"replicate {first}"
    if last - first == len(known) - 1:
        return f"replicates {first} to {last}"
    return f"replicates {', '.join(map(str, known))}"


def describe_left_out(left_out: Counter[str], name: str, count: int) -> str:
    """Return what was left out of the versions of a model; the rarest reasons are summed up."""
    reasons = [(why, number) for why, number in left_out.most_common() if number]
    if not reasons:
        return ""
    parts = [f"{number} {why}" for why, number in reasons[:4]]
    if rest := sum(number for _, number in reasons[4:]):
        parts.append(f"{rest} for other reasons")
    return f"{left_out.total()} of {count} versions of {name} are left out: {'; '.join(parts)}."


def check_group(versions: Mapping[str, RegisteredVersion], data: Dataset, split: Split) -> None:
    """Refuse versions that were trained or chosen on other images than each other, or than those of a split.

    Raises:
        UsageError: names the versions, and what to do about it.
    """
    if not versions:
        return
    first, version = next(iter(versions.items()))
    for name, wanted in group_of(data, split).items():
        value = version.tags[name]
        for uri, other in versions.items():
            if other.tags[name] != value:
                differ = f"differ in {name}: {_short(value)} and {_short(other.tags[name])}"
                raise UsageError("model", f"{first},{uri}", differ)
        if value != wanted:
            instead = {TRANSFER: f"; give transfer={value}", schema.SPLIT_DIGEST: "; give the split_seed of its run"}
            problem = f"has {name} {_short(value)}, not {_short(wanted)}{instead.get(name, '')}"
            raise UsageError("model", first, problem)


def other_group_error(
    models: RegisteredModels,
    data: Dataset,
    split: Split,
    name: str,
    versions: Sequence[RegisteredVersion],
    first: str,
) -> UsageError:
    """Return what there is instead of versions of a data set and split.

    Args:
        versions: its versions that could vote if they were of this split.
        first: what to do where there is nothing.
    """
    here = [version for version in versions if version.tags[schema.DATA_DIGEST] == data.digest]
    if not here:
        return UsageError("dataset", data.name, f"all {len(versions)} versions of {name} are of other data; {first}")
    groups = {(version.tags[TRANSFER], version.tags[schema.SPLIT_DIGEST]): version for version in here}
    counts = Counter((version.tags[TRANSFER], version.tags[schema.SPLIT_DIGEST]) for version in here)
    there, instead = [], []
    for (transfer, digest), count in counts.most_common(3):
        seed = models.split_seed(groups[transfer, digest])
        # A split of the same seed can still be another one: fresh images are dealt by the number of hops.
        other = [f"transfer={transfer}"] if transfer != split.mode else []
        other += [f"split_seed={seed}"] if seed not in ("", str(split.seed)) else []
        there.append(f"{count} versions with {' and '.join(other) or f'another split of transfer={transfer}'}")
        instead += [" and ".join(other)] if other else []
    what = f"{name} has {' and '.join(there)}; {'give ' + ' or '.join(instead) if instead else first}"
    if any(transfer == split.mode for transfer, _ in counts):
        return UsageError("split_seed", split.seed, what)
    return UsageError("transfer", split.mode, what)


def _short(value: str) -> str:
    """Cut a digest to what can be compared by eye."""
    return value[:12] if re.fullmatch(r"[0-9a-f]{64}", value) else value
