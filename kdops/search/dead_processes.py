"""Which running trials of a search belong to processes that are gone: Optuna's journals have no heartbeats."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from optuna.trial import FrozenTrial, TrialState

from kdops.sweeps import schema
from kdops.utils.process import ProcessId

NAMELESS_SECONDS = 300.0
"""A trial names its process within a moment. One that has no name after this long was asked by a process that was
killed before it could."""


def of_dead_processes(trials: Sequence[FrozenTrial]) -> set[int]:
    """Return the numbers of the running trials whose processes are surely gone.

    Liveness of processes on other hosts is unknown, so their trials count as running.
    """
    running = [(t, t.user_attrs.get(schema.PROCESS, "")) for t in trials if t.state == TrialState.RUNNING]
    own = ProcessId.own()
    dead = {name for name in {name for _, name in running} if name != str(own) and own.is_dead(name)}
    latest = datetime.now() - timedelta(seconds=NAMELESS_SECONDS)
    return {t.number for t, name in running if name in dead or (not name and (t.datetime_start or latest) < latest)}
