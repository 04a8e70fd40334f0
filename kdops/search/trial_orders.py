"""Trains the trials of a search in the workers of an engine, with the results of the study's own process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

import numpy as np

from kdops.study.shared import Shared
from kdops.study.sweep_training import Passed, ask_sources, in_sequence
from kdops.sweeps.unit import Unit
from kdops.training.history import COMPLETE, Trained
from kdops.training.order import Order
from kdops.training.sweep_orders import Orders
from kdops.training.trials import TrialPlan
from kdops.utils.progress import Reporter

__all__ = ["train_on_workers"]


def train_on_workers(
    shared: Shared,
    units: Sequence[Unit],
    plans: Sequence[TrialPlan],
    rows: np.ndarray,
    progress: Callable[[float], None],
    reporter: Reporter,
) -> Iterator[Trained]:
    """Train trials that are not pruned, those of each pass on one worker; yield them as the study's process would.

    Args:
        shared: the engine and the networks.
        units: the network of each trial.
        plans: what is trained.
        rows: the images that they are trained on.
        progress: called with the share that is done.
        reporter: where is said what an engine notes.

    Yields:
        Each trial, its number being its place.
    """
    asked = dict[str, list[int]]()
    all_orders = Orders(shared.context, shared.networks, shared.engine, shared.checkpoints)
    ask_sources(all_orders, units, {units[0].task.part: rows}, reporter)
    total = sum(plan.recipe.epochs for plan in plans) * len(rows)

    def orders() -> Iterator[Order]:
        for order, places in all_orders.of_trials(units, plans, rows):
            asked[order.digest] = places
            yield order

    report = Passed(lambda done, total: progress(done / total), total, reporter.write)
    with closing(shared.engine.run(orders(), report)) as results, closing(in_sequence(results, asked)) as ordered:
        for done in ordered:
            places = asked.pop(done.digest)
            found = [
                Trained(
                    units[place].record.seed, plans[place].temperature, {}, own.history, own.seconds, place, own.ended
                )
                for place, own in zip(places, done.models, strict=True)
            ]
            # Those that left first come first.
            yield from sorted(found, key=lambda one: (len(one.train_loss), one.ended == COMPLETE, one.number))
