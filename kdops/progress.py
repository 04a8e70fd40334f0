"""Tells a person how far a study is: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

__all__ = ["Reporter", "duration"]

LINE_SECONDS = 15.0
"""Plain lines come at most this often, so that a log stays readable."""


class Reporter:
    """Writes progress to standard error, so that standard output carries results alone."""

    def __init__(self, console: Console | None = None):
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, line: str) -> None:
        """Write one line."""
        self.console.print(line, markup=False)

    @contextmanager
    def bar(self, label: str) -> Iterator[Callable[[int, int], None]]:
        """Show a bar; what it gives is called with (done, total)."""
        if self.console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
            )
            with Progress(*columns, console=self.console, transient=True) as progress:
                task = progress.add_task(label, total=None)
                yield lambda done, total: progress.update(task, completed=done, total=total)
        else:
            yield _Lines(self.say, label)


class _Lines:
    """Progress as plain lines with the time left, not more often than every few seconds."""

    def __init__(self, say: Callable[[str], None], label: str):
        self.say, self.label = say, label
        self.started = self.told = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.told < LINE_SECONDS or not total:
            return
        self.told = now
        left = (now - self.started) * (total - done) / max(done, 1)
        self.say(f"{self.label}: {100 * done / total:.0f} %, about {duration(left)} left")


def duration(seconds: float) -> str:
    """Say how long something takes, as a person would."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
