"""What a study and its parts train with: made once, and what takes seconds to import only where it is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from kdops.study.failure import CurrentSweep
from kdops.study.packagers import Packagers
from kdops.sweeps.model import Model
from kdops.sweeps.unit import Context
from kdops.tracking.tracker import Tracker
from kdops.training.checkpoint import Checkpoints

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from kdops.training.engine import Engine
    from kdops.training.stored_networks import Networks


def describe_engine(engine: str, workers: int) -> str:
    """Return what a run records of an engine; its workers are 0 where they are not known yet."""
    return f"{engine}, workers={workers}" if workers else engine


@dataclass
class Shared:
    """What a study and its parts train with.

    Attributes:
        context: the study's settings, data, split and device.
        tracker: its runs.
        checkpoints: where long trainings are kept.
        packagers: write models.
        current: the sweep that is trained now.
        alone: the architectures that were reported as trained one by one.
    """

    context: Context
    tracker: Tracker
    checkpoints: Checkpoints
    packagers: Packagers
    current: CurrentSweep = field(default_factory=CurrentSweep)
    alone: set[str] = field(default_factory=set)

    @cached_property
    def networks(self) -> Networks:
        """The networks that models are distilled from, or vote with; loaded as they are asked for."""
        from kdops.training.stored_networks import Networks

        context = self.context
        named = [recipe.architecture for _, recipe in context.settings.external_networks()]
        return Networks(context.data, context.split, context.device, self._load_weights, self._load_program, named)

    @cached_property
    def engine(self) -> Engine:
        """Where models are trained and measured; made once it is asked for."""
        from kdops.training.engine import build_engine

        settings = self.context.settings
        made = build_engine(settings.engine, settings.workers, self.context.device)
        self.tracker.record_engine(describe_engine(settings.engine, made.workers))
        return made

    def close(self) -> None:
        """End the engine's workers, if there are any."""
        if "engine" in vars(self):
            self.engine.close()

    def _load_weights(self, model: Model) -> dict[str, Tensor]:
        from kdops.packaging.loading import load_weights

        return load_weights(model.uri, model.weights)

    def _load_program(self, model: Model) -> Module:
        from kdops.packaging.external import load_classifier

        return load_classifier(model.uri, self.context.data, "source")
