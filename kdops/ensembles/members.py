"""The members of an ensemble, drawn from the registry. It only reads.

A kdops model says in its tags and on its run what it is and how it was trained, so only like is put with like. Models
that others registered say none of that; they can be members where they are named.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from shlex import quote
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from kdops.config.methods import method_apart
from kdops.data.dataset import Dataset
from kdops.data.splits import Split
from kdops.errors import UsageError
from kdops.registry.lookup import find_version, names_told, runs_of, sources_of, split_seed_of, uri_of
from kdops.registry.versions import group_of, registered_name, versions_of
from kdops.sweeps import schema
from kdops.sweeps.model import LABELS, METRICS, Model, rank_key

__all__ = ["STUDIES", "Drawn", "draw_members", "newest_split", "replicates_told"]

FEWEST = 2
"""One model is no ensemble."""

LAST = 2**31 - 1
"""No seed is higher."""

TRAINED = ("architecture", "epochs", "batch_size", "learning_rate", "weight_decay")
DISTILLED = ("method", "alpha", "t_squared", "order")
"""Parameters of a run that say how its model was trained; the second ones touch none that learned from labels."""

STUDIES = {"teacher": "teacher", "student": "students", "middle": "transitivity", "reversed": "symmetry"}
"""The entry point that trains a role; any other role comes with an ensemble."""

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Drawn:
    """The members that were drawn.

    Attributes:
        name: the registered model they are versions of; empty for versions that were listed one by one.
        replicates: the members of each replicate, the best first. Models that were listed, and those of others, make
            one ensemble and are one replicate; where not all say their accuracy they stay as listed, or newest first.
        left_out: what was not drawn and why, one sentence; empty where nothing was left out.
    """

    name: str
    replicates: tuple[tuple[Model, ...], ...]
    left_out: str = ""

    @property
    def seeds(self) -> tuple[int, ...]:
        """The replicates' seeds; the number of one whose members are of several replicates or of none."""
        found = [{member.replicate for member in members if member.own} for members in self.replicates]
        return tuple(own.pop() if len(own) == 1 else number for number, own in enumerate(found))

    @property
    def members(self) -> tuple[Model, ...]:
        """All members, replicate by replicate."""
        return tuple(member for replicate in self.replicates for member in replicate)

    @property
    def size(self) -> int:
        """How many members each replicate has at least."""
        return min(map(len, self.replicates))


def draw_members(
    client: MlflowClient,
    data: Dataset,
    split: Split,
    *,
    role: str = "student",
    model: str = "",
    top: int | None = None,
    select_on: str = "validation",
    temperatures: Collection[float] | None = None,
    replicates: range | None = None,
) -> Drawn:
    """Draw the members of ensembles, one ensemble for each replicate.

    Versions of another data set, transfer setting or split are never drawn; of students only those distilled straight
    from a teacher at a temperature of 1 or more, of other roles none that learned another model's hard predictions.
    Versions that were trained in different ways (they or their sources)
    are not mixed: the newest way counts, and where a replicate was trained on several sources, the newest of these.
    Of two equal trainings the newer counts.

    Args:
        client: an MLflow client.
        data: the data set.
        split: the split.
        role: what votes, where ``model`` does not say.
        model: a registered name, or URIs parted by commas, ``models:/name/3,models:/name@champion``.
        top: so many of the best of each replicate; None for all.
        select_on: ``validation``, or ``test`` to mimic the paper: what the best are.
        temperatures: of distilled models only those of these temperatures; None for all. What was listed by URI is
            taken whatever its temperature.
        replicates: only models of these; None for all. Models of others belong to none, and are taken.

    Raises:
        UsageError: there is nothing to draw, and what to do about it.
    """
    if top is not None and top < FEWEST:
        raise UsageError("top", top, f"must be at least {FEWEST}: one model is no ensemble")
    if model.startswith("models:"):
        drawn = _listed(client, data, split, model, select_on, replicates)
    else:
        name = model or registered_name(data.name, role)
        drawn = _named(client, data, split, name, role, select_on, temperatures, replicates)
    return drawn if top is None else _top(drawn, top, select_on)


