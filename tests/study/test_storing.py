"""Storing beside the training: in sequence, bounded, and with an honest end."""

import errno
import threading
from contextlib import closing
from types import SimpleNamespace

import pytest

from kdops.errors import DivergenceError
from kdops.store.faults import explained
from kdops.study.storing import MOST, Commits
from kdops.study.sweep_training import in_sequence

ONE, MANY = 1, 8


def noted(into, number, before=lambda: None):
    def commit(turn):
        before()
        with turn:
            into.append(number)

    return commit


@pytest.mark.parametrize("threads", [ONE, MANY])
def test_versions_follow_the_training_and_batches_end_once_they_are_stored(threads):
    made, ends = [], []
    with Commits(threads) as commits:
        for batch in range(20):
            numbers = range(10 * batch, 10 * batch + 10)
            commits.put([noted(made, number) for number in numbers], lambda: ends.append(len(made)))
        commits.put([], lambda: ends.append("empty"))
        commits.finish(lambda left: None)
    assert made == list(range(200))
    assert len(ends) == 21
    assert all(end == "empty" or end >= 10 for end in ends)


def test_many_threads_store_at_the_same_time():
    together = threading.Barrier(MANY)
    with Commits(MANY) as commits:
        # None comes through before all are there.
        commits.put([noted([], number, lambda: together.wait(30)) for number in range(MANY)], lambda: None)


def test_training_waits_for_a_slow_store():
    made, open_, given = [], threading.Event(), []

    def give():
        with Commits(ONE) as commits:
            for number in range(3 * MOST):
                commits.put([noted(made, number, lambda: open_.wait(30))], lambda: None)
                given.append(number)

    trains = threading.Thread(target=give)
    trains.start()
    trains.join(0.3)
    assert MOST <= len(given) <= MOST + 1
    open_.set()
    trains.join(30)
    assert made == list(range(3 * MOST))


@pytest.mark.parametrize("threads", [ONE, MANY])
def test_a_failure_of_the_store_is_the_training_s_and_nothing_more_is_stored(threads):
    made, ends = [], []

    def fail(turn):
        raise OSError("no room left")

    def train():
        with Commits(threads) as commits:
            commits.put([noted(made, 0), fail, *(noted(made, n) for n in range(2, 40))], lambda: ends.append(1))
            while True:
                commits.check()

    with pytest.raises(OSError, match="no room left"):
        train()
    assert made == [0]
    assert ends == []


@pytest.mark.parametrize(("error", "expected"), [(ValueError, 10), (KeyboardInterrupt, 1)])
def test_what_is_trained_is_stored_where_training_fails_and_one_is_made_whole_where_it_is_interrupted(error, expected):
    made, begun, open_ = [], threading.Event(), threading.Event()

    def slow():
        begun.set()
        assert open_.wait(30)

    def train():
        with Commits(ONE) as commits:
            commits.put([noted(made, 0, slow), *(noted(made, n) for n in range(1, 10))], lambda: None)
            assert begun.wait(30)
            threading.Timer(0.1, open_.set).start()
            raise error

    with pytest.raises(error):
        train()
    assert made == list(range(expected))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DivergenceError("diverged"), "diverged"),
        (OSError(errno.EROFS, "Read-only", "/data"), "/data cannot be written: it can only be read"),
    ],
)
def test_where_training_fails_and_storing_too_one_line_says_both(error, line):
    def fail(turn):
        raise OSError(errno.ENOSPC, "No space left on device", "/store")

    def train():
        with Commits(ONE) as commits:
            commits.put([fail], lambda: None)
            raise error

    with pytest.raises(type(error)) as raised:
        train()
    told = str(explained(raised.value, "sqlite:///mlflow.db") or raised.value)
    assert told.startswith(line)
    assert "; and storing failed: /store cannot be written: there is no room left on the disk" in told
    assert "\n" not in told


def results(names, fails=False):
    for name in names:
        yield SimpleNamespace(digest=name, models=[1])
    if fails:
        raise ValueError("diverged")


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 0, 1, 4, 3)])
def test_results_come_in_the_sequence_in_which_they_were_asked_for(order):
    asked = {str(number): None for number in range(5)}
    found = [done.digest for done in in_sequence(results(map(str, order)), asked) if asked.pop(done.digest) is None]
    assert found == ["0", "1", "2", "3", "4"]


def test_however_many_come_before_the_first_none_is_out_of_turn_and_none_is_lost_where_it_fails():
    asked, found = {str(number): None for number in range(200)}, []
    given = results(map(str, range(1, 200)), fails=True)

    def take():
        for done in in_sequence(given, asked):
            asked.pop(done.digest)
            found.append(done.digest)

    with pytest.raises(ValueError, match="diverged"):
        take()
    assert list(asked) == ["0"]
    assert found == [str(number) for number in range(1, 200)]
    asked = {str(number): None for number in range(200)}
    late = in_sequence(results([*asked][::-1]), asked)
    assert [done.digest for done in late if asked.pop(done.digest) is None] == [str(number) for number in range(200)]


@pytest.mark.parametrize("error", [ValueError("diverged"), DivergenceError("diverged")])
def test_where_storing_what_was_done_fails_too_the_error_of_the_training_stays(error):
    """Results that a failed training leaves are handed on, and whoever stores them may fail: one error says both."""
    asked = {str(number): None for number in range(200)}

    def given():
        yield from results(map(str, range(1, 200)))
        raise error

    def fail(turn):
        raise OSError(errno.ENOSPC, "No space left on device", "/store")

    def train():
        with Commits(ONE) as commits, closing(in_sequence(given(), asked)) as taken:
            for done in taken:
                asked.pop(done.digest)
                commits.put([fail], lambda: None)

    with pytest.raises(type(error), match="diverged") as raised:
        train()
    (note,) = raised.value.__notes__
    assert note.startswith("and storing failed: /store cannot be written: there is no room left on the disk")
