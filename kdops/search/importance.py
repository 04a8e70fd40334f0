"""What mattered in a search: how much each setting sets the best trials apart from the others."""

from __future__ import annotations

from optuna.importance import BaseImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances

from kdops.search.queue import TrialQueue
from kdops.search.storage import quiet

FEWEST_TRIALS = 10


def importance_of(queue: TrialQueue) -> dict[str, float]:
    """Return how much each free setting matters for the main objective, the most first; the parts add up to 1.

    Estimated by PED-ANOVA (Watanabe, Bansal and Hutter, 2023). Empty with fewer than ten complete trials, where
    nothing is free, or where all did equally well.
    """
    results = [trial.results[0] for trial in queue.ranked()]
    if len(results) < FEWEST_TRIALS or len(set(results)) < 2 or not queue.space.free:
        return {}
    with quiet():
        found = get_param_importances(queue.study, evaluator=evaluator_of(queue), target=queue.badness)
    return dict(found)


def evaluator_of(queue: TrialQueue) -> BaseImportanceEvaluator:
    """Return Optuna's estimate: the best are a tenth of the complete trials but at least five."""
    return PedAnovaImportanceEvaluator(target_quantile=max(0.1, 5 / len(queue.ranked())))
