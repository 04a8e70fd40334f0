"""The settings of entry points that have parameters of their own.

Those of chains, searches, companies and trials of methods are in files beside; :data:`kdops.config.settings.SETTINGS`
names the class of each entry point.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kdops.config.augmentation import NONE
from kdops.config.papers import DEFAULT, PAPERS
from kdops.config.parameters import ALL, NEWEST, ROLES_THAT_VOTE, EntryPoint
from kdops.config.parsing import boolean, one_of, value_or, whole
from kdops.config.settings import HIGHEST_SEED, MOST_SEEDS, TRANSFERS, Settings, parse_temperatures
from kdops.config.sources import DATA, OutputsFile, Source, parse_source
from kdops.errors import UsageError

FEWEST_MEMBERS, MOST_MEMBERS = 2, 100_000

PLAIN = {"seeds": "1", "split_seed": "0", "transfer": TRANSFERS[0]}
"""What stands for the words ``all`` and ``newest`` until the members are drawn."""


def is_stored(text: Mapping[str, str]) -> bool:
    """Return whether the source that parameters name is a file of outputs."""
    named = [text[name] for name in ("source", "source_model", "source_normalize")]
    return bool(text["source"]) and isinstance(parse_source(*named), OutputsFile)


def check_views(text: Mapping[str, str], augments: Iterable[object]) -> None:
    """Refuse augmented students beside a source of stored outputs. Raises UsageError where there is one."""
    augments = list(augments)
    if {*augments} != {NONE} and is_stored(text):
        advice = "give augment=none for the student, or name the network as its source"
        problem = f"outputs were stored for the images as they are; {advice}"
        raise UsageError("augment", ",".join(map(str, augments)), problem)


@dataclass(frozen=True)
class SourceSettings(Settings):
    """Settings of a study that may distill from models that are there already.

    Attributes:
        source: what is distilled from, as text; empty for the study's own teachers.
        source_model: the network of a file of weights, as text.
        source_normalize: what it is given, as text.
        trust: the Python code of a source that is no exported program may be run.
    """

    source: str
    source_model: str
    source_normalize: str
    trust: bool

    @classmethod
    def read(cls, point: EntryPoint, text: Mapping[str, str]) -> dict[str, Any]:
        """Return the value of every field."""
        own = {name: text[name] for name in ("source", "source_model", "source_normalize")}
        if own["source"]:
            parse_source(*own.values())
        elif own["source_model"]:
            raise UsageError("source_model", own["source_model"], "names the network of a source, and there is none")
        elif own["source_normalize"] != DATA:
            raise UsageError(
                "source_normalize", own["source_normalize"], "is what a source is given, and there is none"
            )
        values = super().read(point, text)
        if beside := values["origin"].unlabeled:
            values["method"].check_unlabeled(beside)
            if is_stored(text):
                raise UsageError("unlabeled", beside, "stored outputs are of the data's own images; name the network")
        check_views(text, [values["recipes"]["student"].augment])
        return {**values, **own, "trust": boolean("trust", text["trust"])}

    @property
    def named_source(self) -> Source:
        """What is distilled from; of settings that have a source."""
        return parse_source(self.source, self.source_model, self.source_normalize)

    @property
    def interval_over(self) -> str:
        """What the intervals of the study's numbers are over."""
        return "students' seeds" if self.source else super().interval_over


@dataclass(frozen=True)
class OneSourceSettings(SourceSettings):
    """Settings of a study whose students have one source, given or the best registered teacher."""

    @property
    def interval_over(self) -> str:
        """What the intervals of the study's numbers are over."""
        return "students' seeds"


@dataclass(frozen=True)
class SymmetrySettings(Settings):
    """Settings of a study that distills students back into teachers.

    Attributes:
        reversed_seeds: how many of the replicates have reversed nets.
    """

    reversed_seeds: int

    @classmethod
    def read(cls, point: EntryPoint, text: Mapping[str, str]) -> dict[str, Any]:
        """Return the value of every field."""
        values = super().read(point, text)
        seeds: int = values["seeds"]
        some = value_or("auto", seeds, "reversed_seeds", text, lambda name, value: whole(name, value, 1, seeds))
        return {**values, "reversed_seeds": some}


