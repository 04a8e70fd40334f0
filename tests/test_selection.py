"""Every place that chooses among models: on validation, or on test where the settings say so, and never on the other.

On small data validation and test mostly choose alike, so a choice on the wrong one is not seen there. Here they rank
oppositely, so each chooser must say which one it looked at.
"""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from kdops.config.criterion import Criterion
from kdops.config.settings import Settings
from kdops.ensembles import controls
from kdops.ensembles.controls import ONE_TEMPERATURE, controls_of
from kdops.ensembles.evaluation import EnsembleEvaluation
from kdops.reporting.candidates import ServingCost, group_candidates, size_of
from kdops.search.search import Search
from kdops.study.dry_run import PlanningExecutor
from kdops.study.executor import Executor
from kdops.study.sources import find_source
from kdops.study.study import Study
from kdops.study.training import TrainingExecutor
from kdops.sweeps.model import LABELS, Model, Sweep
from kdops.sweeps.ranking import best, mean_rank, ranked, worst
from kdops.sweeps.unit import Context
from kdops.verdicts.votes import mcnemar
from pipelines import chain, methods, students, symmetry, transitivity

TEMPERATURES = COLD, WARM, HOT = (1.0, 2.0, 6.0)
"""The best on test, by the loss on validation, and by the accuracy on validation."""


def model(temperature, role="student", seed=0, number=0, **params):
    """Return a model that is the better on validation the higher its temperature, and on test the lower.

    The loss on validation alone is best in the middle.
    """
    quality = temperature / 100
    metrics = {
        "val_accuracy": 0.5 + quality,
        "val_nll": 0.5 + abs(temperature - WARM) / 100,
        "test_accuracy": 0.5 - quality,
        "test_nll": 0.5 + quality,
    }
    params = {"architecture": "mlp(hidden=8,depth=1,dropout=0)", "parameters": "10", "transfer": "disjoint", **params}
    uri = f"models:/kdops-toy-{role}/{number or 1 + int(temperature)}"
    return Model(role, seed, float(temperature), f"teacher>{role}", LABELS, uri, metrics=metrics, params=params)


MODELS = Sweep(tuple(model(temperature) for temperature in (WARM, HOT, COLD)))


class Stop(Exception):
    """Ends a pipeline where all its models are there."""


@dataclass
class Scripted:
    """Carries out the verbs of a study without training: a sweep's models are those of :func:`model`.

    Attributes:
        sweeps: what was asked for: the role, what it learns from as (role, temperature), and the temperatures.
    """

    index: object = None
    sweeps: list = field(default_factory=list)

    def sweep(self, task, sources, temperatures, *_):
        asked = [(one.role, one.temperature) for one in sources.values() if one is not None and temperatures]
        self.sweeps.append((task.known_as, asked, tuple(temperatures)))
        return tuple(model(t, task.known_as, seed) for seed in sources for t in temperatures)

    chosen, may_be_best, any_of = Executor.chosen, Executor.may_be_best, Executor.any_of

    def use(self, models):
        pass

    def stop_if_planned(self):
        raise Stop

    def learned_from(self, role):
        """Return the temperatures of what a role learned from, in the order asked for."""
        return [temperature for asked, sources, _ in self.sweeps for _, temperature in sources if asked == role]


def scripted(entry_point, executor=None, **given):
    """Return a study of one replicate that trains nothing."""
    options = {"seeds": "1", "temperatures": ",".join(f"{t:g}" for t in TEMPERATURES)}
    settings = Settings.parse(entry_point, **{**options, **given})
    rows = np.arange(4)
    split = SimpleNamespace(
        mode=settings.transfer, teacher=rows, transfers=(rows, rows), hop=lambda _: rows, validation=rows, test=rows
    )
    data = SimpleNamespace(name="toy", shape=(1, 8, 8), classes=tuple("abcd"), unlabeled=None)
    return Study(settings, Context(settings, data, split, "cpu"), executor or Scripted())


# One chooser a line: the best of MODELS, by what the settings say.


def by_study(executor):
    return lambda by: scripted("students", executor, select_on=by).best(MODELS).records[0].temperature


def best_source_of_the_study(by):
    index = SimpleNamespace(of_role=lambda _: list(MODELS.records))
    (source,) = find_source(scripted("students", Scripted(index), select_on=by))[0].records
    return source.temperature


def first_member(by):
    study = scripted("ensemble", select_on=by)
    return EnsembleEvaluation(study, {0: MODELS.records}).replicates[0][0].temperature


def only_member_of_the_top(by):
    study = scripted("ensemble", select_on=by)
    (member,) = EnsembleEvaluation(study, {0: MODELS.records}, top=1).replicates[0]
    return member.temperature