def newest_split(
    client: MlflowClient,
    data: Dataset,
    *,
    role: str = "student",
    model: str = "",
    transfer: str | None = None,
    split_seed: int | None = None,
) -> tuple[str, int] | None:
    """Return the transfer setting and the split's seed of the newest version that could be drawn; None without one.

    Args:
        client: an MLflow client.
        data: the data set.
        role: what votes, where ``model`` does not say.
        model: as for :func:`draw_members`; of versions that are listed the first counts.
        transfer: the transfer setting, where it is known.
        split_seed: the seed of the split, where it is known.

    Raises:
        UsageError: ``model`` lists what is not there.
    """
    if model.startswith("models:"):
        versions = [find_version(client, uri.strip()) for uri in model.split(",")]
        could = [version for version in versions if schema.is_own(version)]
    else:
        versions = versions_of(client, model or registered_name(data.name, role))[::-1]
        could = [version for version in versions if schema.is_own(version) and _is_direct(version, data.name)]
    seeds: dict[str, str | None] = {}
    for version in could:
        mode, digest = version.tags["transfer"], version.tags["split"]
        if version.tags["data_digest"] != data.digest or mode != (transfer or mode):
            continue
        if digest not in seeds:
            seeds[digest] = split_seed_of(client, version)
        seed = seeds[digest] or ""
        if seed.isdigit() and int(seed) == (int(seed) if split_seed is None else split_seed):
            return mode, int(seed)
    return None


def _named(
    client: MlflowClient,
    data: Dataset,
    split: Split,
    name: str,
    role: str,
    select_on: str,
    temperatures: Collection[float] | None,
    wanted_replicates: range | None,
) -> Drawn:
    """Draw from the versions of a registered model."""
    first = f"run `kdops {STUDIES.get(role, 'ensemble')} --dataset {quote(data.given)} --transfer {split.mode}` first"
    versions = versions_of(client, name)
    if not versions:
        if name == registered_name(data.name, role):
            raise UsageError("model", name, f"the registry has none yet; {first}")
        raise UsageError("model", name, f"there is no such registered model; {names_told(client)}")
    if not any(map(schema.is_own, versions)):
        members = [schema.from_version(version) for version in reversed(versions)]
        return Drawn(name, (_ranked(_enough(members, name, first), select_on),))
    left_out: Counter[str] = Counter()
    ours = _keep(versions, schema.is_own, "not registered by kdops", left_out)
    wanted = group_of(data, split)
    same = _keep(ours, lambda v: wanted.items() <= v.tags.items(), "of other data, transfer or split", left_out)
    if not same:
        raise _other_group(client, data, split, name, ours, first)
    direct = _keep(same, lambda v: _is_direct(v, data.name), "not distilled straight from a teacher", left_out)
    if not direct:
        chains = ", ".join(sorted({f"{v.tags['chain']} T={v.tags['temperature']}" for v in same})[:5])
        raise UsageError("model", name, f"none of its {len(same)} versions can vote here ({chains}); {first}")
    if temperatures is not None:
        # A model that learned from labels has no temperature to be asked for.
        wanted_too = {*temperatures, 0.0, None}
        direct = _keep(
            direct, lambda v: schema.finite(v.tags["temperature"]) in wanted_too, "of other temperatures", left_out
        )
    runs = runs_of(client, direct)
    whole = _keep(direct, lambda v: _run_id(v) in runs, "without a finished run", left_out)
    if not all(_starts_apart(runs[_run_id(version)]) for version in whole):
        # Of a chain that has a role twice; beside the sweep they would be members of one temperature and seed twice.
        whole = _keep(whole, lambda v: not _starts_apart(runs[_run_id(v)]), "of a step inside a chain", left_out)
    if whole and all(_votes(runs[_run_id(version)]) for version in whole):
        raise UsageError("model", name, "its versions are ensembles themselves; name what they are made of")
    # Newest first from here on: the first of equals is the one that counts.
    members = [schema.from_version(version, runs[_run_id(version)]) for version in reversed(whole)]
    if wanted_replicates is not None:
        there = {member.replicate for member in members}
        members = _keep(members, lambda m: m.replicate in wanted_replicates, "of other replicates", left_out)
        if there and not members:
            told = f"{name} has models of {replicates_told(there)}, none of {replicates_told(wanted_replicates)}"
            raise UsageError("seed", wanted_replicates.start, told)
    replicates: dict[int, list[Model]] = {}
    for member in _newest_training(members, sources_of(client, members), left_out):
        replicates.setdefault(member.replicate, []).append(member)
    chosen = []
    for seed, own in sorted(replicates.items()):
        if len(own) < FEWEST:
            left_out[f"alone in replicate {seed}"] += len(own)
        else:
            chosen.append(_ranked(own, select_on))
    if not chosen:
        told = _told(left_out, name, len(versions)) or f"{name} has one version"
        raise UsageError("model", name, f"no replicate has {FEWEST} members ({told.rstrip('.')}); {first}")
    return Drawn(name, tuple(chosen), _told(left_out, name, len(versions)))


