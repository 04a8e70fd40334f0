"""The queue of a search: what is asked, told, tried again and counted, also by several processes at once."""

import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta
from itertools import product

import matplotlib.pyplot as plt
import optuna
import pytest
from matplotlib.figure import Figure
from optuna.exceptions import StorageInternalError

import kdops.search.dead_processes
from kdops.config.space_parser import parse_space
from kdops.errors import UsageError
from kdops.search.figures import history_figure, importance_figure, pareto_figure, slice_figure
from kdops.search.importance import importance_of
from kdops.search.queue import TrialQueue
from kdops.search.trial import Trial
from kdops.store.faults import explained
from kdops.utils.process import ProcessId
from tests.servers import postgres, skip_without_postgres

SPACE = parse_space("alpha=1 batch_size=64")
METHODS = parse_space("method=logits,dkd,standardize(dist) beta=1..15 batch_size=64")
GRID = parse_space("temperature=1,4 alpha=1 t_squared=true hidden=16,32 depth=1..3 learning_rate=0.001 batch_size=64")
BOTH = ("accuracy", "parameters")


@pytest.fixture
def opened(tmp_path):
    """Return a function that opens a search in one journal of this test."""

    def open_(**options):
        return TrialQueue.open(**{"storage": str(tmp_path / "journal"), "name": "a", "space": SPACE, **options})

    return open_


def accuracy(trial):
    """Return the accuracy of a pretended student: best at a temperature of 4, and the wider the better."""
    return 1 - abs(trial.values["temperature"] - 4) / 40 + trial.values["hidden"] / 10_000


def run(queue, total, batch=4):
    """Ask, and tell what came of it, until nothing more is wanted."""
    results = {"accuracy": accuracy, "parameters": lambda t: t.values["hidden"], "flops": lambda t: t.number}
    while asked := queue.ask(batch, total):
        for trial in asked:
            queue.tell(trial.number, [results[name](trial) for name in queue.objectives], "complete")


def lies_in(space, values):
    """Whether every setting of a trial has a value, and each may be tried."""
    own = {d.name: d for d in space.of(values)}
    return set(own) == set(values) and all(
        d.low <= values[name] <= d.high if d.is_range else values[name] in d.values for name, d in own.items()
    )


def states(queue):
    return [trial.state for trial in queue.trials()]


# What is asked for.


@pytest.mark.parametrize("space", [SPACE, METHODS], ids=["plain", "methods"])
@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_a_batch_is_of_new_trials_within_the_space(opened, sampler, space):
    queue = opened(sampler=sampler, space=space)
    asked = queue.ask(5, 20)
    assert [trial.number for trial in asked] == [0, 1, 2, 3, 4]
    assert all(lies_in(space, trial.values) and trial.state == "running" for trial in asked)
    assert len({str(trial.values) for trial in asked}) == 5
    assert queue.trials() == asked


def test_never_more_is_asked_for_than_is_wanted(opened):
    queue = opened(sampler="random")
    assert queue.wanted(5) == 5
    first = queue.ask(3, 5)
    assert queue.wanted(5) == 2
    assert len(queue.ask(9, 5)) == 2
    assert queue.ask(9, 5) == []
    queue.tell(first[0].number, [0.5], "complete")
    queue.tell(first[1].number, None, "pruned")
    assert queue.wanted(5) == 0
    queue.tell(first[2].number, None, "failed")
    assert (queue.wanted(5), queue.wanted(2), queue.wanted(9)) == (1, 0, 5)


@pytest.mark.parametrize("space", [SPACE, METHODS], ids=["plain", "methods"])
def test_failed_values_are_tried_once_more(opened, space):
    queue = opened(sampler="random", space=space)
    (first,) = queue.ask(1, 1)
    queue.tell(first.number, None, "failed")
    (second,) = queue.ask(9, 1)
    assert (second.values, second.again) == (first.values, first.number)
    queue.tell(second.number, None, "failed")
    (third,) = queue.ask(9, 1)
    assert third.values != first.values
    assert third.again is None
    queue.tell(third.number, [0.5], "complete")
    assert queue.ask(9, 1) == []
    assert states(queue) == ["failed", "failed", "complete"]


