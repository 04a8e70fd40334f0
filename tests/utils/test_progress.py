"""Progress: bars on a terminal, few plain lines elsewhere, and never a word on standard output."""

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from kdops.utils import progress
from kdops.utils.progress import LINE_SECONDS, Reporter


@pytest.fixture
def clock(monkeypatch):
    """Return the seconds that the reporter sees, so that no test has to wait for them."""
    seen = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: seen.now))
    return seen


def plain():
    stream = io.StringIO()
    return Reporter(Console(file=stream, soft_wrap=True, highlight=False, width=40)), stream


def test_plain_lines_come_at_most_every_few_seconds_with_the_time_left(clock):
    reporter, stream = plain()
    told = []
    with reporter.bar("train 20 x student") as bar:
        for done in range(1, 1001):
            clock.now += 0.1
            bar(done, 1000)
            told += [(done, line) for line in stream.getvalue().splitlines()[len(told) :]]
    times = [0.1 * done for done, _ in told]
    assert len(told) == int(100 / LINE_SECONDS)
    assert all(later - sooner >= LINE_SECONDS - 1e-6 for sooner, later in zip([0.0, *times], times, strict=False))
    for done, line in told:
        share, left = map(int, re.fullmatch(r"train 20 x student: (\d+) %, about (\d+) s left", line).groups())
        assert share == pytest.approx(done / 10, abs=0.51)
        assert left == pytest.approx(100 - done / 10, abs=0.51), "the pace so far, carried on"


def test_what_is_quick_says_nothing():
    reporter, stream = plain()
    with reporter.bar("log") as bar:
        for done in range(5000):
            bar(done, 5000)
    assert stream.getvalue() == ""


@pytest.mark.parametrize(("done", "total"), [(0, 0), (0, 10), (10, 10)])
def test_the_edges_of_a_count_do_no_harm(clock, done, total):
    reporter, stream = plain()
    with reporter.bar("load") as bar:
        clock.now += 2 * LINE_SECONDS
        bar(done, total)
    assert stream.getvalue().count("\n") == (1 if total else 0)
    assert "nan" not in stream.getvalue()


def test_said_lines_are_neither_broken_nor_read_as_markup():
    reporter, stream = plain()
    line = "3 [student] models on the transfer images, " * 4
    reporter.write(line)
    assert stream.getvalue() == line + "\n"


def test_a_terminal_gets_a_bar_that_goes_away(capsys):
    stream = io.StringIO()
    reporter = Reporter(Console(file=stream, force_terminal=True, width=80))
    with reporter.bar("train 3 x teacher") as bar:
        bar(1, 4)
        bar(3, 4)
    text = stream.getvalue()
    assert "train 3 x teacher" in text
    assert "75%" in text
    assert text.endswith("\x1b[2K"), "the last thing done is to clear the line"
    assert capsys.readouterr() == ("", "")


def test_a_notebook_which_asks_for_colors_gets_lines_and_no_bars(clock, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Reporter().bar("train") as bar:
        clock.now += LINE_SECONDS
        bar(1, 2)
    assert capsys.readouterr().err == "train: 50 %, about 15 s left\n"


def test_standard_output_carries_results_alone(clock, capsys):
    reporter = Reporter()
    reporter.write("hello")
    with reporter.bar("train") as bar:
        clock.now += LINE_SECONDS
        bar(1, 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "hello\ntrain: 50 %, about 15 s left\n"
