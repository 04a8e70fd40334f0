"""The verbs that a pipeline is written in: what pipelines, chains, sources and controls see of a study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from kdops.config.settings import Settings

if TYPE_CHECKING:
    # A pipeline imports this file, and is imported where nothing is trained.
    import pandas as pd
    from matplotlib.figure import Figure
    from torch.nn import Module

    from kdops.config.architectures import Architecture
    from kdops.config.companies import ChosenCompany
    from kdops.data.dataset import Dataset
    from kdops.data.splits import Split
    from kdops.sweeps.model import Model, Sweep
    from kdops.tracking.datasets import Trainset
    from kdops.tracking.model_run import Outcome
    from kdops.verdicts.answer import Answer

__all__ = ["StudyVerbs"]

OwnSettings = TypeVar("OwnSettings", bound=Settings, covariant=True)
Others = TypeVar("Others", bound=Settings)
TriedT = TypeVar("TriedT")
ResultT = TypeVar("ResultT")


class StudyVerbs(Protocol[OwnSettings]):
    """The verbs of a study; :class:`kdops.study.study.Study` documents each."""

    @property
    def settings(self) -> OwnSettings:
        """Its settings."""

    @property
    def data(self) -> Dataset:
        """Its data."""

    @property
    def split(self) -> Split:
        """Which images each model may see."""

    def with_settings(self, settings: Others) -> StudyVerbs[Others]:
        """Return the same study with other settings for what it trains next."""

    def part(self, entry_point: str) -> AbstractContextManager[StudyVerbs[OwnSettings]]:
        """Open a study within this one."""

    def train(self, role: str, stream: str = "") -> Sweep:
        """Train a role on labels, once for each replicate."""

    def distill(
        self,
        sources: Sweep,
        role: str,
        temperatures: Sequence[float],
        *,
        predictions: bool = False,
        order: str = "",
        copies: int = 0,
        hop: int | None = None,
        seeds: Sequence[int] = (),
        stream: str = "",
    ) -> Sweep:
        """Distill each replicate's source into a role at every temperature."""

    def train_together(self, company: ChosenCompany, nets: Sequence[Architecture]) -> Sweep:
        """Train a company of peers, once for each replicate."""

    def transfer_images(self, hop: int) -> Trainset:
        """Return the images of a distillation."""

    def best(self, models: Sweep) -> Sweep:
        """Choose the best model of each replicate."""

    def worst(self, models: Sweep) -> Sweep:
        """Choose the worst model of each replicate."""

    def retrain(
        self,
        tried: Sequence[tuple[TriedT, Sweep]],
        badness: Callable[[Sweep], Any],
        train: Callable[[TriedT], ResultT],
    ) -> tuple[TriedT, ResultT]:
        """Train the best of several settings again."""

    def known(self, role: str) -> list[Model]:
        """Return every finished model of a role."""

    def find(self, uri: str) -> Model | None:
        """Return a finished model by its URI."""

    def use(self, models: Sequence[Model]) -> None:
        """Count models among those of the study."""

    def adopt(self, model: Model, network: Module) -> None:
        """Use a network that was loaded elsewhere as that of a model."""

    def network(self, model: Model) -> Module:
        """Return the network of a model."""

    def measure(self, network: Module) -> dict[str, float]:
        """Measure a network on the validation and the test images."""

    def store(self, outcome: Outcome, write: Callable[..., None]) -> Model:
        """Store a model that was made from others."""

    def stop_if_planned(self) -> None:
        """End here if the study only plans."""

    def conclude(
        self,
        title: str,
        answer: Answer,
        *,
        figures: Mapping[str, Figure] | None = None,
        tables: Mapping[str, pd.DataFrame] | None = None,
        report: bool = False,
    ) -> Answer:
        """End the study with its answer."""
