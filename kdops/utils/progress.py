"""How far a study is, shown to a person: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kdops.utils.text import duration

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[..., None]
"""Called with the progress: (done, total) or, of :meth:`Reporter.bar`, also (done, total, note)."""

LINE_SECONDS = 15.0
"""Plain lines come at most this often, so that a log stays readable."""

LEAST = 0.01
"""The share that must be done before the remaining time is reported."""


class Reporter:
    """Writes progress to standard error, so that standard output carries results alone."""

    def __init__(self, console: Console | None = None):
        from rich.console import Console  # not above: the type of progress is needed where nothing is shown

        # Rich takes FORCE_COLOR, which notebooks set, for a terminal, and bars would be thousands of lines there.
        force = None if sys.stderr.isatty() else False
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True, force_terminal=force)

    def write(self, line: str) -> None:
        """Write one line."""
        self.console.print(line, markup=False)

    @contextmanager
    def bar(self, label: str) -> Iterator[Progress]:
        """Show a bar; it yields a function to be called with (done, total), or (done, total, note)."""
        if self.console.is_terminal:
            from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
            )
            with Bar(*columns, console=self.console, transient=True) as progress:
                task = progress.add_task(label, total=None)
                yield lambda done, total, note="": progress.update(
                    task, completed=done, total=total, description=_noted(label, note)
                )
        else:
            yield _Lines(self.write, label)


class _Lines:
    """Progress as plain lines with the time left, not more often than every few seconds."""

    def __init__(self, write: Callable[[str], None], label: str):
        self.write, self.label = write, label
        self.started = self.reported = time.monotonic()

    def __call__(self, done: float, total: float, note: str = "") -> None:
        now = time.monotonic()
        if now - self.reported < LINE_SECONDS or not total:
            return
        self.reported = now
        text = f"{_noted(self.label, note)}: {100 * done / total:.0f} %"
        # Too little is done to estimate the remaining time.
        left = (now - self.started) * (total - done) / done if done >= LEAST * total else None
        self.write(text if left is None else f"{text}, about {duration(left)} left")


def _noted(label: str, note: str) -> str:
    return f"{label}, {note}" if note else label
