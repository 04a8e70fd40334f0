"""The members that vote in a study of ensembles, drawn from the registry, and the controls beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from kdops.config.methods import method_apart
from kdops.config.settings import Settings
from kdops.config.studies import VoteSettings
from kdops.ensembles.evaluation import EnsembleEvaluation
from kdops.ensembles.members import Drawn
from kdops.models.classifier import digest_of
from kdops.packaging.external import load_classifier
from kdops.sweeps.model import Model, Sweep
from kdops.sweeps.params import ALPHA, ARCHITECTURE, ORDER, PARAMETERS, T_SQUARED
from kdops.sweeps.ranking import mean_rank

if TYPE_CHECKING:
    from kdops.study.study import Study

ONE_TEMPERATURE, OWN_ORDER = "one temperature", "own batch order"

Replicates = Mapping[int, Sequence[Model]]
"""The members of each replicate by its seed."""


def drawn_voters(study: Study[VoteSettings], drawn: Drawn) -> dict[int, tuple[Model, ...]]:
    """Return the records of drawn members: those of each replicate by its seed."""
    found = {
        seed: tuple(_record(study, member) for member in members)
        for seed, members in zip(drawn.seeds, drawn.replicates, strict=True)
    }
    study.use([record for members in found.values() for record in members])
    return found


def controls_of(study: Study[VoteSettings], replicates: Replicates) -> tuple[dict[str, EnsembleEvaluation], str]:
    """Train the controls of an ensemble of direct students, as many of each as there are members.

    - ``ONE_TEMPERATURE``: students of the temperature that is best on average, which differ in their seed only;
    - ``OWN_ORDER``: students of the members' temperatures, each with a batch order of its own; left out where the
      members have one already.

    Returns:
        The controls, and why there are none, in a sentence; empty where there are some.
    """
    members = Sweep(tuple(record for records in replicates.values() for record in records), hops=1)
    uris = {seed: {record.source for record in records} for seed, records in replicates.items()}
    found = {seed: [study.find(uri) for uri in own] for seed, own in uris.items()}
    # The single source of each replicate, where there is one and it is known.
    teachers = {seed: own[0] for seed, own in found.items() if len(own) == 1 and own[0] is not None}
    reason = _objection(study.settings, members, teachers, len(replicates))
    if reason:
        return {}, f"There are no controls: {reason}."
    sources = Sweep(tuple(teachers.values()))
    own = {seed: {record.temperature for record in records} for seed, records in replicates.items()}
    every = set.union(*own.values())
    # The few best of a replicate may share no temperature with those of another.
    common = set.intersection(*own.values()) or every
    copies = min(map(len, replicates.values()))
    _, reseeded = study.retrain(
        [(temperature, members.at([temperature])) for temperature in sorted(common)],
        lambda models: mean_rank(models, study.settings.criterion)[0],
        lambda temperature: study.distill(sources, "reseeded", [temperature], copies=copies),
    )
    given: dict[str, dict[int, Sequence[Model]]] = {
        ONE_TEMPERATURE: {seed: reseeded.copies_of(seed) for seed in replicates}
    }
    if study.settings.order == "shared":
        reordered = study.distill(sources, "reordered", sorted(every), order="own")
        given[OWN_ORDER] = {
            seed: [record for record in reordered.of_seed(seed) if record.temperature in own[seed]] for seed in own
        }
    return {name: EnsembleEvaluation(study, control, study.settings.top) for name, control in given.items()}, ""


def _objection(settings: VoteSettings, members: Sweep, teachers: Mapping[int, Model], replicates: int) -> str:
    """Return why no controls can be trained for the members; empty where they can."""
    if not settings.controls:
        return "the settings ask for none"
    if len(teachers) < replicates:
        return "the members of a replicate have no common source that is known here"
    if any(teacher.seed != seed or teacher.role != "teacher" for seed, teacher in teachers.items()):
        return "the members were not distilled from the teachers of their own replicates"
    if not all(_is_made_as(settings, "teacher", teacher) for teacher in teachers.values()):
        return "the members' teachers are not what these settings train"
    if not all(_is_made_as(settings, "student", record) for record in members.records):
        return "the members are not what these settings train as students"
    if len({record.temperature for record in members.records}) < 2:
        return "the members have one temperature"
    return ""


def _is_made_as(settings: Settings, role: str, record: Model) -> bool:
    """Return whether a model is what the settings train for a role."""
    recipe = settings.recipes[role]
    wanted = {ARCHITECTURE: str(recipe.architecture), **recipe.params()}
    if role != "teacher":
        method = settings.method
        wanted |= {ALPHA: f"{method.soft_weight:g}", T_SQUARED: str(method.t_squared).lower(), ORDER: settings.order}
        if method_apart(record.method) != method_apart(str(method)):
            return False
    return record.role == role and wanted.items() <= record.recipe_params.items()


def _record(study: Study[VoteSettings], member: Model) -> Model:
    """Return the record of a drawn model; one that others registered is loaded and measured first."""
    if member.own:
        return member
    network = load_classifier(member.uri, study.data)
    model = replace(
        member,
        weights=digest_of(network.state_dict()),
        params={ARCHITECTURE: "foreign", PARAMETERS: str(sum(one.numel() for one in network.parameters()))},
    )
    return study.adopt(model, network)