@pytest.mark.parametrize(
    ("sampler", "space"), [("tpe", SPACE), ("random", SPACE), ("grid", SPACE), ("tpe", METHODS), ("grid", METHODS)]
)
def test_a_search_that_was_stopped_goes_on_as_it_would_have(opened, sampler, space):
    options = {"sampler": sampler, "seed": 3, "space": space}
    # TPE draws its first ten at random.
    part, total = (8, 16) if sampler == "tpe" else (4, 8)
    whole = opened(name="whole", **options)
    run(whole, total)
    run(opened(name="parts", **options), part)
    again = opened(name="parts", **options)
    assert again.wanted(total) == total - part
    run(again, total)
    assert again.trials() == whole.trials()
    (other,) = opened(name="other", **{**options, "seed": 4}).ask(1, 1)
    assert other.values != whole.trials()[0].values


def test_tpe_learns_what_is_good(opened):
    queue = opened(space=parse_space("temperature=1..40 alpha=1 depth=1 learning_rate=0.001 batch_size=64"))
    run(queue, 30)
    late = [trial.results[0] for trial in queue.trials()[20:]]
    early = [trial.results[0] for trial in queue.trials()[:10]]
    assert sum(late) / 10 > sum(early) / 10


def test_a_grid_is_walked_once_and_then_ends(opened):
    queue = opened(space=GRID, sampler="grid")
    run(queue, 1000)
    found = [(t.values["temperature"], t.values["hidden"], t.values["depth"]) for t in queue.trials()]
    assert sorted(found) == [*product((1.0, 4.0), (16, 32), (1, 2, 3))]
    assert queue.wanted(1000) == 0
    assert found != sorted(found)


def test_a_grid_is_walked_from_its_first_place(opened):
    queue = opened(space=GRID, sampler="grid")
    for place, trial in enumerate(queue.ask(3, 99)):
        assert trial.values.items() >= queue._grid.at(place).items()


def test_a_grid_over_methods_crosses_each_with_its_own_options(opened):
    text = "method=logits,dkd beta=1,2,3 temperature=1,4 hidden=4 depth=1 learning_rate=0.001 batch_size=64"
    queue = opened(space=parse_space(text), sampler="grid")
    run(queue, 1000)
    found = [(t.values["method"], t.values["temperature"], t.values.get("beta", 0)) for t in queue.trials()]
    assert sorted(found) == sorted([*product(["logits"], (1, 4), (0,)), *product(["dkd"], (1, 4), (1, 2, 3))])


def test_a_point_of_a_grid_that_fails_twice_is_left(opened):
    queue = opened(space=GRID, sampler="grid")
    bad = {"temperature": 4.0, "hidden": 16}
    while asked := queue.ask(5, 12):
        for trial in asked:
            fails = bad.items() <= trial.values.items()
            queue.tell(trial.number, None if fails else [0.5], "failed" if fails else "complete")
    assert (states(queue).count("failed"), states(queue).count("complete")) == (6, 9)


# Several at once.


def ask_together(queues, count, total):
    """Let several queues ask at one moment; give what they got."""
    start, got = threading.Barrier(len(queues)), []

    def ask(queue):
        start.wait()
        got.extend(queue.ask(count, total))

    threads = [threading.Thread(target=ask, args=[queue]) for queue in queues]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got


def test_processes_that_ask_at_the_same_moment_get_at_least_as_many_trials_as_are_wanted(opened):
    queues = [opened(sampler="random") for _ in range(4)]
    got = [trial for total in range(1, 9) for trial in ask_together(queues, 1, total)]
    # Each may ask for the last one, and nobody runs another's.
    assert 8 <= len(got) <= 8 + 3
    assert len({trial.number for trial in got}) == len({str(trial.values) for trial in got}) == len(got)
    assert all(queue.ask(9, 8) == [] for queue in queues)
    assert all(queue.trials() == sorted(got, key=lambda trial: trial.number) for queue in queues)


def test_processes_that_ask_for_the_last_point_of_a_grid_may_try_one_again(opened):
    queues = [opened(space=GRID, sampler="grid") for _ in range(4)]
    got = [trial for total in range(1, 13) for trial in ask_together(queues, 1, total)]
    assert len({str(trial.values) for trial in got}) == 12 <= len(got)
    assert all(queue.wanted(1000) == 0 for queue in queues)