FOLLOWS = {
    "best": lambda by: best(MODELS, Criterion(by)).records[0].temperature,
    "ranked": lambda by: ranked(MODELS.records, Criterion(by))[0].temperature,
    "the other end of worst": lambda by: {COLD: HOT, HOT: COLD}[worst(MODELS, Criterion(by)).records[0].temperature],
    "a study's best": by_study(Scripted()),
    "a training study's best": by_study(TrainingExecutor.__new__(TrainingExecutor)),
    "a planned study's best": by_study(PlanningExecutor.__new__(PlanningExecutor)),
    "the first member": first_member,
    "the members that are kept": only_member_of_the_top,
}
"""Follow ``select_on``."""


@pytest.mark.parametrize(("by", "expected"), [("validation", HOT), ("test", COLD)])
@pytest.mark.parametrize("chooser", FOLLOWS)
def test_a_choice_is_made_on_what_the_settings_say_alone(chooser, by, expected):
    assert FOLLOWS[chooser](by) == expected


@pytest.mark.parametrize("executor", [Scripted, TrainingExecutor, PlanningExecutor])
@pytest.mark.parametrize(("by", "expected"), [("validation", COLD), ("test", HOT)])
def test_the_worst_is_chosen_on_what_the_settings_say_alone(executor, by, expected):
    study = scripted("students", executor.__new__(executor), select_on=by)
    assert study.worst(MODELS).records[0].temperature == expected


@pytest.mark.parametrize("executor", [Scripted, TrainingExecutor, PlanningExecutor])
@pytest.mark.parametrize("by", ["validation", "test"])
def test_what_a_study_chooses_says_what_it_was_chosen_on(executor, by):
    study = scripted("students", executor.__new__(executor), select_on=by)
    assert {record.select_on for chosen in (study.best(MODELS), study.worst(MODELS)) for record in chosen.records} == {
        by
    }


@pytest.mark.parametrize("by", ["validation", "test"])
def test_the_source_of_a_study_is_the_best_by_validation_whatever_the_models_are_chosen_on(by):
    assert best_source_of_the_study(by) == HOT


def test_the_source_of_a_study_is_no_model_that_was_chosen_on_test_unless_it_is_named():
    marked = replace(model(HOT), select_on="test")
    index = SimpleNamespace(of_role=lambda _: [marked, model(COLD)])
    (source,) = find_source(scripted("students", Scripted(index)))[0].records
    assert source == model(COLD)


def test_the_front_of_what_can_be_shipped_is_by_validation():
    models = [model(HOT), model(COLD)]
    (group,) = group_candidates(models, {size_of(models[0]): ServingCost(0.001, 1000)})
    assert [candidate.front for candidate in group.candidates] == [True, False]


# What pipelines distill from.


@pytest.mark.parametrize(("by", "expected"), [("validation", (HOT, 0.0)), ("test", (0.0, COLD, HOT))])
def test_the_students_of_transitivity_learn_from_the_best_the_best_distilled_and_the_worst_of_all_middles(by, expected):
    """The worst on validation and the best on test is the middle that learned from labels."""
    study = scripted("transitivity", select_on=by)
    with pytest.raises(Stop):
        transitivity.run(study)
    teacher, *middles = study.executor.learned_from("student")
    assert teacher == 0.0
    assert tuple(middles) == expected


@pytest.mark.parametrize(("by", "expected"), [("validation", max), ("test", min)])
def test_what_is_reversed_is_the_best_distilled_student(by, expected):
    study = scripted("symmetry", select_on=by)
    with pytest.raises(Stop):
        symmetry.run(study)
    assert study.executor.learned_from("reversed") == [expected(study.settings.sweeps["student"])]


@pytest.mark.parametrize(("by", "expected"), [("validation", [HOT]), ("test", [0.0, COLD])])
def test_a_chain_goes_on_from_the_best_and_beside_it_from_the_best_distilled(by, expected):
    study = scripted("chain", select_on=by, steps="teacher>middle>student")
    with pytest.raises(Stop):
        chain.run(study)
    assert study.executor.learned_from("student")[1:] == expected


@pytest.mark.parametrize(("by", "expected"), [("validation", HOT), ("test", COLD)])
def test_the_row_of_the_best_student_is_of_the_best(by, expected):
    *_, row = students.rows_of(scripted("students", select_on=by), Sweep((model(0), *MODELS.records)))
    assert row.accuracy.mean == model(expected).test_accuracy


@pytest.mark.parametrize(("objective", "expected"), [("accuracy", HOT), ("val_nll", WARM)])
def test_a_search_is_held_against_the_best_of_the_sweep_by_validation(objective, expected):
    """With fresh seeds the best temperature of the sweep is trained again."""
    search = Search.__new__(Search)
    search.study = scripted("search", objective=objective)
    search.settings, search.sources = search.study.settings, Sweep((model(0, "teacher"),))
    plain = search.plain()
    assert {record.temperature for record in plain.records} == {expected}
    assert search.settings.seed not in plain.seeds