def _newest_training(
    members: Sequence[Model], sources: Mapping[str, Run | None], left_out: Counter[str]
) -> list[Model]:
    """Keep what was trained like the newest, in each replicate from its newest source, each training once."""

    def training(member: Model) -> dict[str, str]:
        source = sources.get(member.source)
        return {
            "chain": member.chain,
            **_told_params(member.params, (*TRAINED, *DISTILLED)),
            **({f"source {name}": value for name, value in _training(source).items()} if source else {}),
        }

    def weights(member: Model) -> str:
        source = sources.get(member.source)
        return source.data.tags.get(schema.WEIGHTS, member.source) if source else member.source

    members = _without_singles(members, training, weights, left_out)
    counted = training(members[0]) if members else {}
    kept, seen = [], set()
    newest: dict[int | None, str] = {}
    for member in members:
        other = {name: value for name, value in training(member).items() if counted.get(name, value) != value}
        if other:
            told = ", ".join(f"{name}={value}" for name, value in other.items())
            left_out[f"trained with {told}"] += 1
        elif newest.setdefault(member.replicate, weights(member)) != weights(member):
            left_out["of an older source"] += 1
        elif (member.seed, member.temperature) in seen:
            left_out["trained again since"] += 1
        else:
            seen.add((member.seed, member.temperature))
            kept.append(member)
    return kept


def _without_singles(
    members: Sequence[Model],
    training: Callable[[Model], Mapping[str, str]],
    weights: Callable[[Model], str],
    left_out: Counter[str],
) -> list[Model]:
    """Leave out single nets beside a sweep, such as a search trains with fresh seeds: they do not say which one counts.

    Single is who is alone of its training and source in its replicate, where others of the replicate are not, or
    where nobody of its training is.
    """
    ways = [tuple(training(member).items()) for member in members]
    places = [(m.replicate, weights(m), way) for m, way in zip(members, ways, strict=True)]
    common = Counter(places)
    sweeps = {place for place, count in common.items() if count >= FEWEST}
    of_replicate, of_way = {replicate for replicate, _, _ in sweeps}, {way for _, _, way in sweeps}
    kept = []
    for member, way, place in zip(members, ways, places, strict=True):
        if sweeps and place not in sweeps and (member.replicate in of_replicate or way not in of_way):
            left_out["single nets of their training"] += 1
        else:
            kept.append(member)
    return kept


def _training(run: Run) -> dict[str, str]:
    """Return what says how a source was trained; what only shapes distillation is no matter for labels."""
    names = TRAINED if run.data.tags.get(schema.SOURCE, LABELS) == LABELS else (*TRAINED, *DISTILLED)
    return _told_params(run.data.params, names)