def test_failed_values_are_tried_again_though_all_ask_at_the_same_moment(opened):
    queues = [opened(sampler="random") for _ in range(4)]
    for trial in queues[0].ask(3, 10):
        queues[0].tell(trial.number, None, "failed")
    got = ask_together(queues, 5, 10)
    assert len({trial.number for trial in got}) == len(got) >= 10
    assert {trial.again for trial in got if trial.again is not None} == {0, 1, 2}
    assert all(states(queue).count("failed") == 3 for queue in queues)


WORKER = """
import sys, time
from kdops.search.queue import TrialQueue
from kdops.config.space_parser import parse_space

queue = TrialQueue.open(storage=sys.argv[1], name="a", space=parse_space("alpha=1 batch_size=64"), sampler=sys.argv[2])
print("open", flush=True)
sys.stdin.readline()
while asked := queue.ask(3, 40):
    for number, trial in enumerate(asked):
        if sys.argv[3] == "victim" and number == 1:
            print(trial.number, flush=True)
            time.sleep(600)
        queue.tell(trial.number, [trial.values["temperature"]], "complete")
"""


@pytest.mark.slow
def test_four_processes_finish_what_is_wanted_though_one_is_killed(tmp_path, opened):
    journal = str(tmp_path / "journal")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, journal, "random", kind], **pipes)
        for kind in ("victim", "worker", "worker", "worker")
    ]
    try:
        assert [worker.stdout.readline() for worker in workers] == ["open\n"] * 4
        victim, *others = workers
        victim.stdin.write("\n")
        victim.stdin.flush()
        killed = int(victim.stdout.readline())
        for worker in others:
            worker.stdin.write("\n")
            worker.stdin.flush()
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        for worker in others:
            assert worker.communicate(timeout=200) == ("", "")
            assert worker.returncode == 0
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()

    queue = opened(sampler="random")
    queue.end_stale()
    while asked := queue.ask(3, 40):
        for trial in asked:
            queue.tell(trial.number, [trial.values["temperature"]], "complete")
    trials = queue.trials()
    assert [trial.state for trial in trials].count("complete") >= 40
    assert {trial.state for trial in trials} == {"complete", "failed"}
    failed = [trial for trial in trials if trial.state == "failed"]
    assert killed in {trial.number for trial in failed}
    assert len(failed) == 2
    for trial in failed:
        again = [other for other in trials if other.again == trial.number]
        assert again
        assert {(str(other.values), other.state) for other in again} == {(str(trial.values), "complete")}
    new = [str(trial.values) for trial in trials if trial.again is None]
    assert len(set(new)) == len(new)
    assert all(isinstance(json.loads(line), dict) for line in (tmp_path / "journal").open(encoding="utf-8"))


def test_trials_of_the_living_are_left_alone(tmp_path, opened):
    code = WORKER.replace('sys.argv[3] == "victim" and number == 1', "number == 1")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "journal"), "random", ""], **pipes) as worker:
        worker.stdout.readline()
        worker.stdin.write("\n")
        worker.stdin.flush()
        worker.stdout.readline()
        queue = opened(sampler="random")
        assert queue.end_stale() == []
        assert (states(queue), queue.wanted(5)) == (["complete", "running", "running"], 2)
        worker.kill()
        worker.wait()
        assert queue.wanted(5) == 4
        assert queue.end_stale() == [1, 2]
        assert queue.end_stale() == []
        assert (states(queue), queue.wanted(5)) == (["complete", "failed", "failed"], 4)


def test_a_trial_without_a_name_is_given_up_after_a_while(tmp_path, opened, monkeypatch):
    queue = opened()
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal"))
    study = optuna.load_study(storage=optuna.storages.JournalStorage(backend), study_name="a")
    study.ask()
    assert (queue.end_stale(), queue.wanted(4)) == ([], 3)
    study.add_trial(
        optuna.trial.FrozenTrial(
            number=1,
            trial_id=1,
            state=optuna.trial.TrialState.RUNNING,
            value=None,
            datetime_start=datetime.now() - timedelta(days=2),
            datetime_complete=None,
            params={},
            distributions={},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )
    )
    assert (queue.end_stale(), queue.wanted(4)) == ([1], 3)
    (trial,) = queue.ask(1, 4)
    assert trial.again is None
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 301)
    assert queue.end_stale() == [0]