def test_temperatures_that_are_equal_on_average_are_equal_whatever_the_replicates_order():
    """0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in their last bit."""
    ranks = {
        mean_rank(Sweep(tuple(replace(model(HOT), metrics={"val_accuracy": value}) for value in values)))
        for values in ((0.3, 0.2, 0.1), (0.1, 0.2, 0.3))
    }
    assert len(ranks) == 1


@pytest.mark.parametrize("better", [(0.3, 0.2, 0.1), (0.1, 0.2, 0.3)])
def test_trials_of_a_method_that_are_equal_on_average_are_told_apart_by_their_loss(better, monkeypatch):
    """Not by the last bit of a sum, which depends on the order of the replicates."""
    scores = {2.0: (better[::-1], 0.9), 4.0: (better, 0.1)}

    def distill(study, sources, method, temperature):
        values, loss = scores[temperature]
        metrics = [{"val_accuracy": value, "val_nll": loss} for value in values]
        return Sweep(
            tuple(replace(model(temperature), seed=seed, metrics=own) for seed, own in enumerate(metrics)), hops=1
        )

    monkeypatch.setattr(methods, "distill", distill)
    monkeypatch.setattr(methods, "trials_of", lambda method, *_: [(method, 2.0), (method, 4.0)])
    study = scripted("methods", methods="dkd", controls="false")
    assert methods.choose(study, study, MODELS, MODELS, study.settings.methods[0]).temperature == 4.0


@pytest.mark.parametrize(("by", "expected"), [("validation", HOT), ("test", COLD)])
def test_the_members_of_one_temperature_have_the_one_that_is_chosen(by, expected, monkeypatch):
    monkeypatch.setattr(controls, "_objection", lambda *_: "")
    teacher = model(0, "teacher")
    study = scripted("ensemble", Scripted(SimpleNamespace(of_uri=lambda _: teacher)), select_on=by)
    found, reason = controls_of(study, {0: MODELS.records})
    assert reason == ""
    assert {member.temperature for member in found[ONE_TEMPERATURE].replicates[0]} == {expected}


# Votes. Each image is its own number; each network knows what it says of each.


class Told(nn.Module):
    """A network that is right on some images and says another class for all others."""

    def __init__(self, right):
        super().__init__()
        logits = torch.zeros(10, 3)
        logits[:, 1] = 3.0
        logits[sorted(right)] = torch.tensor([2.0, 0.0, 0.0])
        self.register_buffer("logits", logits)

    def forward(self, images):
        return self.logits[images.flatten(1)[:, 0].long()]


VALIDATION_ROWS, TEST_ROWS = range(5), range(5, 10)
RIGHT = {
    HOT: {0, 1, 2, 3} | {5, 6, 7, 8},
    WARM: {0, 1, 4} | {7, 8, 9},
    COLD: {2, 3, 4} | {7, 8, 9},
}
"""The images that each member has right. On validation all three vote best; on test the best of them is alone best."""


def voting(by):
    study = scripted("ensemble", select_on=by)
    data = SimpleNamespace(
        name="toy",
        shape=(1, 1, 1),
        classes=tuple("abc"),
        labels=np.zeros(10, dtype=np.int64),
        images=np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1),
    )
    split = SimpleNamespace(validation=np.array(VALIDATION_ROWS), test=np.array(TEST_ROWS))
    nets = {temperature: Told(right).eval() for temperature, right in RIGHT.items()}
    voters = SimpleNamespace(
        settings=study.settings, data=data, split=split, network=lambda member: nets[member.temperature]
    )
    return EnsembleEvaluation(voters, {0: MODELS.records, 1: MODELS.records})


@pytest.mark.parametrize(("by", "expected"), [("validation", 3), ("test", 1)])
def test_the_number_of_members_is_chosen_on_what_the_settings_say_alone(by, expected):
    assert voting(by).size() == expected


@pytest.mark.parametrize(("by", "first"), [("validation", HOT), ("test", COLD)])
def test_an_ensemble_is_held_against_its_best_member_on_the_test_images(by, first):
    ensemble, together = voting(by), {7, 8, 9}
    alone = RIGHT[first] & set(TEST_ROWS)
    assert ensemble.single() == pytest.approx([len(alone) / 5] * 2)
    assert ensemble.of(3) == pytest.approx([len(together) / 5] * 2)
    right = [np.isin(TEST_ROWS, sorted(images)) for images in (alone, together)]
    assert ensemble.paired(3) == [mcnemar(*right)] * 2
    if first == HOT:
        (found, _) = ensemble.paired(3)
        assert (found.only_single, found.only_ensemble) == (2, 1)
