"""The members of an ensemble, drawn from the registry before a study opens. It only reads.

The tags and the run of a kdops model hold what it is and how it was trained, so only like is put with like. Models
that others registered have none of that; they can be members where they are named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from kdops.config.criterion import Criterion
from kdops.config.studies import EnsembleSettings
from kdops.data.dataset import Dataset
from kdops.data.splits import Split, make_split
from kdops.ensembles.alike import FEWEST, newest_training
from kdops.ensembles.messages import advice, check_group, describe_left_out, describe_replicates, other_group_error
from kdops.ensembles.settings import settings_of_members
from kdops.errors import UsageError
from kdops.packaging.external import load_classifier
from kdops.registry.registered import RegisteredModels, RegisteredVersion
from kdops.registry.versions import group_of, registered_name
from kdops.store.database import open_existing, registry_address, store_address, store_exists
from kdops.sweeps import schema
from kdops.sweeps.model import COPIES, COPY_SEEDS, LABELS, Model
from kdops.sweeps.params import SEED, STREAMS, TEMPERATURE, TRANSFER
from kdops.sweeps.ranking import rank_key

FEW_REPLICATES = 5
"""Of up to so many replicates the versions are asked for by seed; of more, all versions of a name are read."""

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Drawn:
    """The members that were drawn.

    Attributes:
        name: the registered model they are versions of; empty for versions that were listed one by one.
        replicates: the members of each replicate, the best first. Models that were listed, and those of others, make
            one ensemble and are one replicate; where an accuracy is unknown they stay as listed, or newest first.
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


def draw(settings: EnsembleSettings, data: Dataset) -> tuple[EnsembleSettings, Drawn]:
    """Draw the members that the settings of a study ask for.

    Args:
        settings: its split and transfer setting may be those of the newest models, and its replicates all there are.

    Returns:
        The settings that the members were trained with, see :func:`settings_of_members`, and the members.

    Raises:
        UsageError: there is nothing to draw, and what to do about it.
        KdopsError: the store cannot be used.
    """
    uri = store_address()
    if not store_exists(uri):
        first = advice(settings.role, data)
        raise UsageError("model", _name(settings, data), f"there is no store at {uri} yet; {first}")
    with open_existing(uri, registry_address()) as client:
        models = RegisteredModels(client)
        settings = with_newest_split(models, data, settings)
        drawn = draw_members(models, data, make_split(data, settings.transfer, settings.split_seed), settings)
        sources = models.sources(drawn.members)
    for member in drawn.members:
        if not member.own:
            load_classifier(member.uri, data)
    settings, remark = settings_of_members(settings, drawn.members, drawn.seeds, sources.values())
    return settings, replace(drawn, left_out=" ".join(filter(None, [drawn.left_out, remark])))


def draw_members(models: RegisteredModels, data: Dataset, split: Split, settings: EnsembleSettings) -> Drawn:
    """Draw the members of ensembles, one ensemble for each replicate.

    Versions of another data set, transfer setting or split are never drawn; of students only those distilled straight
    from a teacher at a temperature of 1 or more, of other roles none that learned another model's hard predictions.
    Versions that were trained in different ways (they or their sources)
    are not mixed: the newest way counts, and where a replicate was trained on several sources, the newest of these.
    Of two equal trainings the newer counts. What was chosen on test is a member only where it is listed by version.

    Args:
        settings: what is asked for. Temperatures are those of distilled models, replicates those of kdops's models;
            what was listed by URI is taken whatever its temperature.

    Raises:
        UsageError: there is nothing to draw, and what to do about it.
    """
    drawn = (_listed if settings.lists_models else _named)(models, data, split, settings)
    return drawn if settings.top is None else _best_of(drawn, settings.top, settings.criterion)


def with_newest_split(models: RegisteredModels, data: Dataset, settings: EnsembleSettings) -> EnsembleSettings:
    """Settle what the settings leave to the newest models that could be drawn: transfer setting, split's seed, or both.

    Of versions that are listed the first counts; without any the settings keep their usual values.

    Raises:
        UsageError: the members are listed, and one is not there.
    """
    could: Iterable[RegisteredVersion]
    if settings.lists_models:
        could = [version for version in map(models.find, settings.uris()) if schema.is_own(version)]
    else:
        versions = models.newest_first(_name(settings, data))
        drawable = (v for v in versions if schema.is_own(v) and not schema.is_chosen_on_test(v))
        could = (version for version in drawable if _is_direct(version, data.name))
    seeds: dict[str, str] = {}
    for version in could if settings.newest else ():
        mode, digest = version.tags[TRANSFER], version.tags[schema.SPLIT_DIGEST]
        if version.tags[schema.DATA_DIGEST] != data.digest:
            continue
        if digest not in seeds:
            seeds[digest] = models.split_seed(version)
        if not seeds[digest].isdigit():
            continue
        found = {"transfer": mode, "split_seed": int(seeds[digest])}
        if all(found[name] == getattr(settings, name) for name in found.keys() - settings.newest):
            return replace(settings, transfer=mode, split_seed=int(seeds[digest]), newest=frozenset())
    return replace(settings, newest=frozenset())