def test_a_trial_of_a_host_in_another_time_zone_has_time_to_name_its_process(tmp_path, opened, monkeypatch):
    queue = opened()
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal"))
    study = optuna.load_study(storage=optuna.storages.JournalStorage(backend), study_name="a")
    study.ask()

    class East(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(hours=9)

    monkeypatch.setattr(kdops.search.dead_processes, "datetime", East)
    assert (queue.end_stale(), queue.wanted(4)) == ([], 3)


# What is told.


def test_telling_the_same_again_changes_nothing(opened):
    queue = opened(sampler="random")
    for number, state, values in [(0, "complete", [0.5]), (1, "pruned", None), (2, "failed", None)]:
        queue.ask(1, 9)
        if state == "pruned":
            queue.report(number, 0, 0.25)
        queue.tell(number, values, state)
        before = queue.trials()
        queue.tell(number, values, state)
        assert queue.trials() == before
    assert [t.results for t in queue.trials()] == [(0.5,), (), ()]


def test_a_finished_trial_keeps_what_was_told_first(opened):
    queue = opened(sampler="random")
    queue.ask(1, 9)
    queue.tell(0, [0.5], "complete")
    for values, state in [([0.25], "complete"), (None, "failed"), (None, "pruned")]:
        queue.tell(0, values, state)
    assert (queue.trials()[0].state, queue.trials()[0].results) == ("complete", (0.5,))
    with pytest.raises(ValueError, match="7"):
        queue.tell(7, None, "failed")


@pytest.mark.parametrize(
    ("values", "state"),
    [
        (None, "complete"),
        ([0.5], "failed"),
        ([0.5], "pruned"),
        ([float("nan")], "complete"),
        ([], "complete"),
        ([0.5, 1.0], "complete"),
    ],
)
def test_values_that_do_not_fit_are_refused_and_leave_the_trial_running(opened, values, state):
    queue = opened(sampler="random")
    queue.ask(1, 9)
    with pytest.raises(ValueError, match=r"(?i)value"):
        queue.tell(0, values, state)
    assert states(queue) == ["running"]


def test_the_median_decides_what_is_pruned(opened):
    queue = opened(sampler="random", pruner="median")
    assert queue.prunes
    for trial in queue.ask(10, 99):
        for epoch in range(5):
            queue.report(trial.number, epoch, trial.number / 10)
        assert not queue.should_prune(trial.number)
        queue.tell(trial.number, [trial.number / 10], "complete")
    poor, good = queue.ask(2, 99)
    for trial, value in ((poor, 0.1), (good, 0.9)):
        queue.report(trial.number, 0, value)
        assert not queue.should_prune(trial.number)
        queue.report(trial.number, 4, value)
    assert (queue.should_prune(poor.number), queue.should_prune(good.number)) == (True, False)
    queue.tell(poor.number, None, "pruned")
    assert queue.best().results == (0.9,)


@pytest.mark.parametrize(("objective", "better"), [("accuracy", 0.46), ("val_nll", 0.44)])
def test_what_is_pruned_is_just_beyond_the_median(opened, objective, better):
    """Others are 0, 0.1 ... 0.9, so their median is 0.45: another percentile would prune both, or none."""
    queue = opened(sampler="random", pruner="median", objectives=(objective,))
    for trial in queue.ask(10, 99):
        queue.report(trial.number, 4, trial.number / 10)
        queue.tell(trial.number, [trial.number / 10], "complete")
    pruned = {}
    for trial, value in zip(queue.ask(2, 99), (0.44, 0.46), strict=True):
        queue.report(trial.number, 4, value)
        pruned[value] = queue.should_prune(trial.number)
    assert pruned == {value: value != better for value in (0.44, 0.46)}


def test_several_objectives_are_not_pruned_and_it_is_said(opened):
    queue = opened(objectives=BOTH, pruner="median")
    assert not queue.prunes
    assert queue.notes == ("Nothing is pruned, since there are several objectives (accuracy, parameters).",)
    queue.ask(1, 9)
    queue.report(0, 0, 0.1)
    assert not queue.should_prune(0)
    assert opened(name="b").notes == ()


# What came of it.


def test_the_best_is_by_the_direction_of_the_objective(opened):
    for objectives, best in {("accuracy",): 1, ("val_nll",): 0}.items():
        queue = opened(name=objectives[0], objectives=objectives, sampler="random")
        assert (queue.best(), queue.front()) == (None, [])
        for trial, value in zip(queue.ask(4, 4), (0.2, 0.7, 0.5, 0.7), strict=True):
            queue.tell(trial.number, [value], "complete")
        assert queue.best().number == best
        assert [queue.better(value, queue.best()) for value in (0.1, 0.7, 0.8)] == [best == 0, False, best == 1]
        assert queue.better(0.1, None)


def test_the_front_is_what_no_other_beats(opened):
    queue = opened(objectives=BOTH, sampler="random")
    results = [(0.9, 500), (0.8, 100), (0.7, 100), (0.95, 900), (0.9, 501)]
    for trial, values in zip(queue.ask(5, 5), results, strict=True):
        queue.tell(trial.number, values, "complete")
    assert [trial.number for trial in queue.front()] == [0, 1, 3]
    assert queue.best().number == 3
    assert all(type(trial) is Trial for trial in queue.front())


def test_importance_finds_what_matters_whichever_way_is_better(opened):
    space = parse_space("alpha=1 batch_size=64 depth=1 t_squared=true")
    found = []
    for objectives, sign in {("accuracy",): 1, ("val_nll",): -1}.items():
        queue = opened(name=objectives[0], space=space, objectives=objectives, sampler="random")
        for trial in queue.ask(24, 24):
            assert trial.number not in (0, 9) or importance_of(queue) == {}
            queue.tell(trial.number, [-sign * abs(trial.values["temperature"] - 4)], "complete")
        importance = importance_of(queue)
        assert importance["temperature"] == max(importance.values()) > 0.5
        assert [*importance.values()] == sorted(importance.values(), reverse=True)
        assert sum(importance.values()) == pytest.approx(1)
        assert set(importance) == {"temperature", "hidden", "learning_rate"}
        found.append(importance)
    assert found[0] == pytest.approx(found[1])


def test_equal_results_say_nothing_of_importance(opened):
    queue = opened(sampler="random")
    for trial in queue.ask(12, 12):
        queue.tell(trial.number, [0.5], "complete")
    assert importance_of(queue) == {}
    assert importance_figure(queue) is None


@pytest.mark.parametrize(
    ("objectives", "space"),
    [(("accuracy",), METHODS), (BOTH, SPACE), ((*BOTH, "flops"), SPACE)],
    ids=["methods", "two", "three"],
)
def test_figures_are_drawn_and_leave_nothing_behind(opened, tmp_path, objectives, space, capfd):
    mine, _ = plt.subplots()
    before = dict(plt.rcParams)
    queue = opened(objectives=objectives, sampler="random", space=space)
    draw = {"history": history_figure, "slice": slice_figure, "importance": importance_figure, "pareto": pareto_figure}
    assert [figure(queue) for figure in draw.values()] == [None] * 4
    run(queue, 12, batch=12)
    figures = {name: figure(queue) for name, figure in draw.items()}
    assert (figures.pop("pareto") is None) is (len(objectives) == 1)
    for name, figure in figures.items():
        assert isinstance(figure, Figure)
        figure.savefig(tmp_path / f"{name}.png", dpi=30)
    assert plt.get_fignums() == [mine.number]
    assert dict(plt.rcParams) == before
    plt.close(mine)
    assert capfd.readouterr() == ("", "")


# Where it is kept.


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        ({"setting": {"method": "wsld(alpha=2.5,t_squared=true)"}}, "another method (logits, not wsld"),
        ({"space": parse_space("depth=1")}, "another space (temperature=1..30 alpha=1 "),
        ({"objectives": ("val_nll",)}, "another objectives (accuracy, not val_nll)"),
        ({"objectives": BOTH}, "another objectives (accuracy, not accuracy,parameters)"),
        ({"sampler": "grid"}, "another grid (none, not 3 points of a range, seed 0)"),
    ],
)
def test_a_name_is_of_one_search(opened, other, differs):
    run(opened(sampler="random"), 2)
    assert len(opened(sampler="tpe", seed=5, pruner="median").trials()) == 2
    with pytest.raises(UsageError) as caught:
        opened(**other)
    assert str(caught.value).startswith("study_name=a: is taken by a search with ")
    assert differs in str(caught.value)
    assert opened(name="b", **other).trials() == []


