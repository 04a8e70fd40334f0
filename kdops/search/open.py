"""Opens the search of a study. Of a dry run its trials are counted, and one in the middle of the space is the best."""

from __future__ import annotations

from kdops.config.search import SearchSettings
from kdops.search.search import Search, plain_sweep, retrained
from kdops.search.trials import settings_of
from kdops.study.dry_run import PlanningExecutor
from kdops.study.study import Study
from kdops.study.training import TrainingExecutor
from kdops.sweeps.model import Model, Sweep

__all__ = ["open_search"]


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
    settings, middle = study.settings, study.settings.space.middle()
    recipe = settings_of(settings, middle).recipes[settings.role]
    images = len(study.transfer_images(sources.hops).rows)
    executor.plan.add_trials(settings.role, recipe, images, settings.trials)
    plain_sweep(study, sources, lambda sweep: _best(study, sweep))
    retrained(study, sources, middle)


def _best(study: Study[SearchSettings], sweep: Sweep) -> Model:
    (model,) = study.best(sweep).records
    return model
