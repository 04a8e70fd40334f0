"""What a dry run tells: sums that add up."""

import re

import pytest

from kdops.config.architectures import parse_architecture
from kdops.config.settings import Settings
from kdops.sweeps.model import Model
from kdops.sweeps.outcomes import PlannedUnit
from kdops.sweeps.plan import EPOCH_BYTES, MODEL_BYTES, TRACKING_SECONDS, Plan, Step
from kdops.utils.text import duration

SHAPE, CLASSES = (1, 8, 8), 10
SETTINGS = Settings.parse(teacher="cnn(filters=64)", student="mlp(hidden=5000)")


def plan_of(*steps):
    plan = Plan(SHAPE, CLASSES, "cpu")
    for role, images, models, missing in steps:
        names = [f"{role} {number}" for number in range(models)]
        there = {name: {"": Model(role, 0, 0.0, role, "labels", name)} for name in names[missing:]}
        plan.add(role, SETTINGS.recipes[role], images, [PlannedUnit(name, None, there.get(name, {})) for name in names])
    return plan


def numbers(line):
    found = re.fullmatch(r"(\d+) models, (\d+) to train: about (.+) on this machine, (\d+) MB of disk", line)
    assert found, line
    return int(found[1]), int(found[2]), found[3], int(found[4])


def test_a_line_for_each_sweep_and_the_sums_last():
    lines = plan_of(("teacher", 500, 3, 1), ("student", 400, 60, 60)).lines()
    assert (
        lines[0]
        == "3 x teacher cnn(filters=64,layers=3,dropout=0.1/0.2/0.3) on 500 images, 1 to train, 2 already there"
    )
    assert lines[1] == "60 x student mlp(hidden=5000,depth=1,dropout=0) on 400 images, 60 to train, 0 already there"
    models, missing, _, megabytes = numbers(lines[2])
    assert (models, missing, len(lines)) == (63, 61, 3)
    # A float32 weight takes four bytes, and every model's weights are stored twice.
    sizes = [parse_architecture(text).parameters(SHAPE, CLASSES) for text in ("cnn(filters=64)", "mlp(hidden=5000)")]
    expected = 8 * (sizes[0] + 60 * sizes[1]) + 61 * MODEL_BYTES
    assert megabytes == round(expected / 1e6)


def test_weights_that_are_kept_of_earlier_epochs_take_room():
    plan, recipe = Plan(SHAPE, CLASSES, "cpu"), SETTINGS.recipes["student"]
    plan.add("student", recipe, 400, [PlannedUnit("a", None), PlannedUnit("b", None)], kept=10)
    size = recipe.architecture.parameters(SHAPE, CLASSES)
    expected = 2 * (8 * size + MODEL_BYTES + 10 * (4 * size + EPOCH_BYTES))
    assert numbers(plan.lines()[-1])[3] == round(expected / 1e6)


def test_a_busy_machine_is_said_and_gives_a_range(monkeypatch):
    monkeypatch.setattr("kdops.sweeps.plan.matrix_speed", lambda device: 1e10)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    told = []
    for load in (0.4, 1.0, 7.0):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 0.0, 0.0))
        told.append(numbers(plan_of(("teacher", 2000, 3, 3)).lines()[-1])[2])
    assert told[0] == told[1]
    assert "load" not in told[0]
    seconds = plan_of()._seconds(Step("teacher", SETTINGS.recipes["teacher"], 2000), 3, 1e10) + 3 * TRACKING_SECONDS
    assert told[2] == f"{duration(seconds)} to {duration(4 * seconds)}, the more at its load of 7.0 on 2 cores,"


def test_what_two_sweeps_share_is_planned_once():
    once = plan_of(("teacher", 500, 3, 1), ("student", 400, 60, 60)).lines()
    steps = [("teacher", 500, 3, 1), ("student", 400, 30, 30), ("teacher", 500, 3, 1), ("student", 400, 60, 60)]
    again = plan_of(*steps).lines()
    assert numbers(again[-1])[:2] == numbers(once[-1])[:2]
    assert [line.split(" cnn")[0].split(" mlp")[0] for line in again[:-1]] == [
        "3 x teacher",
        "30 x student",
        "30 x student",
    ]


@pytest.mark.parametrize("steps", [(), (("teacher", 500, 3, 0), ("student", 400, 60, 0))])
def test_what_is_there_costs_nothing(steps):
    models, missing, duration, megabytes = numbers(plan_of(*steps).lines()[-1])
    assert (models, missing, duration, megabytes) == (sum(step[2] for step in steps), 0, "0 s", 0)


def test_time_grows_with_what_is_to_be_trained():
    def seconds(role, images, missing, speed=1e11):
        return plan_of()._seconds(Step(role, SETTINGS.recipes[role], images), missing, speed)

    for role in ("teacher", "student"):
        one = seconds(role, 1000, 1)
        assert one > 0
        assert seconds(role, 2000, 1) > 1.2 * one
        assert seconds(role, 1000, 1, speed=1e10) > one
    # Convolutional nets train one after another; dense ones share the steps of one pass.
    assert seconds("teacher", 1000, 8) == pytest.approx(8 * seconds("teacher", 1000, 1))
    assert seconds("student", 1000, 8) < 8 * seconds("student", 1000, 1)
    assert seconds("student", 1000, 8) > seconds("student", 1000, 1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (5400, "1.5 h"), (360_000, "100.0 h")],
)
def test_durations_are_told_in_fitting_units(seconds, text):
    assert duration(seconds) == text