def test_a_study_of_another_program_is_not_taken(tmp_path, opened):
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal"))
    study = optuna.create_study(storage=optuna.storages.JournalStorage(backend), study_name="a")
    study.tell(study.ask(), 1.0)
    with pytest.raises(UsageError, match="study_name=a: is taken by a study that is no search of kdops"):
        opened()


@pytest.mark.parametrize(
    ("option", "value"),
    [("sampler", "cma"), ("pruner", "hyperband"), ("objectives", ("test_accuracy",)), ("name", " ")],
)
def test_unknown_options_are_refused(opened, option, value):
    with pytest.raises(UsageError):
        opened(**{option: value})


def test_a_grid_that_is_too_large_is_refused(opened):
    with pytest.raises(UsageError, match="a grid of it has 2151296 points; 100000 are allowed"):
        opened(space=parse_space("alpha=0..1 depth=1..7"), sampler="grid(points=14)")


def test_a_storage_that_cannot_be_opened_is_told_in_one_line(tmp_path):
    database = sqlite3.connect(tmp_path / "mlflow.db")
    database.execute("CREATE TABLE alembic_version (version_num TEXT)")
    database.close()
    wrong = {
        str(tmp_path): "the path of a file",
        "": "the path of a file",
        str(tmp_path / "none" / "journal"): "there is no folder",
        "nonsense://there": "cannot be opened",
        "postgresql://me:secret@localhost:1/db": "cannot be opened",
        f"sqlite:///{tmp_path}/none/a.db": "unable to open database file",
        f"sqlite:///{tmp_path}/mlflow.db": "another program's, such as MLflow's",
    }
    for storage, said in wrong.items():
        with pytest.raises(UsageError) as caught:
            TrialQueue.open(storage=storage, name="a", space=SPACE)
        assert said in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
        assert "secret" not in str(caught.value)
    database = sqlite3.connect(tmp_path / "mlflow.db")
    assert [*database.execute("SELECT name FROM sqlite_master")] == [("alembic_version",)]
    database.close()


