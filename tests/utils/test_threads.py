"""Threads: a short step is computed by one, a long one by all of the process; none of it is left behind."""

import os

import pytest
import torch

from benchmarks.passes import train
from kdops.config.architectures import parse_architecture
from kdops.config.recipes import Recipe
from kdops.distillation.logits import LogitDistillation
from kdops.distillation.objective import Objective
from kdops.distillation.sources import Kept
from kdops.models.classifier import digest_of, pixel_statistics
from kdops.training import training_pass
from kdops.training.trainer import Group, PassInputs
from kdops.training.trials import TrialPlan, train_trials
from kdops.utils.hardware import SHARED_FROM, num_threads, process_threads, threads_for
from tests.toys import quarters


@pytest.fixture(autouse=True)
def two_threads():
    with num_threads(2):
        yield


@pytest.fixture
def seen(monkeypatch):
    """Collect the threads that every loss was computed with."""
    found, terms = [], Objective.terms

    def counted(*given):
        found.append(torch.get_num_threads())
        return terms(*given)

    monkeypatch.setattr(Objective, "terms", counted)
    return found, LogitDistillation()


def trained(architecture, side, loss, batch_size=16):
    images = quarters(batch_size, 0, side)
    recipe = Recipe(parse_architecture(architecture), 1, batch_size, 1e-2)
    inputs = PassInputs("student", images, quarters(8, 1, side), 4, pixel_statistics(images.pixels))
    return list(train(recipe, [Group(0, (0.0,))], inputs, loss))


def test_a_step_is_shared_from_a_number_of_operations_on():
    enough = SHARED_FROM / 3 / 10
    assert threads_for(enough, 10) == 2
    assert threads_for(enough - 1, 10) == 1
    assert threads_for(enough - 1, 20) == 2
    with num_threads(1):
        assert threads_for(float("inf"), 1) == 1


@pytest.mark.parametrize(("told", "threads"), [("3", 3), ("2,1", 2), (" 5 ", 5)])
def test_a_process_has_the_threads_that_openmp_is_told_of(monkeypatch, told, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert process_threads.__wrapped__() == threads


@pytest.mark.parametrize("told", ["", "0", "many", "-2"])
def test_without_that_a_process_has_the_cores_it_may_use(monkeypatch, told):
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert 1 <= process_threads.__wrapped__() <= allowed


@pytest.mark.parametrize("fails", [False, True])
def test_the_number_of_before_comes_back(fails):
    with pytest.raises(ValueError, match="wrong") if fails else num_threads(2), num_threads(1):
        assert torch.get_num_threads() == 1
        if fails:
            raise ValueError("wrong")
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("architecture", "side", "threads"),
    [
        ("mlp(hidden=8,depth=1)", 8, 1),
        ("cnn(filters=4,layers=2,dropout=0)", 8, 1),
        ("mlp(hidden=4096,depth=1)", 24, 2),
        ("cnn(filters=64,layers=2,dropout=0)", 24, 2),
    ],
)
def test_small_nets_are_trained_by_one_thread_and_large_ones_by_all(seen, architecture, side, threads):
    found, loss = seen
    trained(architecture, side, loss)
    assert found == [threads]
    assert torch.get_num_threads() == 2


def test_between_the_models_that_a_training_gives_the_process_has_all_its_threads(seen):
    _, loss = seen
    images = quarters(16, 0, 8)
    recipe = Recipe(parse_architecture("cnn(filters=4,layers=2,dropout=0)"), 1, 16, 1e-2)
    inputs = PassInputs("student", images, images, 4, pixel_statistics(images.pixels))
    for _ in train(recipe, [Group(0, (0.0,)), Group(1, (0.0,))], inputs, loss):
        assert torch.get_num_threads() == 2


def test_a_small_training_gives_the_same_bits_whatever_the_threads(seen):
    _, loss = seen
    two = trained("mlp(hidden=8,depth=1)", 8, loss)
    with num_threads(1):
        one = trained("mlp(hidden=8,depth=1)", 8, loss)
    assert [digest_of(m.state) for m in one] == [digest_of(m.state) for m in two]


def test_trials_of_a_search_follow_the_same_rule(seen):
    found, _ = seen
    for hidden, threads in ((8, 1), (4096, 2)):
        found.clear()
        images = quarters(16, 0, 24)
        recipe = Recipe(parse_architecture(f"mlp(hidden={hidden},depth=1)"), 1, 16, 1e-2)
        inputs = PassInputs("student", images, images, 4, pixel_statistics(images.pixels))
        plans = [TrialPlan(recipe, 4.0, LogitDistillation(0.5))]
        list(train_trials(plans, 0, [Kept(torch.zeros(16, 4))], inputs))
        assert found == [threads]
        assert torch.get_num_threads() == 2


def test_a_pass_that_fails_leaves_the_threads_as_they_were(monkeypatch, seen):
    def fail(*given):
        raise RuntimeError("no")

    monkeypatch.setattr(training_pass.TrainingPass, "_train_epoch", fail)
    with pytest.raises(RuntimeError, match="no"):
        trained("mlp(hidden=8,depth=1)", 8, seen[1])
    assert torch.get_num_threads() == 2