def _named(models: RegisteredModels, data: Dataset, split: Split, settings: EnsembleSettings) -> Drawn:
    """Draw from the versions of a registered model."""
    name, wanted = _name(settings, data), settings.wanted_replicates()
    if len(wanted) <= FEW_REPLICATES:
        some, told = models.of_replicates(name, wanted), f"{name} of {describe_replicates(wanted)}"
        try:
            return _drawn_from(some, models, data, split, settings, told)
        except UsageError:
            # What there is instead is told of all versions.
            pass
    return _drawn_from(models.versions(name), models, data, split, settings, name)


def _drawn_from(
    versions: Sequence[RegisteredVersion],
    models: RegisteredModels,
    data: Dataset,
    split: Split,
    settings: EnsembleSettings,
    told: str,
) -> Drawn:
    """Draw from some versions of a registered model, which a sentence about those left out calls ``told``."""
    name, first = _name(settings, data), advice(settings.role, data, split.mode)
    if not versions:
        if name == registered_name(data.name, settings.role):
            raise UsageError("model", name, f"the registry has none yet; {first}")
        raise UsageError("model", name, f"there is no such registered model; {models.names()}")
    if not any(map(schema.is_own, versions)):
        members = [schema.from_version(version) for version in reversed(versions)]
        return Drawn(name, (_ranked(_enough(members, name, first), settings.criterion),))
    left_out: Counter[str] = Counter()
    direct = _of_split(models, data, split, settings, versions, left_out)
    wanted = settings.wanted_replicates()
    asked = _keep(direct, lambda version: _replicate_of(version) in wanted, "of other replicates", left_out)
    if direct and not asked:
        there = describe_replicates(set(map(_replicate_of, direct)))
        problem = f"{name} has models of {there}, none of {describe_replicates(wanted)}"
        raise UsageError("seed", wanted.start, problem)
    found = models.models(asked)
    left_out["without a finished run"] += len(asked) - len(found)
    # Of a chain that has a role twice; beside the sweep they would be members of one temperature and seed twice.
    whole = list(found.values())
    if not all(map(_starts_apart, whole)):
        whole = _keep(whole, lambda model: not _starts_apart(model), "of a step inside a chain", left_out)
    if whole and all(model.role == "ensemble" for model in whole):
        raise UsageError("model", name, "its versions are ensembles themselves; name what they are made of")
    # Newest first: the first of equals is the one that counts.
    replicates = newest_training(whole[::-1], models.sources(whole), left_out)
    for seed, own in replicates.items():
        if len(own) < FEWEST:
            left_out[f"alone in replicate {seed}"] += len(own)
    left_out_text = describe_left_out(left_out, told, len(versions))
    chosen = [_ranked(own, settings.criterion) for _, own in sorted(replicates.items()) if len(own) >= FEWEST]
    if not chosen:
        why = left_out_text.rstrip(".") or f"{name} has one version"
        raise UsageError("model", name, f"no replicate has {FEWEST} members ({why}); {first}")
    return Drawn(name, tuple(chosen), left_out_text)


def _of_split(
    models: RegisteredModels,
    data: Dataset,
    split: Split,
    settings: EnsembleSettings,
    versions: Sequence[RegisteredVersion],
    left_out: Counter[str],
) -> list[RegisteredVersion]:
    """Return the versions of this data set and split that may vote, by their tags."""
    name, first = _name(settings, data), advice(settings.role, data, split.mode)
    group = group_of(data, split).items()
    ours = _keep(versions, schema.is_own, "not registered by kdops", left_out)
    ours = _keep(ours, lambda version: not schema.is_chosen_on_test(version), "chosen on test", left_out)
    if not ours:
        problem = "its versions were chosen on the test images; name them by version to take them anyhow"
        raise UsageError("model", name, problem)
    same = _keep(ours, lambda v: group <= v.tags.items(), "of other data, transfer or split", left_out)
    if not same:
        can_vote = [version for version in ours if _is_direct(version, data.name)]
        here = [version for version in can_vote if version.tags[schema.DATA_DIGEST] == data.digest]
        raise other_group_error(models, data, split, name, here or ours, first)
    direct = _keep(same, lambda v: _is_direct(v, data.name), "not distilled straight from a teacher", left_out)
    if not direct:
        chains = ", ".join(sorted({f"{v.tags[schema.CHAIN_OF_ROLES]} T={v.tags[TEMPERATURE]}" for v in same})[:5])
        raise UsageError("model", name, f"none of its {len(same)} versions can vote here ({chains}); {first}")
    # A model that learned from labels has no temperature to be asked for.
    asked = {*settings.temperatures, 0.0, None}
    return _keep(direct, lambda v: schema.finite(v.tags[TEMPERATURE]) in asked, "of other temperatures", left_out)