@pytest.mark.parametrize("content", [b"notes", b"notes\n", b"{}\n", b"[1]\n", b'"op_code"\n', b"\xff\x00\n", b"\n"])
def test_a_file_that_is_no_journal_is_left_as_it_is(tmp_path, opened, content):
    (tmp_path / "journal").write_bytes(content)
    with pytest.raises(UsageError, match="no journal of Optuna"):
        opened()
    assert (tmp_path / "journal").read_bytes() == content


def test_half_a_line_at_the_end_is_cut_off(tmp_path, opened):
    run(opened(sampler="random"), 3)
    with (tmp_path / "journal").open("ab") as file:
        file.write(b'{"op_code":4,"worker')
    queue = opened(sampler="random")
    run(queue, 5)
    assert states(opened()) == ["complete"] * 5


def test_a_relative_path_and_an_empty_file_will_do(tmp_path, opened, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "journal").touch()
    run(TrialQueue.open(storage="journal", name="a", space=SPACE), 2)
    assert len(opened().trials()) == 2


def test_a_database_will_do(tmp_path, capfd):
    options = {"storage": f"sqlite:///{tmp_path}/search.db", "name": "a", "space": SPACE, "sampler": "random"}
    queue = TrialQueue.open(**options)
    run(queue, 2)
    (trial,) = queue.ask(1, 3)
    queue.tell(trial.number, None, "failed")
    again = TrialQueue.open(**options)
    run(again, 3)
    assert states(again) == ["complete", "complete", "failed", "complete"]
    assert again.trials()[3].values == trial.values
    assert capfd.readouterr() == ("", "")


def test_connections_that_the_server_of_a_database_closed_are_opened_again():
    skip_without_postgres()
    import psycopg2

    with postgres(("trials",)) as given:
        address = f"{given['PGUSER']}:{given['PGPASSWORD']}@{given['PGHOST']}:{given['PGPORT']}/trials"
        queue = TrialQueue.open(storage=f"postgresql+psycopg2://{address}", name="a", space=SPACE)
        (first,) = queue.ask(1, 2)
        connection = psycopg2.connect(f"postgresql://{address}")
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        connection.close()
        queue.tell(first.number, [0.5], "complete")
        assert states(queue) == ["complete"]


