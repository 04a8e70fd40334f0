"""Opens a study: loads and splits its data, and chooses what carries it out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import TypeVar

from kdops.config.engines import AUTO_WORKERS, LOCAL, engine_parts
from kdops.config.settings import Settings
from kdops.config.studies import PaperSettings
from kdops.data import dataset as datasets
from kdops.data.dataset import Dataset
from kdops.data.description import summary
from kdops.data.splits import make_split
from kdops.store.database import CHECKPOINTS, folded_log, store_address, store_path
from kdops.store.faults import explained_faults
from kdops.store.liveness import name_process
from kdops.study.checks import check_networks
from kdops.study.dry_run import Planned, PlanningExecutor
from kdops.study.executor import Executor
from kdops.study.model_index import ModelIndex
from kdops.study.packagers import Packagers
from kdops.study.shared import Shared, describe_engine
from kdops.study.study import Study, title_of
from kdops.study.training import TrainingExecutor, ended
from kdops.sweeps.plan import Plan
from kdops.sweeps.unit import Context
from kdops.tracking.tracker import Tracker
from kdops.training.checkpoint import Checkpoints
from kdops.utils.files import remove_abandoned_folders
from kdops.utils.gpus import worker_count
from kdops.utils.hardware import resolve_device
from kdops.utils.progress import Reporter

SettingsT = TypeVar("SettingsT", bound=Settings)


def load_data(settings: Settings) -> Dataset:
    """Load the data of a study; a bar on the terminal shows how far it is."""
    with Reporter().bar(f"load {settings.dataset}") as bar:
        return datasets.load(settings.origin, settings.data_root, bar)


@contextmanager
def open_study(entry_point: str, settings: SettingsT, data: Dataset | None = None) -> Iterator[Study[SettingsT]]:
    """Open a study, and end its run whatever happens.

    Args:
        entry_point: the study's name.
        settings: its settings; with ``dry_run`` nothing is trained or written, and the plan is printed.
        data: its data; loaded if left out.
    """
    with explained_faults(store_address()), folded_log(store_address()):
        name_process()
        remove_abandoned_folders()
        data = data or load_data(settings)
        remarks = check_networks(settings, data)
        split = make_split(data, settings.transfer, settings.split_seed, settings.hops())
        context = Context(settings, data, split, resolve_device(settings.device))
        index, reporter = ModelIndex(data, split, settings.fresh), Reporter()
        for line in (*summary(data, split), *remarks):
            reporter.write(line)
        opened = (
            _planned(context, index, reporter) if settings.dry_run else _tracked(entry_point, context, index, reporter)
        )
        with opened as executor:
            yield Study(settings, context, executor)


@contextmanager
def _planned(context: Context, index: ModelIndex, reporter: Reporter) -> Iterator[Executor]:
    """Plan a study, and print its plan."""
    workers = _workers_of(context) or _workers_there(context)
    data, engine = context.data, context.settings.engine
    plan = Plan(data.shape, len(data.classes), context.device, engine, workers, data.unit)
    with suppress(Planned):
        yield PlanningExecutor(plan, index, reporter)
    for line in plan.lines():
        print(line)


def _workers_of(context: Context) -> int:
    """Return how many workers train; 0 where the cluster that is there has to be asked."""
    settings = context.settings
    if settings.engine == LOCAL:
        return 1
    return settings.workers if engine_parts(settings.engine)[1] else worker_count(settings.workers, context.device)


def _workers_there(context: Context) -> int:
    """Ask a cluster how many workers it has for a study."""
    from kdops.training.engine import build_engine

    with closing(build_engine(context.settings.engine, AUTO_WORKERS, context.device)) as engine:
        return engine.workers


@contextmanager
def _tracked(entry_point: str, context: Context, index: ModelIndex, reporter: Reporter) -> Iterator[Executor]:
    """Open the run of a study, and end it if the study fails."""
    settings, data = context.settings, context.data
    remembered = {
        "owner": settings.owner,
        "notes": settings.notes,
        "engine": describe_engine(settings.engine, _workers_of(context)),
        "paper": settings.paper if isinstance(settings, PaperSettings) else "",
    }
    tracker = Tracker(entry_point, data, context.split, title_of(entry_point, settings), remembered)
    with ended(tracker.fail):
        if others := tracker.registry.of_other_data():
            reporter.write(
                f"the registry has {others} models of other data called {data.name}: none of them is used, and "
                "champion is now the best on these data; name=... keeps data of your own apart"
            )
        checkpoints = Checkpoints(store_path(CHECKPOINTS), not settings.fresh)
        shared = Shared(context, tracker, checkpoints, Packagers(data))
        executor = TrainingExecutor(tracker, shared, index, reporter)

    def end(reason: str, status: str) -> None:
        for sentence in executor.fail(reason, status):
            reporter.write(sentence)

    with ended(end), closing(shared):
        yield executor
        executor.finish()
