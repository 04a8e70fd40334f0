"""Choosing among models, and a sweep as a table."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from kdops.config.criterion import SCORES, Criterion
from kdops.errors import KdopsError
from kdops.sweeps.model import COPY_SEEDS, LABELS, Model, Sweep
from kdops.sweeps.ranking import best, best_temperature, rank_key, shipping_order, worst


def record(seed=0, temperature=1.0, role="student", **metrics):
    return Model(role, seed, temperature, f"teacher>{role}", LABELS, "", metrics=metrics)


def one(sweep):
    (found,) = sweep.records
    return found.temperature


ORDERED = (
    record(temperature=5.0, val_accuracy=0.9, val_nll=0.7, test_accuracy=0.1, test_nll=0.1),
    record(temperature=2.0, val_accuracy=0.8, val_nll=0.3, test_accuracy=0.2, test_nll=0.9),
    record(temperature=3.0, val_accuracy=0.8, val_nll=0.3, test_accuracy=0.2, test_nll=0.8),
    record(temperature=1.0, val_accuracy=0.8, val_nll=0.4, test_accuracy=0.4, test_nll=0.7),
)
"""Best on validation first: by accuracy, then by loss, then by temperature."""


@pytest.mark.parametrize("shuffle", range(6))
def test_best_and_worst_by_accuracy_then_loss_then_temperature(shuffle):
    records = list(ORDERED)
    random.Random(shuffle).shuffle(records)
    while records:
        sweep = Sweep(tuple(records))
        left = [r for r in ORDERED if r in records]
        assert best(sweep).records == (left[0],)
        assert worst(sweep).records == (left[-1],)
        records.remove(left[0])


def test_the_registry_orders_models_without_comparing_each_with_each(monkeypatch):
    models = [replace(model, uri=f"models:/pets/{number}") for number, model in enumerate(ORDERED)]
    monkeypatch.setattr(Model, "__eq__", lambda model, other: pytest.fail("ten thousand models take half a minute so"))
    assert [model.temperature for model in shipping_order(models)] == [5.0, 2.0, 3.0, 1.0]


@pytest.mark.parametrize("metrics", [{}, {"val_nll": 0.1}, {"val_accuracy": math.nan}])
def test_a_trained_model_without_an_accuracy_is_refused_rather_than_ranked(metrics):
    lost = Model("student", 0, 1.0, "teacher>student", LABELS, "models:/kdops-a-student/3", metrics=metrics)
    for rank in (rank_key, lambda model: best(Sweep((model, ORDERED[0])))):
        with pytest.raises(KdopsError, match="kdops-a-student/3 has no val_accuracy"):
            rank(lost)


def test_selection_on_test_looks_at_test_alone():
    sweep = Sweep(ORDERED)
    assert one(best(sweep, Criterion("test"))) == 1.0
    assert one(worst(sweep, Criterion("test"))) == 5.0
    assert one(best(Sweep(ORDERED[:3]), Criterion("test"))) == 3.0, "a tie in accuracy is broken by the loss on test"


@pytest.mark.parametrize("score", SCORES)
def test_the_best_is_the_best_by_the_score_that_is_asked_for(score):
    others = {f"val_{other}": 0.9 - t / 10 for t in (1, 2) for other in SCORES if other != score}
    sweep = Sweep(tuple(record(0, t, **others | {f"val_{score}": t / 10}) for t in (1, 2, 3)))
    assert one(best(sweep, Criterion(by=score))) == best_temperature(sweep, Criterion(by=score)) == 3.0
    assert one(worst(sweep, Criterion(by=score))) == 1.0


def test_each_replicate_is_chosen_from_by_itself_and_hops_are_kept():
    records = [record(s, t, val_accuracy=a) for s, t, a in [(7, 1, 0.5), (2, 1, 0.9), (7, 4, 0.6), (2, 4, 0.8)]]
    sweep = Sweep(tuple(records), hops=2)
    assert [(r.seed, r.temperature) for r in best(sweep).records] == [(2, 1), (7, 4)]
    assert [(r.seed, r.temperature) for r in worst(sweep).records] == [(2, 4), (7, 1)]
    for part in (best(sweep), worst(sweep), sweep.hard(), sweep.soft()):
        assert part.hops == 2


def sweep_of(seeds, temperatures, shuffle=1):
    records = [record(s, t, test_accuracy=s + t / 100, val_accuracy=-s) for s in seeds for t in temperatures]
    random.Random(shuffle).shuffle(records)
    return Sweep(tuple(records))


@pytest.mark.parametrize("shuffle", range(4))
def test_a_table_has_replicates_by_temperatures_both_ascending(shuffle):
    sweep = sweep_of((3, 0, 11), (8.0, 0.0, 29.0, 2.5), shuffle)
    assert sweep.seeds == (0, 3, 11)
    assert sweep.temperatures == (2.5, 8.0, 29.0)
    np.testing.assert_allclose(
        sweep.table(),
        [[s + t / 100 for t in (0.0, 2.5, 8.0, 29.0)] for s in (0, 3, 11)],
        err_msg="hard labels included",
    )
    np.testing.assert_allclose(sweep.table("val_accuracy")[:, 1], [0, -3, -11])
    assert np.isnan(sweep.table("unknown")).all()


def test_hard_and_soft_part_a_sweep():
    sweep = sweep_of((0, 1), (0.0, 1.0, 2.0))
    assert sweep.hard().table().shape == (2, 1)
    assert sweep.soft().table().shape == (2, 2)
    assert {r.temperature for r in sweep.hard().records} == {0.0}
    assert len(sweep.hard().records) + len(sweep.soft().records) == len(sweep.records)
    assert [r.temperature for r in sweep.of_seed(1)].count(0.0) == 1
    assert all(r.seed == 1 for r in sweep.of_seed(1))


def test_a_table_of_one_model_a_replicate_is_a_column_whatever_its_temperature():
    sweep = Sweep((record(5, 9.0, test_accuracy=0.5), record(1, 2.0, test_accuracy=0.1)))
    np.testing.assert_array_equal(sweep.table(), [[0.1], [0.5]])
    np.testing.assert_array_equal(sweep.accuracies(), [0.1, 0.5])


@pytest.mark.parametrize("gone", [0, 3, 5])
def test_a_table_that_lacks_a_member_is_refused(gone):
    records = [record(s, t, test_accuracy=0.5) for s in (0, 1) for t in (0.0, 1.0, 2.0)]
    lost = records.pop(gone)
    with pytest.raises(ValueError, match=rf"lacks .*\({lost.seed}, {lost.temperature}\)"):
        Sweep(tuple(records)).table()


def test_accuracies_of_several_models_a_replicate_are_refused():
    with pytest.raises(ValueError, match=r"of 2 temperatures .*choose one with at\(\)"):
        sweep_of((0, 1), (1.0, 2.0)).accuracies()


def test_a_record_tells_its_name():
    assert str(record(2, 2.5)) == "student T=2.5 seed=2"
    assert math.isnan(Sweep((record(),)).table()[0, 0])


def test_the_models_of_copies_and_of_the_first_replicates():
    sweep = sweep_of((1, 2, COPY_SEEDS + 2, 2 * COPY_SEEDS + 1, 3 * COPY_SEEDS - 2), (1.0,))
    assert {r.seed for r in sweep.copies_of(1)} == {1, 2 * COPY_SEEDS + 1}
    assert {r.seed for r in sweep.copies_of(2)} == {2, COPY_SEEDS + 2}
    first = sweep_of((5, 3, 9), (1.0, 2.0)).first(2)
    assert [first.seeds, len(first.records)] == [(3, 5), 4]


def test_of_equal_accuracies_an_unknown_loss_comes_last():
    known, unknown = record(temperature=9.0, val_accuracy=0.5, val_nll=99.0), record(val_accuracy=0.5)
    assert sorted([unknown, known], key=rank_key) == [known, unknown]
    assert sorted([record(val_accuracy=0.5, val_nll=math.nan), known], key=rank_key)[0] == known


@pytest.mark.parametrize(("text", "count"), [("12", 12), ("", None), ("-3", None), ("1e3", None), ("unknown", None)])
def test_a_count_that_is_no_number_is_unknown(text, count):
    found = Model("student", 0, math.nan, "", LABELS, "", params={"parameters": text, "flops": text})
    assert (found.parameters, found.flops, str(found)) == (count, count, "student seed=0")
