"""The unit of work: one network to train, as a plain value that holds all that decides its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kdops.config.architectures import Architecture, parse_architecture
from kdops.config.image_selection import UNCHANGED, Selection
from kdops.config.kept_epochs import KeptEpochs
from kdops.config.method_specs import ChosenMethod
from kdops.config.methods import LOGITS
from kdops.config.roles import streams_of
from kdops.config.settings import HARD, Settings
from kdops.config.specs import Spec
from kdops.data.dataset import Dataset
from kdops.data.splits import Split
from kdops.errors import UsageError
from kdops.models.size import NetworkSize, network_size
from kdops.sweeps.fingerprint import code_digest, fingerprint
from kdops.sweeps.model import COPY_SEEDS, LABELS, Model
from kdops.sweeps.params import (
    ALPHA,
    ARCHITECTURE,
    CODE,
    DATASET,
    FLOPS,
    KEEP_EPOCHS,
    LEARNER,
    METHOD,
    ORDER,
    PARAMETERS,
    SPLIT_SEED,
    STREAMS,
    T_SQUARED,
    TARGETS,
    TRANSFER,
    UNLABELED,
)
from kdops.utils.hardware import numeric_mode, process_threads
from kdops.utils.versions import installed_version


@dataclass(frozen=True)
class Task:
    """What all units of a sweep do.

    Attributes:
        role: what is trained; its recipe and its random streams go by this name.
        part: the name of the images they are trained on, which no others of the same data and split have.
        order: ``shared`` or ``own`` batch order of a replicate's members.
        predictions: at T = 0 they learn what the source predicts instead of the labels.
        registered: the role that they are logged and registered as, where ``role`` names random streams of their own.
        method: what those learn that have a source and a temperature, or the nets of a company.
        nets: the networks of a company; empty where each network learns by itself.
        unlabeled: the data's images without labels are among those that they are trained on.
        chosen: what was left out of the images that they are trained on, which their runs record.
        keep_epochs: after these epochs, counted from 1, the weights are kept; they decide nothing.
    """

    role: str
    part: str
    order: str
    predictions: bool = False
    registered: str = ""
    method: ChosenMethod = LOGITS
    nets: tuple[Architecture, ...] = ()
    unlabeled: bool = False
    chosen: Selection = UNCHANGED
    keep_epochs: tuple[int, ...] = ()

    @property
    def known_as(self) -> str:
        """The role that the models are logged and registered as."""
        return self.registered or self.role


@dataclass(frozen=True)
class Unit:
    """One network to train.

    Attributes:
        task: what it does, with all units of its sweep.
        record: the model as it will be logged: without metrics, not yet stored.
        source: the model to distill from; None for labels.
        fingerprint: the digest of all that decides its weights, to the last bit.
        training: the digest without what else is stacked in its pass: units of one training are computed alike, but may
            be rounded otherwise, which deep or long trained networks can make more of (docs, "Reuse").
    """

    task: Task
    record: Model
    source: Model | None
    fingerprint: str
    training: str

    @property
    def replicate(self) -> int:
        """The replicate that it belongs to, with its copies; see ``COPY_SEEDS``."""
        return self.record.seed % COPY_SEEDS

    @property
    def learns_predictions(self) -> bool:
        """Whether its hard labels are its source's predictions."""
        return self.source is not None and self.record.temperature == HARD


@dataclass(frozen=True, eq=False)
class Context:
    """What all units of a study share: settings, data, split, and where they are trained."""

    settings: Settings
    data: Dataset
    split: Split
    device: str

    def architecture_of(self, role: str) -> Architecture:
        """Return the architecture of a role."""
        return self.settings.recipes[role].architecture

    def trains_together(self, task: Task) -> bool:
        """Return whether a replicate's networks are trained in one pass that decides their weights.

        Those of a company are, and those that are stacked, to their last bits. Others are trained one after another, on
        a GPU a few at a time, each as if it were alone.
        """
        return bool(task.nets) or bool(self.architecture_of(task.role).stacks and task.method.is_stacked)


def units_of(
    task: Task,
    sources: Mapping[int, Model | None],
    temperatures: Sequence[float],
    together: bool,
    context: Context,
) -> list[Unit]:
    """Return the units of a sweep, seed by seed.

    Args:
        sources: each seed's source; None to learn from labels.
        temperatures: one unit each and seed; 0 for hard labels.
        together: whether the units of a replicate, copies included, are stacked and trained in one pass, which then
            decides their last bits.

    Raises:
        UsageError: the networks lack what the method needs.
    """
    if any(source is not None for source in sources.values()) and any(t != HARD for t in temperatures):
        own = context.architecture_of(task.role)
        task.method.check_taps(own, task.role)
        for given in {network for source in sources.values() if source for network in _networks_of(source)}:
            task.method.check_source(own, given, task.role)
    stacked: dict[int, list[float]] = {}
    for seed in sources if together else ():
        stacked.setdefault(seed % COPY_SEEDS, []).extend(temperatures)
    return [
        unit_of(
            task,
            seed,
            temperature,
            source if temperature != HARD or task.predictions else None,
            stacked.get(seed % COPY_SEEDS),
            context,
        )
        for seed, source in sources.items()
        for temperature in temperatures
    ]


def lock_keys(units: Sequence[Unit], context: Context) -> set[str]:
    """Return what studies take turns at: a digest of what units share that differ in their temperature alone."""
    settings = context.settings
    return {
        fingerprint(
            role=unit.task.role,
            part=unit.task.part,
            order=unit.task.order,
            seed=unit.record.seed,
            source=unit.source.weights if unit.source else LABELS,
            recipe=settings.recipes[unit.task.role].as_dict(),
            method=unit.task.method.full_text if unit.source else "",
            split=context.split.digest,
        )
        for unit in units
    }


