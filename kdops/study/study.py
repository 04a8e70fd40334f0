"""A study: the verbs that a pipeline is written in.

``train`` and ``distill`` return sweeps of tracked models. What is already there is reused; what is not is trained. How
that is done, or only planned, is the matter of an :class:`~kdops.study.executor.Executor`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from kdops.config.architectures import Architecture
from kdops.config.companies import ChosenCompany
from kdops.config.method_specs import ChosenMethod
from kdops.config.methods import LOGITS
from kdops.config.recipes import Recipe
from kdops.config.settings import HARD, Settings
from kdops.config.studies import PaperSettings
from kdops.data.dataset import Dataset
from kdops.data.image_selection import select
from kdops.data.splits import Split
from kdops.papers import DEFAULT, PAPERS
from kdops.study.baseline import with_baseline
from kdops.study.conclusion import Conclusion
from kdops.study.executor import Executor, ResultT
from kdops.sweeps.model import COPY_SEEDS, Model, Sweep
from kdops.sweeps.ranking import chosen_on
from kdops.sweeps.unit import Context, Task
from kdops.tracking.datasets import Trainset
from kdops.tracking.model_run import Outcome
from kdops.verdicts.answer import Answer

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor
    from torch.nn import Module

SettingsT = TypeVar("SettingsT", bound=Settings, covariant=True)
Others = TypeVar("Others", bound=Settings)
TriedT = TypeVar("TriedT")


class Study(Generic[SettingsT]):
    """One execution of an entry point, or a part of one. Open it with :func:`kdops.study.open.open_study`.

    Args:
        settings: its settings.
        context: its data, split and device.
        executor: carries out what the verbs ask for.
    """

    def __init__(self, settings: SettingsT, context: Context, executor: Executor):
        self.settings, self.executor = settings, executor
        self.context = replace(context, settings=settings)

    @property
    def data(self) -> Dataset:
        """The data."""
        return self.context.data

    @property
    def split(self) -> Split:
        """Which images each model may see."""
        return self.context.split

    def with_settings(self, settings: Others) -> Study[Others]:
        """Return the same study with other settings for what it trains next; its runs and models are this one's.

        Args:
            settings: the settings; data and split stay those of this study.
        """
        return Study(settings, self.context, self.executor)

    def with_recipes(self, **recipes: Recipe) -> Study[SettingsT]:
        """Return the same study with other recipes of some roles, or of random streams of their own."""
        return self.with_settings(replace(self.settings, recipes={**self.settings.recipes, **recipes}))

    def with_selection(self, **changes: Any) -> Study[SettingsT]:
        """Return the same study with another choice of images, see :class:`kdops.config.image_selection.Selection`."""
        return self.with_settings(replace(self.settings, selection=replace(self.settings.selection, **changes)))

    def with_method(self, *, method: ChosenMethod) -> Study[SettingsT]:
        """Return the same study with another method."""
        return self.with_settings(replace(self.settings, method=method))

    @contextmanager
    def part(self, entry_point: str) -> Iterator[Study[SettingsT]]:
        """Open a study within this one: a run below this one's, with the same settings, data and models."""
        with self.executor.part(entry_point, title_of(entry_point, self.settings)) as executor:
            yield Study(self.settings, self.context, executor)

    def train(
        self,
        role: str,
        stream: str = "",
        *,
        images: Trainset | None = None,
        seeds: Sequence[int] = (),
        copies: Sequence[int] = (0,),
    ) -> Sweep:
        """Train a role on hard labels, once for each replicate.

        Args:
            role: what is trained.
            stream: its random streams, where they are not the role's; see :meth:`distill`.
            images: what it is trained on, where not on the teacher's images.
            seeds: the replicates, where not all.
            copies: which copies of a replicate's model are trained, see ``COPY_SEEDS``; 0 is the model itself.
        """
        replicates = seeds or self.settings.replicates()
        none: dict[int, Model | None] = {seed + COPY_SEEDS * copy: None for seed in replicates for copy in copies}
        trainset = images or Trainset(self.split.teacher, "teacher images")
        task = _task(role, stream, trainset, self.settings.order)
        return self._sweep(task, none, (HARD,), trainset, 0)

    def distill(
        self,
        sources: Sweep,
        role: str,
        temperatures: Sequence[float],
        *,
        predictions: bool = False,
        order: str = "",
        copies: int = 0,
        images: Trainset | None = None,
        seeds: Sequence[int] = (),
        stream: str = "",
    ) -> Sweep:
        """Distill each replicate's source into a role at every temperature.

        Where the data have images without labels, those at T > 0 learn from these too, and hard labels from the
        labeled images alone.

        Args:
            sources: one model for each replicate.
            role: what is trained.
            temperatures: the temperatures; 0 trains on hard labels, on the same images and schedule.
            predictions: at T = 0 the hard labels are the source's predictions, not the images' own.
            order: the batch order of a replicate's members, where it is not the one of the settings.
            copies: number of models of each temperature, which differ in their seed only; see ``COPY_SEEDS``.
            images: what it is trained on, where not on the images of the next distillation after the sources'.
            seeds: train these from the single source, where its models are not one for each source.
            stream: their random streams, where they are not the role's; the settings have a recipe of this name too.
        """
        by_seed: dict[int, Model | None] = {record.seed: record for record in sources.records}
        if len(by_seed) != len(sources.records):
            raise ValueError("distill takes one source for each replicate; choose with best() first")
        if copies:
            by_seed = {
                seed + COPY_SEEDS * number: record for seed, record in by_seed.items() for number in range(copies)
            }
        if seeds:
            (source,) = sources.records
            by_seed = dict.fromkeys(seeds, source)
        trainset = images or self.transfer_images(sources.hops)
        task = _task(role, stream, trainset, order or self.settings.order, predictions, self.settings.method)
        hops, soft = sources.hops + 1, tuple(t for t in temperatures if t != HARD)
        if self.data.unlabeled is None or not soft:
            return self._sweep(task, by_seed, tuple(temperatures), trainset, hops)
        hard = self._sweep(task, by_seed, tuple(t for t in temperatures if t == HARD), trainset, hops)
        more = self.data.unlabeled_rows
        with_more = f"{trainset.what} and {len(more)} without labels"
        trainset = replace(trainset, rows=np.append(trainset.rows, more), what=with_more)
        softened = self._sweep(replace(task, part=with_more, unlabeled=True), by_seed, soft, trainset, hops)
        return Sweep((*hard.records, *softened.records), hops)

    def train_together(self, company: ChosenCompany, nets: Sequence[Architecture]) -> Sweep:
        """Train a company of peers on a student's images, once for each replicate.

        Args:
            company: how they learn from each other.
            nets: the architecture of each.

        Returns:
            The nets of each replicate are its copies, see :meth:`Sweep.copies_of`, in their order.
        """
        none: dict[int, Model | None] = dict.fromkeys(self.settings.replicates())
        trainset = self.transfer_images(0)
        task = replace(_task("peer", "", trainset, self.settings.order), method=company, nets=tuple(nets))
        return self._sweep(task, none, (company.temperature,), trainset, 0)

    def transfer_images(self, hop: int) -> Trainset:
        """Return the images of a distillation: of the first one, hop 0, those that a teacher's students learn from.

        Raises:
            UsageError: the data have no such class, or no tracks.
            KdopsError: the hops are to have fresh images each, and the split has none for this one.
        """
        # The part's name distinguishes the images of one hop from those of another, and some of them from all.
        rows, what = self.split.hop(min(hop, len(self.split.transfers) - 1)), "transfer images"
        if self.settings.transfer == "fresh":
            rows, what = self.split.hop(hop), f"hop {hop + 1} images"
        images, (selected, words) = Trainset(rows, what), select(self.data, rows, self.settings.selection)
        return replace(images.subset(selected, words), chosen=self.settings.selection) if words else images

    def best(self, models: Sweep) -> Sweep:
        """Return the best model of each replicate, by the settings' score, on validation unless they ask for test."""
        by = self.settings.criterion
        return chosen_on(self.executor.chosen(models, by), by.on)

    def worst(self, models: Sweep) -> Sweep:
        """Return the worst model of each replicate, likewise."""
        by = self.settings.criterion
        return chosen_on(self.executor.chosen(models, by, worst=True), by.on)

    def retrain(
        self,
        tried: Sequence[tuple[TriedT, Sweep]],
        badness: Callable[[Sweep], Any],
        train: Callable[[TriedT], ResultT],
    ) -> tuple[TriedT, ResultT]:
        """Train the best of several settings again, such as with fresh seeds.

        Args:
            tried: the settings, each with its models.
            badness: returns by what the models of a setting are compared, lower being better; the first of equals wins.
            train: trains a setting again. A dry run plans it for each setting that may turn out to be the best.

        Returns:
            The best setting, and what ``train`` returned.
        """
        places = self.executor.may_be_best([sweep for _, sweep in tried], badness)
        options = [tried[place][0] for place in places]
        return options[0], self.executor.any_of([partial(train, option) for option in options])[0]

    def known(self, role: str) -> list[Model]:
        """Return every finished and registered model of a role, of this data and split."""
        return self.executor.index.of_role(role)

    def find(self, uri: str) -> Model | None:
        """Return a finished model of this data and split by its URI."""
        return self.executor.index.of_uri(uri)

    def use(self, models: Sequence[Model]) -> None:
        """Count models that were not asked for by a sweep among those of the study."""
        self.executor.use(models)

    def adopt(self, model: Model, network: Module) -> Model:
        """Use a network that was loaded elsewhere as that of a model.

        Args:
            model: a model that this study's data and split do not know.
            network: takes uint8 images and returns logits, in ``eval()``.

        Returns:
            The model with the network's metrics on validation and test images; a dry run measures none.
        """
        return self.executor.adopt(model, network)

    def network(self, model: Model) -> Module:
        """Return the network of a stored or adopted model, in ``eval()``."""
        return self.executor.networks.of(model)

    def averaged(self, models: Sweep) -> Sweep:
        """Return one source for each replicate: its copies, see ``COPY_SEEDS``, whose probabilities are averaged.

        They are softened first, at the temperature of the student that learns from them. What is measured is their
        mean probability.
        """
        sources = [self.executor.averaged(models.copies_of(seed), seed) for seed in self.settings.replicates()]
        return Sweep(tuple(sources), models.hops)

    def predictions(self, model: Model) -> np.ndarray:
        """Return the class number that a stored or adopted model predicts for each test image, ``[images]``."""
        return self.executor.networks.logits_of(model, self.split.test, "test images").argmax(dim=1).numpy()

    def logits(self, model: Model, rows: np.ndarray) -> Tensor:
        """Return the logits of a stored or adopted model on some images, ``[images, classes]``."""
        return self.executor.networks.logits([model], rows)[0]

    def store(self, outcome: Outcome, write: Callable[..., None]) -> Model:
        """Store a model that was not trained but made from others, unless it is there already."""
        return self.executor.store(outcome, write)

    def stop_if_planned(self) -> None:
        """End the study here if it is a dry run: what comes next needs numbers, and trains nothing."""
        self.executor.stop_if_planned()

    def conclude(
        self,
        title: str,
        answer: Answer,
        *,
        figures: Mapping[str, Figure] | None = None,
        tables: Mapping[str, pd.DataFrame] | None = None,
        report: bool = False,
    ) -> Answer:
        """End the study: results, figures, answer and note on its run, a table on the terminal.

        Args:
            title: of the answer; the note is headed with it where there is no verdict.
            answer: the closing table, the verdict and the findings.
            figures: Matplotlib figures by file name.
            tables: further tables by file name.
            report: write a report of the study and its parts, with a figure of the claims that are differences.

        Returns:
            The answer. What a paper states is left out on other data than the paper's, but in a study of that paper.
        """
        about_paper = isinstance(self.settings, PaperSettings) or self.settings.dataset in PAPERS[DEFAULT].data
        answer = replace(answer, title=title, findings=answer.findings if about_paper else ())
        answer = with_baseline(answer, self.data, self.split)
        figures = {**(figures or {}), **(self._claims_figure(answer, len(figures or {}) + 1) if report else {})}
        self.executor.conclude(Conclusion(answer, figures, tables or {}, report), self.context)
        return answer

    def _claims_figure(self, answer: Answer, number: int) -> dict[str, Figure]:
        """Return the figure of the claims that are differences by its file name; empty where there are none."""
        from kdops.reporting.claims_figure import claims_figure, differences_of

        drawn = differences_of(answer.findings)
        title = f"Claims of {answer.title}, {self.settings.dataset}"
        return {f"figure-{number}-claims.png": claims_figure(title, drawn)} if drawn else {}

    def _sweep(
        self,
        task: Task,
        sources: Mapping[int, Model | None],
        temperatures: Sequence[float],
        trainset: Trainset,
        hops: int,
    ) -> Sweep:
        keep = self.settings.keep_epochs.up_to(self.settings.recipes[task.role].epochs)
        task = replace(task, keep_epochs=keep)
        return Sweep(self.executor.sweep(task, sources, temperatures, trainset, self.context), hops)


def title_of(entry_point: str, settings: Settings) -> str:
    """Return the name of a study's run."""
    seeds = "1 seed" if settings.seeds == 1 else f"{settings.seeds} seeds"
    subject = f" {settings.subject}" if settings.subject else ""
    return f"{entry_point}{subject} {settings.dataset} {settings.transfer} {seeds}"


def _task(
    role: str, stream: str, images: Trainset, order: str, predictions: bool = False, method: ChosenMethod = LOGITS
) -> Task:
    own = stream not in ("", role)
    registered = role if own else ""
    return Task(stream if own else role, images.what, order, predictions, registered, method, chosen=images.chosen)
