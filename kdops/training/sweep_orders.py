"""From the units of a sweep to orders: which are trained in one pass, and which arrays an engine is given for them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kdops.config.architectures import parse_architecture
from kdops.config.augmentation import NONE
from kdops.config.recipes import Recipe
from kdops.config.roles import streams_of
from kdops.data.image_selection import noisy_labels
from kdops.distillation.method import LabelsOnly, Method, build_method
from kdops.distillation.sources import KEPT_BYTES, Asked, Mixture
from kdops.models.head import head_of
from kdops.models.taps import EMBEDDING
from kdops.sweeps.fingerprint import fingerprint
from kdops.sweeps.model import Model
from kdops.sweeps.unit import Context, Unit, digest_of_pass
from kdops.training.checkpoint import Checkpoints
from kdops.training.engine import Engine
from kdops.training.groups import UNLABELED
from kdops.training.order import Order, OrderGroup, OrderTrial, SourceArrays, pack
from kdops.training.stored_networks import Networks, digest_of_rows, logits_only
from kdops.training.trainer import cut_passes, nets_a_pass
from kdops.training.trials import TrialPlan, trial_passes
from kdops.utils.hardware import numeric_mode, process_threads

TEST_IMAGES = "test images"


@dataclass(frozen=True)
class _Members:
    """Units that share a batch order, a source, and what hard labels are."""

    units: tuple[Unit, ...]
    source: SourceArrays

    @property
    def seed(self) -> int:
        return self.units[0].record.seed

    @property
    def temperatures(self) -> tuple[float, ...]:
        return tuple(unit.record.temperature for unit in self.units)

    def apart(self) -> list[_Members]:
        return [replace(self, units=(unit,)) for unit in self.units]

    def group(self) -> OrderGroup:
        first = self.units[0]
        return OrderGroup(
            self.seed, self.temperatures, self.source, first.task.order == "own", first.learns_predictions
        )


class Orders:
    """The orders of one study's sweeps.

    Args:
        networks: the sources.
        engine: is given the arrays.
        checkpoints: where long trainings are kept.
    """

    def __init__(self, context: Context, networks: Networks, engine: Engine, checkpoints: Checkpoints):
        self.context, self.networks, self.engine, self.checkpoints = context, networks, engine, checkpoints

    def of(self, units: Sequence[Unit], rows: np.ndarray) -> Iterator[tuple[Order, tuple[Unit, ...]]]:
        """Return the orders that train the units of a task, each with its units in the sequence of its result.

        Args:
            rows: the images that they are trained on.

        Raises:
            UsageError: a source has no features, and the method needs some.
        """
        context, task = self.context, units[0].task
        data, recipe = context.data, context.settings.recipes[task.role]
        members = [one for own in _alike(units) for one in self._with_sources(own, rows)]
        recipes = {
            text: recipe.replace(architecture=parse_architecture(text))
            for text in {unit.record.architecture for unit in units}
        }
        together = context.trains_together(task)
        most = min(nets_a_pass(own, data.shape, len(data.classes), context.device) for own in recipes.values())
        # Those that could share a pass are shared out among the workers first.
        most = min(most, -(-len(units) // self.engine.workers))
        common = replace(
            self._common(task.role, task.method.full_text, rows),
            checkpoints=str(self.checkpoints.folder),
            resume=self.checkpoints.resume,
            nets=tuple(map(str, task.nets)),
            bootstrap=context.settings.selection.bootstrap,
            keep_epochs=task.keep_epochs,
        )
        for part in cut_passes(members, together, most):
            own = tuple(unit for one in part for unit in one.units)
            # What is deployed is one network for all of a pass: hard labels have passes of their own.
            recipe, groups = recipes[own[0].record.architecture], tuple(one.group() for one in part)
            yield replace(common, digest=digest_of_pass(own), recipe=recipe, groups=groups), own

    def of_sources(self, units: Sequence[Unit], parts: Mapping[str, np.ndarray]) -> Iterator[tuple[Order, Model]]:
        """Return the orders that compute what the sources of units say of the images, each with its source.

        Args:
            units: of one task.
            parts: the images by name; those that a source was asked about before are left out.
        """
        task, networks = units[0].task, self.networks
        common = replace(self._common(task.role, task.method.full_text, self.context.split.test), asks=True)
        for source in {unit.source.weights: unit.source for unit in units if unit.source is not None}.values():
            own = {
                part: self._put(digest_of_rows(rows), rows)
                for part, rows in parts.items()
                if networks.is_unasked(source, part)
            }
            if own:
                given = SourceArrays(architecture=source.architecture, weights=self._put_weights(source))
                groups = (OrderGroup(source.seed, (0.0,), given),)
                digest = fingerprint(source=source.weights, asks=own)
                yield replace(common, digest=digest, rows=own, groups=groups), source

    def of_trials(
        self, units: Sequence[Unit], plans: Sequence[TrialPlan], rows: np.ndarray
    ) -> Iterator[tuple[Order, list[int]]]:
        """Return the orders that train the trials of a search, each with the places of its trials.

        Args:
            units: the network of each trial.
            plans: what is trained.
            rows: the images that they are trained on.
        """
        first = units[0]
        assert first.source is not None
        common, source, part = (
            self._common(first.task.role, first.task.method.full_text, rows),
            first.source,
            first.task.part,
        )
        kept = self.networks.kept_at(source, rows, part, [plan.temperature for plan in plans])
        sources = [
            replace(own, features={}) if plan.method.needs.source else own
            for own, plan in zip(kept, plans, strict=True)
        ]
        for places in trial_passes(plans, sources):
            groups = tuple(
                OrderGroup(
                    units[place].record.seed,
                    (plans[place].temperature,),
                    self._source_of_trial(source, rows, part, plans[place]),
                )
                for place in places
            )
            trials = tuple(OrderTrial(plans[place].recipe, units[place].task.method.full_text) for place in places)
            digest = fingerprint(trials=[units[place].training for place in places], places=places)
            yield replace(common, digest=digest, groups=groups, trials=trials), places

    def _source_of_trial(self, source: Model, rows: np.ndarray, part: str, plan: TrialPlan) -> SourceArrays:
        """Put what a trial learns from; what a dense student compares are vectors, which are few enough to be kept."""
        if plan.recipe.augment != NONE:
            return self._with_views(
                SourceArrays(), source, rows, plan.recipe, self.context.settings.seed, plan.temperature
            )
        if isinstance(self.networks.of(source), Mixture):
            return SourceArrays(self._put_averaged(source, rows, part, plan.temperature))
        taps = plan.method.needs.source
        return SourceArrays(
            self._put_outputs(source, rows, part),
            features={tap: self._put_features(source, rows, part, tap, plan.method) for tap in taps},
        )

    def _common(self, role: str, method: str, rows: np.ndarray) -> Order:
        """Return what the orders of a task have in common."""
        context, data, unlabeled = self.context, self.context.data, self.context.data.unlabeled
        parts = {"train": rows, "validation": context.split.validation, "test": context.split.test}
        return Order(
            digest="",
            role=streams_of(role),
            recipe=context.settings.recipes[role],
            method=method,
            groups=(),
            images=self._put(fingerprint(images=data.digest), data.images),
            labels=self._put_labels(),
            unlabeled=self._put(fingerprint(images=unlabeled.digest), unlabeled.images) if unlabeled else "",
            rows={name: self._put(digest_of_rows(own), own) for name, own in parts.items()},
            shape=data.shape,
            classes=len(data.classes),
            mean=tuple(self.networks.statistics[0].tolist()),
            std=tuple(self.networks.statistics[1].tolist()),
            device=context.device,
            threads=process_threads(),
            arithmetic=numeric_mode(context.device),
        )

    def _put_labels(self) -> str:
        """Put the labels; noise leaves those alone that models are measured by."""
        data, split, share = self.context.data, self.context.split, self.context.settings.selection.label_noise
        labels, named = data.labels, {"labels": data.digest}
        if share:
            labels = noisy_labels(data, share, split.seed, np.concatenate([split.validation, split.test]))
            named |= {"noise": str(share), "split": split.digest}
        if data.unlabeled:
            labels = np.append(labels, np.full(len(data.unlabeled.images), UNLABELED))
        return self._put(fingerprint(**named), labels)

    def _with_sources(self, units: tuple[Unit, ...], rows: np.ndarray) -> list[_Members]:
        """Return units of a replicate with the outputs of their source."""
        task, predicted = units[0].task, units[0].learns_predictions
        # All that learn from a source learn from the same one; what learns from labels has none.
        source = next((unit.source for unit in units if unit.source is not None), None)
        if source is None:
            return [_Members(units, SourceArrays())]
        method = LabelsOnly() if predicted else build_method(task.method)
        given, test = SourceArrays(), self.context.split.test
        if self.networks.knows(source, test):
            given = replace(given, test_logits=self._put_outputs(source, test, TEST_IMAGES))
        if method.needs.head:
            given = replace(given, head=self._put_head(source))
        if self.context.settings.recipes[task.role].augment != NONE:
            return self._seeing_views(given, units, source, rows)
        if not isinstance(self.networks.of(source), Mixture):
            return [_Members(units, self._with_outputs(given, source, rows, task.part, method))]
        if method.needs.source:
            raise logits_only(source)
        # The joint outputs of several sources differ at each temperature.
        return [
            _Members(
                (unit,), replace(given, logits=self._put_averaged(source, rows, task.part, unit.record.temperature))
            )
            for unit in units
        ]

    def _with_outputs(
        self, given: SourceArrays, source: Model, rows: np.ndarray, part: str, method: Method
    ) -> SourceArrays:
        """Add a source's outputs for the training images; features are kept or live by their size."""
        networks, taps = self.networks, method.needs.source
        given = replace(given, logits=self._put_outputs(source, rows, part))
        shapes = networks.feature_shapes(source, method) if taps else {}
        if 4 * len(rows) * sum(math.prod(own) for tap, own in shapes.items() if tap != EMBEDDING) <= KEPT_BYTES:
            return replace(given, features={tap: self._put_features(source, rows, part, tap, method) for tap in taps})
        weights = self._put_weights(source)
        return replace(given, live=tuple(taps), architecture=source.architecture, weights=weights)

    def _seeing_views(
        self, given: SourceArrays, units: tuple[Unit, ...], source: Model, rows: np.ndarray
    ) -> list[_Members]:
        """Return units that see views with the outputs of their source for these, or with the source itself.

        Raises:
            UsageError: the method compares features, or the source's outputs were stored for the images themselves.
        """
        first, recipe = units[0], self.context.settings.recipes[units[0].task.role]
        if not first.learns_predictions:
            first.task.method.check_recipe(recipe, first.task.role)
        if first.learns_predictions:
            given = replace(given, logits=self._put_outputs(source, rows, first.task.part))
        # The joint outputs of several sources differ at each temperature.
        each = [(unit,) for unit in units] if isinstance(self.networks.of(source), Mixture) else [units]
        return [
            _Members(own, self._with_views(given, source, rows, recipe, first.replicate, own[0].record.temperature))
            for own in each
        ]

    def _with_views(
        self,
        given: SourceArrays,
        source: Model,
        rows: np.ndarray,
        recipe: Recipe,
        seed: int,
        temperature: float,
    ) -> SourceArrays:
        """Add a source's outputs for the views that a recipe makes of the training images, or the source itself."""
        seen = self.networks.seen(source, rows, recipe, seed, temperature)
        if isinstance(seen, Asked):
            return replace(given, architecture=source.architecture, weights=self._put_weights(source))
        joint = temperature if isinstance(self.networks.of(source), Mixture) else 1.0
        what = {"source": source.weights, "rows": digest_of_rows(rows), "key": seen.key, "temperature": joint}
        digest = self._put(fingerprint(**what, views=recipe.views), seen.logits.numpy())
        return replace(given, view_logits=digest, views=seen.key)

    def _put_weights(self, source: Model) -> str:
        """Put the weights of a source."""
        content = np.frombuffer(pack(self.networks.weights_of(source)), dtype=np.uint8)
        return self._put(fingerprint(weights=source.weights), content)

    def _put_outputs(self, source: Model, rows: np.ndarray, part: str) -> str:
        """Put a source's logits for some images."""
        values = self.networks.logits_of(source, rows, part)
        return self._put(fingerprint(source=source.weights, rows=digest_of_rows(rows)), values.numpy())

    def _put_features(self, source: Model, rows: np.ndarray, part: str, tap: str, method: Method) -> str:
        """Put what a method keeps of a source's features at a tap for some images."""
        values = self.networks.features_of(source, rows, part, tap, method)
        named = fingerprint(source=source.weights, rows=digest_of_rows(rows), tap=tap, reduction=method.reduction)
        return self._put(named, values.numpy())

    def _put_head(self, source: Model) -> str:
        """Put the values of a source's last layer."""
        values = pack(head_of(self.networks.of(source)).state_dict())
        return self._put(fingerprint(source=source.weights, part="head"), np.frombuffer(values, dtype=np.uint8))

    def _put_averaged(self, source: Model, rows: np.ndarray, part: str, temperature: float) -> str:
        """Put the joint outputs of several sources for some images at a temperature."""
        values = self.networks.averaged_logits(source, rows, part, temperature)
        named = fingerprint(source=source.weights, rows=digest_of_rows(rows), temperature=temperature)
        return self._put(named, values.numpy())

    def _put(self, digest: str, array: np.ndarray) -> str:
        self.engine.put(digest, array)
        return digest


def _alike(units: Sequence[Unit]) -> Iterator[tuple[Unit, ...]]:
    """Return the units of each replicate; those that learn predictions have other labels, and come by themselves."""
    together: dict[tuple[int, bool], list[Unit]] = {}
    for unit in units:
        # The nets of a company have a seed each, and all see one batch.
        seed = unit.replicate if unit.task.nets else unit.record.seed
        together.setdefault((seed, unit.learns_predictions), []).append(unit)
    return map(tuple, together.values())