def digest_of_pass(units: Sequence[Unit]) -> str:
    """Return the digest of units of a task that are trained together; by what else they keep it is another pass."""
    keep = units[0].task.keep_epochs
    kept = {"keep_epochs": keep} if keep else {}
    return fingerprint(units=sorted(unit.fingerprint for unit in units), **kept)


def unit_of(
    task: Task,
    seed: int,
    temperature: float,
    source: Model | None,
    stacked: list[float] | None,
    context: Context,
) -> Unit:
    """Return one unit of a sweep.

    Args:
        seed: its replicate, or that of a copy of it.
        temperature: what it is trained at; 0 for hard labels.
        source: what it is distilled from; None for labels.
        stacked: the temperatures of all that is stacked with it; None where it is trained as if alone.
    """
    recipe, network = context.settings.recipes[task.role], _network(task, source, temperature, context)
    known = network_size(network, context.data.shape, len(context.data.classes))
    what = {
        "role": task.role,
        "seed": seed,
        "temperature": temperature,
        "recipe": recipe.as_dict(),
        "split": context.split.digest,
        "part": task.part,
        "order": task.order,
        "soft": _learned_from(task, source, temperature),
        "streams": streams_of(task.role),
        "code": code_digest(_plugins(task, source, temperature, network)),
        # Neither is asked of PyTorch itself, which takes seconds to import.
        "torch": installed_version("torch"),
        "threads": process_threads(),
        "device": context.device,
        # Asked only where PyTorch is there anyway.
        **({"arithmetic": numeric_mode(context.device)} if context.device != "cpu" else {}),
        **({"network": known.code} if known.code else {}),
        **context.settings.selection.of_training(),
        **({"unlabeled": context.data.unlabeled.digest} if task.unlabeled and context.data.unlabeled else {}),
    }
    record = _planned(task, seed, temperature, source, context, network, known)
    return Unit(task, record, source, fingerprint(**what, stacked=stacked), fingerprint(**what))


def _network(task: Task, source: Model | None, temperature: float, context: Context) -> Architecture:
    """Return the network that is trained and stored, which may be more than that of the role's recipe.

    Raises:
        UsageError: student or source lack what the method needs.
    """
    own = context.architecture_of(task.role)
    if source is None or temperature == HARD or not task.method.deploys_more:
        return own
    given = _networks_of(source)
    if not given:
        raise UsageError("method", task.method, f"the source {source.uri} is no single network of kdops")
    return task.method.deployed(own, given[0])


def _learned_from(task: Task, source: Model | None, temperature: float) -> dict[str, object]:
    """Return how a source reaches the weights: not at all through hard labels, without the method by predictions."""
    if source is None:
        return {}
    if temperature == HARD:
        return {"source": source.weights, "predictions": True}
    return {"source": source.weights, "method": task.method.full_text}


def _plugins(task: Task, source: Model | None, temperature: float, network: Architecture) -> tuple[str, ...]:
    """Return the modules of the method, of the network and of its source, beside the core that all units share."""
    specs: list[Spec] = [part.spec for part in network.parts]
    if source is not None:
        specs += [part.spec for part in task.method.parts] if temperature != HARD else []
        specs += [part.spec for network in _networks_of(source) for part in network.parts]
    return tuple(sorted({spec.place.partition(":")[0] for spec in specs}))


def _networks_of(source: Model) -> list[Architecture]:
    """Return the network of a source; none of one that is an exported program, which is data, not code."""
    try:
        return [parse_architecture(source.architecture)]
    except UsageError:
        return []


def _planned(
    task: Task,
    seed: int,
    temperature: float,
    source: Model | None,
    context: Context,
    network: Architecture,
    known: NetworkSize,
) -> Model:
    settings, recipe, role = context.settings, context.settings.recipes[task.role], task.known_as
    soft = source is not None and temperature != HARD
    selected = {**task.chosen.of_rows(), **settings.selection.of_training()}
    return Model(
        role=role,
        seed=seed,
        temperature=temperature,
        chain=f"{source.chain}>{role}" if source else role,
        source=source.uri if source else LABELS,
        uri="",
        select_on=source.select_on if source else "validation",
        params={
            DATASET: context.data.name,
            ARCHITECTURE: str(network),
            **({LEARNER: str(recipe.architecture)} if network != recipe.architecture else {}),
            PARAMETERS: str(known.parameters),
            **({FLOPS: str(known.flops)} if known.flops is not None else {}),
            **({CODE: known.code} if known.code else {}),
            TARGETS: "softened outputs" if soft else "labels" if source is None else "predictions",
            **({METHOD: str(task.method)} if soft else {}),
            # The weight that the soft term really had: none on hard labels.
            ALPHA: f"{task.method.soft_weight if soft else 0:g}",
            T_SQUARED: str(task.method.t_squared).lower(),
            **recipe.params(),
            ORDER: task.order,
            TRANSFER: settings.transfer,
            SPLIT_SEED: str(settings.split_seed),
            **{name: str(value).lower() for name, value in selected.items()},
            **({KEEP_EPOCHS: str(KeptEpochs.of(task.keep_epochs))} if task.keep_epochs else {}),
            **({UNLABELED: str(len(context.data.unlabeled_rows))} if task.unlabeled else {}),
            # Else two models would differ in nothing that their runs record.
            **({STREAMS: task.role} if task.registered else {}),
        },
    )