def _listed(models: RegisteredModels, data: Dataset, split: Split, settings: EnsembleSettings) -> Drawn:
    """Draw the versions that were listed, which make one ensemble."""
    found = {}
    for given in settings.uris():
        version = models.find(given)
        found[version.uri] = version
        if schema.is_chosen_on_test(version) and version.uri != given:
            problem = f"is {version.uri}, which was chosen on the test images; name it so to take it anyhow"
            raise UsageError("model", given, problem)
    own = {uri: version for uri, version in found.items() if schema.is_own(version)}
    check_group(own, data, split)
    whole = models.models(own.values())
    for uri in own:
        if uri not in whole:
            raise UsageError("model", uri, "its run did not finish or was deleted, so it cannot be a member")
        if whole[uri].role == "ensemble":
            raise UsageError("model", uri, "is an ensemble itself; name its members")
        if (replicate := whole[uri].replicate) not in (wanted := settings.wanted_replicates()):
            problem = f"is of {describe_replicates([replicate])}, not of {describe_replicates(wanted)}"
            raise UsageError("model", uri, f"{problem}; leave out seed and seeds")
    members = [whole[uri] if uri in whole else schema.from_version(version) for uri, version in found.items()]
    first = "name at least two different versions, parted by commas"
    count = len(settings.uris())
    twice = count - len(found)
    remark = f"{twice} of {count} names are left out: they name a version that is named before." if twice else ""
    return Drawn("", (_ranked(_enough(members, settings.model, first), settings.criterion),), remark)


def _best_of(drawn: Drawn, top: int, by: Criterion) -> Drawn:
    """Keep the best of each replicate."""
    for member in drawn.members:
        if by.metric not in member.metrics:
            raise UsageError("top", top, f"{member.uri} has no tag {by.metric} to rank it by; list the members instead")
    if top > drawn.size:
        fewest = min(drawn.replicates, key=len)
        where = f" in replicate {fewest[0].replicate}" if len(drawn.replicates) > 1 else ""
        raise UsageError("top", top, f"there are {drawn.size} members{where}; give at most {drawn.size}")
    return replace(drawn, replicates=tuple(replicate[:top] for replicate in drawn.replicates))


def _name(settings: EnsembleSettings, data: Dataset) -> str:
    """Return the registered model whose versions vote, where they are not listed."""
    return settings.model or registered_name(data.name, settings.role)


def _ranked(members: Sequence[Model], by: Criterion) -> tuple[Model, ...]:
    """Sort models: highest score, lowest loss, lowest temperature, lowest version; as they are where one is unknown."""
    if any(by.metric not in member.metrics for member in members):
        return tuple(members)
    return tuple(sorted(members, key=lambda member: (*rank_key(member, by), member.temperature, *member.place)))


def _enough(members: Sequence[Model], name: str, first: str) -> Sequence[Model]:
    if len(members) < FEWEST:
        raise UsageError("model", name, f"an ensemble needs at least {FEWEST} members; {first}")
    return members


def _keep(given: Sequence[Kept], fits: Callable[[Kept], bool], why_not: str, left_out: Counter[str]) -> list[Kept]:
    """Keep what fits, and count the others."""
    kept = [one for one in given if fits(one)]
    left_out[why_not] += len(given) - len(kept)
    return kept


def _replicate_of(version: RegisteredVersion) -> int:
    """Return the replicate that a version is of, see :attr:`~kdops.sweeps.model.Model.replicate`."""
    seed = int(version.tags[SEED])
    return seed % COPY_SEEDS if version.tags[schema.CHAIN_OF_ROLES].rpartition(">")[2] in COPIES else seed


def _starts_apart(model: Model) -> bool:
    return STREAMS in model.params


def _is_direct(version: RegisteredVersion, dataset: str) -> bool:
    """Return whether a version may vote: of students those distilled straight from a teacher, of others nearly all."""
    tags, temperature = version.tags, schema.finite(version.tags[TEMPERATURE])
    if version.name == registered_name(dataset, "student"):
        return tags[schema.CHAIN_OF_ROLES] == "teacher>student" and temperature is not None and temperature >= 1
    # At 0 a model learned from labels, or from the hard predictions of another, which is a control of its own.
    return temperature != 0 or tags[schema.LEARNED_FROM] == LABELS