def _told_params(params: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    return {name: method_apart(params) if name == "method" else params.get(name, "") for name in names}


def _listed(
    client: MlflowClient, data: Dataset, split: Split, model: str, select_on: str, replicates: range | None
) -> Drawn:
    """Draw the versions that were listed, which make one ensemble."""
    given = [part.strip() for part in model.split(",")]
    found = {uri_of(version): version for version in (find_version(client, uri) for uri in given)}
    own = {uri: version for uri, version in found.items() if schema.is_own(version)}
    _check_alike(own, data, split)
    runs = runs_of(client, own.values())
    for uri, version in own.items():
        if _run_id(version) not in runs:
            raise UsageError("model", uri, "its run did not finish or was deleted, so it cannot be a member")
        if _votes(runs[_run_id(version)]):
            raise UsageError("model", uri, "is an ensemble itself; name its members")
    members = [
        schema.from_version(version, runs[_run_id(version)] if uri in own else None) for uri, version in found.items()
    ]
    for member in members:
        if replicates is not None and member.own and member.replicate not in replicates:
            told = f"is of {replicates_told([member.replicate])}, not of {replicates_told(replicates)}"
            raise UsageError("model", member.uri, f"{told}; leave out seed and seeds")
    first = "name at least two different versions, parted by commas"
    twice = len(given) - len(found)
    told = f"{twice} of {len(given)} names are left out: they name a version that is named before." if twice else ""
    return Drawn("", (_ranked(_enough(members, model, first), select_on),), told)


def _check_alike(own: Mapping[str, ModelVersion], data: Dataset, split: Split) -> None:
    """Refuse versions that were trained or chosen on different images."""
    if not own:
        return
    wanted = group_of(data, split)
    first = next(iter(own))
    for name in wanted:
        for uri, version in own.items():
            value, other = version.tags[name], own[first].tags[name]
            if value != other:
                raise UsageError("model", f"{first},{uri}", f"differ in {name}: {_short(other)} and {_short(value)}")
        if own[first].tags[name] != wanted[name]:
            value = own[first].tags[name]
            advice = {"transfer": f"; give transfer={value}", "split": "; give the split_seed of its run"}.get(name, "")
            raise UsageError("model", first, f"has {name} {_short(value)}, not {_short(wanted[name])}{advice}")


def _other_group(
    client: MlflowClient, data: Dataset, split: Split, name: str, versions: Sequence[ModelVersion], first: str
) -> UsageError:
    """Return what there is instead of what was asked for."""
    here = [version for version in versions if version.tags["data_digest"] == data.digest]
    here = [version for version in here if _is_direct(version, data.name)] or here
    if not here:
        return UsageError("dataset", data.name, f"all {len(versions)} versions of {name} are of other data; {first}")
    counts = Counter((version.tags["transfer"], version.tags["split"]) for version in here)
    newest = {(version.tags["transfer"], version.tags["split"]): version for version in here}
    told, advice = [], []
    for (transfer, digest), count in counts.most_common(3):
        seed = split_seed_of(client, newest[transfer, digest])
        # A split of the same seed can still be another one: fresh images are dealt by the number of hops.
        other = [f"transfer={transfer}"] if transfer != split.mode else []
        other += [f"split_seed={seed}"] if seed not in (None, str(split.seed)) else []
        told.append(f"{count} versions with {' and '.join(other) or f'another split of transfer={transfer}'}")
        advice += [" and ".join(other)] if other else []
    what = f"{name} has {' and '.join(told)}; {'give ' + ' or '.join(advice) if advice else first}"
    if any(transfer == split.mode for transfer, _ in counts):
        return UsageError("split_seed", split.seed, what)
    return UsageError("transfer", split.mode, what)


def _top(drawn: Drawn, top: int, select_on: str) -> Drawn:
    """Keep the best of each replicate."""
    for member in drawn.members:
        if (missing := f"{METRICS[select_on]}_accuracy") not in member.metrics:
            raise UsageError("top", top, f"{member.uri} has no tag {missing} to rank it by; list the members instead")
    if top > drawn.size:
        fewest = min(drawn.replicates, key=len)
        where = f" in replicate {fewest[0].replicate}" if len(drawn.replicates) > 1 else ""
        raise UsageError("top", top, f"there are {drawn.size} members{where}; give at most {drawn.size}")
    return replace(drawn, replicates=tuple(replicate[:top] for replicate in drawn.replicates))


def _ranked(members: Sequence[Model], select_on: str) -> tuple[Model, ...]:
    """Sort models: highest accuracy, then lowest loss, then lowest version; as they are where one is unknown."""
    part = METRICS[select_on]
    if any(f"{part}_accuracy" not in member.metrics for member in members):
        return tuple(members)

    return tuple(sorted(members, key=lambda member: (*rank_key(member, select_on), *member.place)))


def _enough(members: Sequence[Model], name: str, advice: str) -> Sequence[Model]:
    if len(members) < FEWEST:
        raise UsageError("model", name, f"an ensemble needs at least {FEWEST} members; {advice}")
    return members


def _keep(given: Sequence[Kept], fits: Callable[[Kept], bool], why_not: str, left_out: Counter[str]) -> list[Kept]:
    """Keep what fits, and count the others."""
    kept = [one for one in given if fits(one)]
    if len(given) > len(kept):
        left_out[why_not] += len(given) - len(kept)
    return kept


def _told(left_out: Mapping[str, int], name: str, count: int) -> str:
    """Return what was left out; the rarest reasons are summed up."""
    if not left_out:
        return ""
    reasons = sorted(left_out.items(), key=lambda item: -item[1])
    said = [f"{number} {why}" for why, number in reasons[:4]]
    if rest := sum(number for _, number in reasons[4:]):
        said.append(f"{rest} for other reasons")
    return f"{sum(left_out.values())} of {count} versions of {name} are left out: {'; '.join(said)}."


def _votes(run: Run) -> bool:
    return run.data.tags.get(schema.ROLE) == "ensemble"


def _starts_apart(run: Run) -> bool:
    return "streams" in run.data.params


def _is_direct(version: ModelVersion, dataset: str) -> bool:
    """Return whether a version may vote: of students those distilled straight from a teacher, of others nearly all."""
    tags, temperature = version.tags, schema.finite(version.tags["temperature"])
    if version.name == registered_name(dataset, "student"):
        return tags["chain"] == "teacher>student" and temperature is not None and temperature >= 1
    # At 0 a model learned from labels, or from the hard predictions of another, which is a control of its own.
    return temperature != 0 or tags["source"] == LABELS


def replicates_told(seeds: Collection[int]) -> str:
    """Return which replicates: ``replicate 3``, ``replicates 0 to 2``, ``replicates 0, 2, 5``."""
    known = sorted(seeds) if not isinstance(seeds, range) else seeds
    first, last = known[0], known[-1]
    if isinstance(seeds, range) and last == LAST:
        return f"replicates from {first} on"
    if first == last:
        return f"replicate {first}"
    if last - first == len(known) - 1:
        return f"replicates {first} to {last}"
    return f"replicates {', '.join(map(str, known))}"


def _short(value: str) -> str:
    """Cut a digest to what can be told apart by eye."""
    return value[:12] if re.fullmatch(r"[0-9a-f]{64}", value) else value


def _run_id(version: ModelVersion) -> str:
    """Return the id of the run that made a version; empty where the registry names none."""
    return version.run_id or ""