def test_what_a_database_says_is_told_in_one_line(tmp_path, opened):
    queue = opened(storage=f"sqlite:///{tmp_path}/trials.db")
    with sqlite3.connect(tmp_path / "trials.db") as database:
        database.execute("DROP TABLE trials")
    database.close()
    with pytest.raises(StorageInternalError) as caught:
        queue.ask(1, 1)
    told = str(explained(caught.value, "sqlite:///mlflow.db"))
    assert told.startswith(
        "the storage of the search cannot be used ((sqlite3.OperationalError) no such table: trials)"
    )
    assert "\n" not in told


def test_each_trial_names_its_process(tmp_path, opened):
    opened().ask(1, 1)
    assert str(ProcessId.own()) in (tmp_path / "journal").read_text(encoding="utf-8")


def test_a_trial_names_its_run_and_the_ledger_gives_it_back(opened):
    queue = opened(sampler="random")
    first, second = queue.ask(2, 2)
    queue.name_run(first.number, "abc")
    queue.tell(first.number, (0.5,), "complete")
    assert queue.open_trials() == [second.number]
    assert [trial.run for trial in opened(sampler="random").trials()] == ["abc", ""]
    with pytest.raises(KeyError):
        queue.name_run(first.number, "def")


def test_trials_of_one_setting_are_never_put_with_those_of_another(opened):
    setting = {"source": "0123", "epochs": 3}
    opened(setting=setting)
    opened(setting=dict(reversed(setting.items())))
    with pytest.raises(UsageError, match=r"another epochs \(3, not 4\); choose another name"):
        opened(setting={**setting, "epochs": 4})


def test_a_check_writes_nothing_and_finds_what_opening_would(tmp_path, opened):
    journal = tmp_path / "journal"
    check = {"storage": str(journal), "name": "a", "space": SPACE, "objectives": ("accuracy",)}
    TrialQueue.check(**check)
    assert not journal.exists()
    opened()
    before = journal.read_bytes()
    TrialQueue.check(**check)
    TrialQueue.check(**{**check, "name": "another"})
    with pytest.raises(UsageError, match="is taken by a search with another objectives"):
        TrialQueue.check(**{**check, "objectives": ("val_nll",)})
    with pytest.raises(UsageError, match="is taken by a search with another space"):
        TrialQueue.check(**{**check, "space": parse_space("hidden=3")})
    assert journal.read_bytes() == before


def test_what_is_to_begin_anew_does_not_go_on_with_another(tmp_path, opened):
    queue = opened()
    check = {"storage": str(tmp_path / "journal"), "name": "a", "space": SPACE, "objectives": ("accuracy",)}
    TrialQueue.check(**check, is_new=True)
    queue.ask(2, 2)
    TrialQueue.check(**check)
    with pytest.raises(UsageError, match="study_name=a: has 2 trials, and fresh begins another: choose another name"):
        TrialQueue.check(**check, is_new=True)


def test_options_of_samplers_and_pruners_are_used(opened):
    queue = opened(name="grid", space=parse_space("alpha=0..1 depth=1 hidden=4"), sampler="grid(points=5)")
    assert queue.wanted(10_000) == 5 * 5 * 2 * 5 * 4
    queue = opened(name="median", sampler="tpe(startup=0)", pruner="median(startup=2,warmup=7)")
    pruner = queue.study.pruner
    assert (pruner._n_startup_trials, pruner._n_warmup_steps) == (2, 7)
    sampler = queue.study.sampler._sampler
    assert (sampler._n_startup_trials, sampler._constant_liar) == (0, True)
    pruner = opened(name="default", pruner="median").study.pruner
    assert (pruner._n_startup_trials, pruner._n_warmup_steps) == (10, 3)


@pytest.mark.parametrize("sampler", ["tpe(startup=-1)", "random(startup=1)", "grid(points=0)", "grid(points=101)"])
def test_options_that_are_not_allowed_are_refused(opened, sampler):
    with pytest.raises(UsageError, match=r"^sampler="):
        opened(sampler=sampler)
