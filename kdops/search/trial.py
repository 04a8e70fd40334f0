"""One trial of a search, as plain values read from Optuna's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from kdops.config.search_space import Space, Value
from kdops.sweeps import schema

STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
NAMES = {TrialState.RUNNING: "running", **{state: name for name, state in STATES.items()}}
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Trial:
    """One trial of a search.

    Attributes:
        number: counts from 0; numbers that are missing were never tried.
        values: of every setting of the space, the fixed ones too, but for options of other methods than its own; empty
            where its process died before it chose.
        state: ``running``, ``complete``, ``pruned`` or ``failed``.
        results: one for each objective, of a complete trial; empty of any other.
        again: the number of the failed trial whose values it tries once more; None for new values.
        run: the tracked run that was named for it; empty for none.
    """

    number: int
    values: Mapping[str, Value]
    state: str = "running"
    results: tuple[float, ...] = ()
    again: int | None = None
    run: str = ""


def read_trial(trial: FrozenTrial | optuna.Trial, space: Space) -> Trial:
    """Return a trial without Optuna's types; one that was asked for is running."""
    state = trial.state if isinstance(trial, FrozenTrial) else TrialState.RUNNING
    # Optuna sets a pruned trial's value to its last report, so only a complete one has results.
    return Trial(
        number=trial.number,
        values=space.whole(trial.params),
        state=NAMES[state],
        results=tuple(trial.values) if isinstance(trial, FrozenTrial) and state == TrialState.COMPLETE else (),
        again=trial.user_attrs.get(schema.TRIAL_AGAIN, {}).get("of"),
        run=trial.user_attrs.get(schema.TRIAL_RUN, ""),
    )
