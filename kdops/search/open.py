"""Opens the search of a study. Of a dry run its trials are counted, and the best is any of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from kdops.config.search import SearchSettings
from kdops.config.search_space import Value
from kdops.search.queue import TrialQueue
from kdops.search.search import Search, name_of, plain_sweep, retrained, storage_of
from kdops.search.trials import settings_of
from kdops.study.dry_run import PlanningExecutor
from kdops.study.study import Study
from kdops.study.training import TrainingExecutor
from kdops.sweeps.model import Sweep

MOST_POINTS = 500
"""How many points of a space are told apart in a plan."""


def open_search(study: Study[SearchSettings], sources: Sweep) -> Search:
    """Open the search of a study; a dry run ends here, with all that a search trains in its plan.

    Args:
        study: the study.
        sources: the one model to distill from.
    """
    executor = study.executor
    if isinstance(executor, TrainingExecutor):
        return Search(study, executor, sources)
    if isinstance(executor, PlanningExecutor):
        _plan(study, executor, sources)
        executor.stop_if_planned()
    raise TypeError(f"{type(executor).__name__} carries out no search")


def _plan(study: Study[SearchSettings], executor: PlanningExecutor, sources: Sweep) -> None:
    """Add to a plan what a search trains: its trials, the plain sweep, and the best of both with fresh seeds."""
    settings, space = study.settings, study.settings.space
    queue = TrialQueue.as_it_is(storage_of(settings), name_of(study, sources.records[0]), settings)
    wanted = queue.wanted(settings.trials)
    if wanted:
        recipe = settings_of(settings, space.middle()).recipes[settings.role]
        executor.plan.add_trials(settings.role, recipe, len(study.transfer_images(sources.hops).rows), wanted)
    plain_sweep(study, sources)
    is_single = len(settings.objectives) == 1
    known = [trial.values for trial in (queue.ranked()[:1] if is_single else queue.front())]
    new = space.points(wanted if space.is_endless else MOST_POINTS) if wanted else []
    # The best may be any new trial, or the best so far; of several objectives up to all of them.
    found = [[values] for values in new] + ([known] if known else [])
    if new and not is_single:
        found.append([*known, *new[:wanted]])
    if space.is_endless and is_single:
        # New trials of such a space are like no other model, and so like each other.
        found = found[:1] + found[len(new) :]
    executor.any_of([partial(_retrain, study, sources, one) for one in found])


def _retrain(study: Study[SearchSettings], sources: Sweep, trials: Sequence[Mapping[str, Value]]) -> None:
    for values in trials:
        retrained(study, sources, values)
