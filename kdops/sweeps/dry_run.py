"""The plan that a dry run prints: which models, about how long, how much disk."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from kdops.config.recipes import Recipe
from kdops.models.size import network_size
from kdops.utils.hardware import matrix_speed
from kdops.utils.text import duration

__all__ = ["Plan", "PlannedSweep"]

EFFICIENCY = {"mlp": 0.5, "cnn": 0.6}
"""Share of the measured matrix speed that training reaches; convolutions count forward operations alike."""
STEP_SECONDS = {"mlp": 2.5e-3, "cnn": 4e-3}
"""What a step costs beside its arithmetic; it decides where the networks are tiny."""
TRACKING_SECONDS = 0.15
"""What logging and registering one model costs on a local store."""
MODEL_BYTES = 60_000
"""What a stored model takes beside its weights, which are stored twice."""


@dataclass(frozen=True)
class PlannedSweep:
    """One sweep of the plan, or the trials of a search, whose models are not stored."""

    role: str
    recipe: Recipe
    images: int
    models: int
    missing: int
    stored: bool = True


class Plan:
    """Adds up the sweeps of a study.

    Args:
        shape: (channels, height, width) of an image.
        classes: number of classes.
        device: where it would train.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, device: str):
        self.shape, self.classes, self.device = shape, classes, device
        self.steps: list[PlannedSweep] = []
        self._seen: set[str] = set()

    def add(self, role: str, recipe: Recipe, images: int, models: Collection[str], missing: Collection[str]) -> None:
        """Add a sweep; models that an earlier sweep of the plan has are not counted again.

        Args:
            role: what is trained.
            recipe: how.
            images: on how many images.
            models: the fingerprints of the sweep's models.
            missing: those that are to be trained.
        """
        new = set(models) - self._seen
        self._seen |= new
        if new:
            self.steps.append(PlannedSweep(role, recipe, images, len(new), len(new & set(missing))))

    def add_trials(self, role: str, recipe: Recipe, images: int, trials: int) -> None:
        """Add the trials of a search.

        Args:
            role: what is searched for.
            recipe: of a trial in the middle of the space.
            images: on how many images.
            trials: how many.
        """
        self.steps.append(PlannedSweep(f"trial of a {role}, such as", recipe, images, trials, trials, stored=False))

    def lines(self) -> list[str]:
        """Return it in lines, the last one with the sums."""
        speed = matrix_speed(self.device)
        lines, seconds, disk = [], 0.0, 0
        for step in self.steps:
            architecture = step.recipe.architecture
            lines.append(
                f"{step.models} x {step.role} {architecture} on {step.images} images, "
                f"{step.missing} to train, {step.models - step.missing} already there"
            )
            seconds += self._seconds(step, speed)
            disk += (
                step.stored
                * step.missing
                * (8 * network_size(architecture, self.shape, self.classes).parameters + MODEL_BYTES)
            )
        kept = [step for step in self.steps if step.stored]
        models, missing = (sum(getattr(step, name) for step in kept) for name in ("models", "missing"))
        lines.append(
            f"{models} models, {missing} to train: about {duration(seconds)} on this machine, "
            f"{disk / 1e6:.0f} MB of disk"
        )
        return lines

    def _seconds(self, step: PlannedSweep, speed: float) -> float:
        recipe = step.recipe
        # Networks of others are taken for convolutional ones.
        family = "mlp" if recipe.architecture.is_dense else "cnn"
        # Backwards costs twice the forward pass, once in a first layer, whose input needs no gradient.
        known = network_size(recipe.architecture, self.shape, self.classes)
        # What cannot be counted has at least the two operations of each parameter.
        work = (2.2 if family == "mlp" else 3.0) * (known.flops or 2 * known.parameters)
        arithmetic = work * step.images * recipe.epochs * step.missing / (speed * EFFICIENCY[family])
        steps = recipe.epochs * -(-step.images // recipe.batch_size)
        passes = step.missing if family == "cnn" else min(step.missing, 1)
        return arithmetic + passes * steps * STEP_SECONDS[family] + step.missing * TRACKING_SECONDS