@dataclass(frozen=True)
class VoteSettings(Settings):
    """Settings of a study whose models vote.

    Attributes:
        top: number of members of an ensemble; None for all there are.
        controls: train the controls of an ensemble.
    """

    top: int | None
    controls: bool

    @classmethod
    def read(cls, point: EntryPoint, text: Mapping[str, str]) -> dict[str, Any]:
        """Return the value of every field."""
        most = cls.most_members(text)
        top = value_or(ALL, None, "top", text, lambda name, value: whole(name, value, FEWEST_MEMBERS, most))
        return {**super().read(point, text), "top": top, "controls": boolean("controls", text["controls"])}

    @classmethod
    def most_members(cls, text: Mapping[str, str]) -> int:
        """Return the most members an ensemble can have, as far as the settings determine it."""
        return MOST_MEMBERS


@dataclass(frozen=True)
class EnsembleSettings(VoteSettings):
    """Settings of a study whose members are drawn from the registry.

    Attributes:
        seeds: how many replicates; 0 for all there are, until the members are drawn.
        role: the role whose registered models vote.
        model: the registered models that vote, where they are not those of a role.
        newest: which of ``split_seed`` and ``transfer`` are those of the newest models; until the members are drawn
            their values are the usual ones.
    """

    role: str
    model: str
    newest: frozenset[str]

    @classmethod
    def read(cls, point: EntryPoint, text: Mapping[str, str]) -> dict[str, Any]:
        """Return the value of every field; ``all`` and ``newest`` are words of this study alone."""
        seeds = value_or(ALL, 0, "seeds", text, lambda name, value: whole(name, value, 1, MOST_SEEDS))
        value_or(NEWEST, 0, "split_seed", text, lambda name, value: whole(name, value, 0, HIGHEST_SEED))
        one_of("transfer", text["transfer"], (NEWEST, *TRANSFERS))
        newest = frozenset(name for name in ("split_seed", "transfer") if text[name] == NEWEST)
        left = newest if seeds else newest | {"seeds"}
        return {
            **super().read(point, {**text, **{name: PLAIN[name] for name in left}}),
            "seeds": seeds,
            "role": one_of("role", text["role"], ROLES_THAT_VOTE),
            "model": text["model"],
            "newest": newest,
        }

    @property
    def lists_models(self) -> bool:
        """Whether ``model`` lists versions one by one, and does not name a registered model."""
        return self.model.startswith("models:")

    def uris(self) -> list[str]:
        """Return the URIs that ``model`` lists."""
        return [part.strip() for part in self.model.split(",")]

    def wanted_replicates(self) -> range:
        """Return the replicates whose models may vote."""
        return range(self.seed, self.seed + self.seeds if self.seeds else HIGHEST_SEED + 1)

    def as_dict(self) -> dict[str, object]:
        """Return the settings as plain JSON values."""
        return {**super().as_dict(), "newest": sorted(self.newest)}


@dataclass(frozen=True)
class PaperSettings(SymmetrySettings, VoteSettings):
    """Settings of all experiments of a paper in one study, whose members are its own students.

    Attributes:
        paper: the paper, a key of :data:`kdops.config.papers.PAPERS`.
    """

    paper: str

    @classmethod
    def read(cls, point: EntryPoint, text: Mapping[str, str]) -> dict[str, Any]:
        """Return the value of every field; what is ``auto`` is what the paper asks for.

        Raises:
            UsageError: for a value that is not allowed, and for what the paper would ignore: a parameter, or all
                temperatures but the first.
        """
        paper = one_of("paper", text["paper"], tuple(PAPERS))
        if paper != DEFAULT:
            defaults = {one.name: one.default for one in point.parameters()}
            PAPERS[paper].check(text, defaults, [one.name for one in point.own])
        values = super().read(point, PAPERS[paper].filled(text))
        if PAPERS[paper].takes_one_temperature and len(values["temperatures"]) > 1:
            raise UsageError("temperatures", text["temperatures"], f"paper={paper} takes a single one")
        return {**values, "paper": paper}

    @property
    def temperature(self) -> float:
        """The temperature, of a paper whose experiment takes a single one."""
        (single,) = self.temperatures
        return single

    @property
    def subject(self) -> str:
        """The paper, where it is not the one that the other studies are about too."""
        return "" if self.paper == DEFAULT else self.paper

    @classmethod
    def most_members(cls, text: Mapping[str, str]) -> int:
        """Return how many students a replicate has that may vote."""
        return max(FEWEST_MEMBERS, sum(temperature >= 1 for temperature in parse_temperatures(text["temperatures"])))
