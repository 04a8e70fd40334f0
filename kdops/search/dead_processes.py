"""Which running trials of a search belong to processes that are gone: Optuna's journals have no heartbeats."""

from __future__ import annotations

import time
from collections.abc import MutableMapping, Sequence
from datetime import datetime, timedelta

from optuna.trial import FrozenTrial, TrialState

from kdops.sweeps import schema
from kdops.utils.process import ProcessId

NAMELESS_SECONDS = 300.0
"""A trial names its process within a moment. One that has no name after this long was asked by a process that was
killed before it could."""

ZONES = timedelta(hours=26)
"""By so much the clocks of two hosts may differ, which Optuna notes as each shows them, without a time zone."""


def of_dead_processes(trials: Sequence[FrozenTrial], seen: MutableMapping[int, float]) -> set[int]:
    """Return the numbers of the running trials whose processes are surely gone.

    Liveness of processes on other hosts is unknown, so their trials count as running.

    Args:
        trials: all of a search.
        seen: when this process saw trials without a name first, by the monotonic clock; new ones are added.
    """
    running = [(t, t.user_attrs.get(schema.PROCESS, "")) for t in trials if t.state == TrialState.RUNNING]
    own = ProcessId.own()
    dead = {name for name in {name for _, name in running} if name != str(own) and own.is_dead(name)}
    now, latest = time.monotonic(), datetime.now() - ZONES

    def is_silent(trial: FrozenTrial) -> bool:
        since = seen.setdefault(trial.number, now)
        return now - since > NAMELESS_SECONDS or (trial.datetime_start or latest) < latest

    return {t.number for t, name in running if name in dead or (not name and is_silent(t))}
