"""What a unit says of itself: its record, what is trained beside it, and what studies take turns at."""

from dataclasses import replace

import pytest

from kdops.config.methods import parse_method
from kdops.errors import UsageError
from kdops.models.size import NetworkSize
from kdops.sweeps import unit as unit_module
from kdops.sweeps.model import COPY_SEEDS, LABELS
from kdops.sweeps.unit import Task, digest_of_pass, lock_keys, units_of
from tests.sweeps.test_fingerprint import DECIDES, SOURCE, TRANSFER, context, unit_of


def key_of(**change):
    """Return the one key of a unit; see :func:`unit_of`."""
    settings = {name: value for name, value in change.items() if name not in ("seed", "temperature", "source", "task")}
    settings.pop("predictions", None)
    (key,) = lock_keys([unit_of(**change)], context(**settings))
    return key


def test_studies_take_turns_at_what_differs_in_its_temperature_alone():
    keys = {name: key_of(**change) for name, change in DECIDES.items()}
    alone = {name: key for name, key in keys.items() if name not in ("the temperature", "hard predictions")}
    assert keys["the temperature"] == keys["hard predictions"] == key_of()
    # Nor do labels have a source or a method.
    assert alone.pop("hard labels") == alone["no source"]
    assert len({key_of(), *alone.values()}) == len(alone) + 1
    units = [unit_of(temperature=float(t)) for t in (1, 2, 3)]
    assert lock_keys(units, context()) == {key_of()}


def test_a_pass_is_its_units_in_any_order():
    one, two, three = (unit_of(temperature=float(t)) for t in (1, 2, 3))
    assert digest_of_pass([one, two]) == digest_of_pass([two, one])
    assert len({digest_of_pass(units) for units in ([one], [two], [one, two], [one, two, three])}) == 4


def test_a_sweep_is_one_unit_a_seed_and_temperature_and_the_copies_of_a_replicate_are_beside_each_other():
    here, task = context(), Task(**TRANSFER)
    seeds = (1, COPY_SEEDS + 1, 2)
    units = units_of(task, dict.fromkeys(seeds, SOURCE), (0.0, 4.0), True, here)
    assert [(unit.record.seed, unit.record.temperature) for unit in units] == [
        (s, t) for s in seeds for t in (0.0, 4.0)
    ]
    assert [unit.replicate for unit in units] == [1, 1, 1, 1, 2, 2]
    alone = [unit for seed in seeds for unit in units_of(task, {seed: SOURCE}, (0.0, 4.0), True, here)]
    assert [unit.training for unit in alone] == [unit.training for unit in units]
    same = [one.fingerprint == other.fingerprint for one, other in zip(alone, units, strict=True)]
    assert same == [False] * 4 + [True] * 2


def test_at_no_temperature_labels_are_learned_unless_predictions_are_asked_for():
    soft, hard, predicted, plain = (
        unit_of(temperature=t, source=source, predictions=predictions)
        for t, source, predictions in (
            (4.0, SOURCE, False),
            (0.0, SOURCE, False),
            (0.0, SOURCE, True),
            (0.0, None, True),
        )
    )
    assert [unit.source for unit in (soft, hard, predicted, plain)] == [SOURCE, None, SOURCE, None]
    assert [unit.learns_predictions for unit in (soft, hard, predicted, plain)] == [False, False, True, False]
    told = [unit.record.params["targets"] for unit in (soft, hard, predicted, plain)]
    assert told == ["softened outputs", "labels", "predictions", "labels"]
    assert ["method" in unit.record.params for unit in (soft, hard, predicted)] == [True, False, False]
    assert [unit.record.params["alpha"] for unit in (soft, hard, predicted)] == ["1", "0", "0"]
    assert [unit.record.source for unit in (soft, hard, predicted)] == [SOURCE.uri, LABELS, SOURCE.uri]
    assert [unit.record.chain for unit in (soft, hard)] == ["teacher>student", "student"]


def test_the_record_says_how_the_model_is_trained():
    marked = replace(SOURCE, select_on="test")
    record = unit_of(
        seed=3, source=marked, student="mlp(hidden=8,depth=1)", epochs="student=7", batch_size="17", alpha="0.7",
        learning_rate="0.017", t_squared="false", transfer="shared", split_seed="5",
    ).record  # fmt: skip
    assert (record.role, record.seed, record.temperature, record.uri, record.select_on) == (
        "student",
        3,
        4.0,
        "",
        "test",
    )
    assert unit_of(source=None).record.select_on == "validation"
    expected = {
        "dataset": "toy",
        "architecture": "mlp(hidden=8,depth=1,dropout=0)",
        "parameters": str(64 * 8 + 8 + 8 * 4 + 4),
        "flops": str(2 * (64 * 8 + 8 * 4)),
        "targets": "softened outputs",
        "method": "logits(alpha=0.7,t_squared=false)",
        "alpha": "0.7",
        "t_squared": "false",
        "epochs": "7",
        "batch_size": "17",
        "learning_rate": "0.017",
        "weight_decay": "0.01",
        "optimizer": "adamw",
        "schedule": "one-cycle",
        "label_smoothing": "0",
        "train_temperature": "1",
        "class_weights": "none",
        "normalize": "data",
        "augment": "none",
        "views": "live",
        "init": "pytorch",
        "order": "shared",
        "transfer": "shared",
        "split_seed": "5",
    }
    assert record.params == expected
    renamed = unit_of(registered="reseeded").record
    assert (renamed.role, renamed.params["streams"], renamed.chain) == ("reseeded", "student", "teacher>reseeded")


def test_a_network_without_the_tap_that_the_method_needs_is_refused_only_where_it_learns_from_a_source():
    here = context(student="mlp(hidden=8,depth=1)")
    task = Task(**TRANSFER, method=parse_method("fitnet(at=stage9)"))
    units_of(task, {0: None}, (4.0,), True, here)
    units_of(task, {0: SOURCE}, (0.0,), True, here)
    with pytest.raises(UsageError, match="no tap stage9"):
        units_of(task, {0: None, 1: SOURCE}, (0.0, 4.0), True, here)


def test_predictions_are_learned_without_the_method():
    plain, other = (unit_of(temperature=0.0, predictions=True, method=method) for method in ("logits", "dkd"))
    assert plain.fingerprint == other.fingerprint != unit_of(temperature=0.0).fingerprint


def test_the_code_of_a_network_counts_and_what_is_not_counted_is_not_recorded(monkeypatch):
    found = []
    for code in ("one", "other"):
        monkeypatch.setattr(unit_module, "network_size", lambda *_, code=code: NetworkSize(5, None, code))
        found.append(unit_of())
    assert found[0].fingerprint != found[1].fingerprint
    params = found[0].record.params
    assert (params["parameters"], params["code"], "flops" in params) == ("5", "one", False)
