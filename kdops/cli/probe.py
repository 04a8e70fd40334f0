"""The command ``probe``: what images must become to mislead models of one's own, what of them the models use, and how
well models tell classes apart that they never saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import typer

from kdops.cli.browse import open_store
from kdops.config.attacks import ATTACKS, Attack, parse_attacks
from kdops.config.knowledge import KnowledgeProbe
from kdops.config.parsing import line, whole
from kdops.config.uris import check_model
from kdops.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from mlflow import MlflowClient

    from kdops.data.dataset import Dataset
    from kdops.models.classifier import Classifier
    from kdops.probing.attack import Attacked
    from kdops.reporting.terminal import Side
    from kdops.sweeps.model import Model
    from kdops.tracking.probes import Probed


def probe(
    models: list[str] = typer.Argument(
        metavar="MODEL...", help="models:/NAME/VERSION or NAME/VERSION; several of one data set are probed together"
    ),
    attack: str = typer.Option(
        "",
        "--attack",
        help=f"some of {', '.join(ATTACKS)}, each with (option=value,...); cw2 where nothing else is asked for",
    ),
    knowledge: bool = typer.Option(
        False, "--knowledge", help="draw how much noise each part of an image takes until the features change"
    ),
    layer: str = typer.Option("embedding", "--layer", help="the features: embedding, or stage1 ... of convolutions"),
    grid: str = typer.Option("8", "--grid", help="patches on each side of an image of --knowledge"),
    open_set: bool = typer.Option(
        False, "--open-set", help="measure how well the embedding tells classes apart that the model never saw"
    ),
    unseen: str = typer.Option(
        "", "--unseen", help="these classes, by name: 3,7; empty: those that its training left out"
    ),
    images: str = typer.Option("100", "--images", help="how many test images, evenly among all"),
    data_root: str = typer.Option("", "--data-root", help="folder with the data", metavar="FOLDER"),
) -> None:
    """Probe models of your own: attack them, map what of an image they use, or try them on classes never seen."""
    attacks = parse_attacks(attack or "cw2") if attack or not (knowledge or open_set) else ()
    maps = KnowledgeProbe(line("layer", layer, 200), whole("grid", grid, 2, 1000))
    count = whole("images", images, 1, 1_000_000)
    for name in models:
        check_model(name)
    with open_store() as client:
        given = _load(client, models, data_root, count)
        if attacks:
            _attack(given, attacks)
        if knowledge:
            _map(given, maps)
        if open_set:
            _try_unseen(given, unseen)


@dataclass(frozen=True)
class _Given:
    """Models of one data set, and some of its test images."""

    client: MlflowClient
    models: Sequence[Model]
    networks: Sequence[Classifier]
    data: Dataset
    rows: np.ndarray
    data_root: str

    def log(self, model: Model, found: Probed, **figures: Any) -> None:
        """Put what was found on the run of a model, with figures by name."""
        from kdops.tracking.probes import log_probe
        from kdops.utils.files import temporary_folder

        with temporary_folder() as folder:
            for name, figure in figures.items():
                figure.savefig(folder / f"{name}.png", dpi=130)
            log_probe(self.client, model.run_id, found, folder)


def _load(client: MlflowClient, names: Sequence[str], data_root: str, count: int) -> _Given:
    """Load models and images. Raises UsageError for models that are no networks of images, or of different data."""
    from kdops.models.classifier import Classifier
    from kdops.packaging.inputs import rows_to_probe
    from kdops.packaging.loading import load_stored
    from kdops.tracking.catalog import data_of, find_registered

    found = [find_registered(client, name) for name in names]
    loaded = [load_stored(client, model.uri) for model in found]
    networks = []
    for model, one in zip(found, loaded, strict=True):
        if not isinstance(one.module, Classifier) or one.encoding:
            raise UsageError("model", model.name, "must be one network of images, such as an ensemble's member")
        if (one.shape, one.classes, model.dataset) != (loaded[0].shape, loaded[0].classes, found[0].dataset):
            raise UsageError("model", model.name, f"is of other data than {found[0].name}; give it by itself")
        networks.append(one.module)
    origin = data_of(client, found[0]) or {"dataset": found[0].dataset}
    data, rows = rows_to_probe(origin, loaded[0], data_root, count)
    return _Given(client, found, networks, data, rows, data_root)


ATTACK_HEAD: tuple[tuple[str, Side], ...] = (
    *(("model", "left"), ("attack", "left"), ("images", "right"), ("misled", "right"), ("as uint8", "right")),
    *(("unchanged", "right"), ("pixels", "right"), ("L2", "right"), ("Linf", "right"), ("wrong before", "right")),
)


def _attack(given: _Given, attacks: Sequence[Attack]) -> None:
    """Attack models, print a table, and put the rest on their runs."""
    from kdops.data.examples import examples_of
    from kdops.probing.attack import attack_networks
    from kdops.reporting.attack_figure import attack_figure
    from kdops.reporting.terminal import PlainTable, plain_console
    from kdops.sweeps import schema
    from kdops.tracking.probes import Probed

    (pixels, labels), rows = examples_of(given.data, given.rows), []
    for chosen, architecture in product(attacks, dict.fromkeys(model.architecture for model in given.models)):
        places = [place for place, model in enumerate(given.models) if model.architecture == architecture]
        results = attack_networks([given.networks[place] for place in places], pixels, labels, chosen)
        for model, result in zip([given.models[place] for place in places], results, strict=True):
            how, metrics = f"{chosen} on {len(labels)} test images", result.metrics(chosen.name)
            found = Probed(f"{schema.ATTACK}.{chosen.name}", how, f"attack_{chosen.name}_", metrics, "attacks")
            figure = attack_figure(f"{model.name}: {chosen}", result, given.data.classes)
            given.log(model, found, **{chosen.name: figure})
            rows.append(_attack_row(model.name, chosen.name, result))
    PlainTable(ATTACK_HEAD, rows).print(plain_console())
    typer.echo("Shares and means are of images that were right before. Metrics and figures are on the models' runs.")
    if any(float(row[5]) > 0 for row in rows):
        typer.echo("Unchanged images show that an attack found no gradient, not that a model is safe; try cw2.")


def _attack_row(name: str, attack: str, found: Attacked) -> tuple[str, ...]:
    shares = (f"{one:.3f}" for one in (found.success, found.success_rounded, found.unchanged))
    means = (f"{found.l0:.1f}", f"{found.l2:.4f}", f"{found.linf:.4f}")
    return (name, attack, str(found.images), *shares, *means, str(found.wrong_before))


KNOWLEDGE_HEAD: tuple[tuple[str, Side], ...] = (
    *(("model", "left"), ("layer", "left"), ("images", "right"), ("points, object", "right")),
    *(("points, rest", "right"), ("object's share", "right"), ("contrast", "right"), ("unmoved", "right")),
)


def _map(given: _Given, maps: KnowledgeProbe) -> None:
    """Map what models use of the images, print a table, and put the rest on their runs."""
    from kdops.data.examples import examples_of
    from kdops.data.foreground import foreground_boxes, patches_within
    from kdops.probing.knowledge import entropy_maps
    from kdops.reporting.knowledge_figure import knowledge_figure
    from kdops.reporting.terminal import PlainTable, plain_console
    from kdops.sweeps import schema
    from kdops.tracking.probes import Probed

    boxes, what = foreground_boxes(given.data, given.data_root, given.rows)
    inside = patches_within(boxes, maps.grid)
    (pixels, _), rows = examples_of(given.data, given.rows), []
    for model, network in zip(given.models, given.networks, strict=True):
        result = entropy_maps(network, pixels, inside, maps)
        metrics = result.metrics()
        how = f"{maps} on {len(pixels)} test images, object: {what}"
        figure = knowledge_figure(f"{model.name}: noise that {maps.layer} takes", pixels.numpy(), result)
        given.log(model, Probed(schema.KNOWLEDGE, how, "knowledge_", metrics, "knowledge"), **{maps.layer: figure})
        shares = ("points", "points_background", "ratio", "contrast")
        shown = (f"{metrics.get(f'knowledge_{name}', float('nan')):.3f}" for name in shares)
        mapped, unmoved = (f"{metrics[f'knowledge_{name}']:.0f}" for name in ("images", "unmoved"))
        rows.append((model.name, maps.layer, mapped, *shown, unmoved))
    PlainTable(KNOWLEDGE_HEAD, rows).print(plain_console())
    typer.echo(
        f"Points take {maps.threshold:g} nats less noise than the rest of the image does on average; the object is "
        f"{what}. Metrics and figures are on the models' runs."
    )


OPEN_SET_HEAD: tuple[tuple[str, Side], ...] = (
    *(("model", "left"), ("unseen classes", "right"), ("recall@1", "right"), ("AUC", "right")),
)


def _try_unseen(given: _Given, unseen: str) -> None:
    """Try models on classes that they never saw, print a table, and put the rest on their runs."""
    from kdops.reporting.terminal import PlainTable, plain_console
    from kdops.study.open_set import open_set_of
    from kdops.sweeps import schema
    from kdops.tracking.probes import Probed

    rows = []
    for model, network in zip(given.models, given.networks, strict=True):
        names = _unseen_by(model, unseen, given.data)
        found = open_set_of(given.data, network, names)
        metrics = {"open_set_recall": found.recall, "open_set_auc": found.auc}
        given.log(model, Probed(schema.OPEN_SET, f"on {', '.join(names)}", "open_set_", metrics, ""))
        rows.append((model.name, str(len(names)), f"{found.recall:.4f}", f"{found.auc:.4f}"))
    PlainTable(OPEN_SET_HEAD, rows).print(plain_console())
    typer.echo("On images that are no test images, of different tracks. Metrics are on the models' runs.")


def _unseen_by(model: Model, given: str, data: Dataset) -> list[str]:
    """Return the classes that a model is tried on.

    Raises:
        UsageError: none are given and none were left out of its training, or they are not two classes of the data.
    """
    from kdops.sweeps.params import LEAVE_OUT

    text = given or model.params.get(LEAVE_OUT, "")
    if not text:
        raise UsageError("unseen", "(empty)", f"{model.name} saw all classes; name those that it did not see")
    names = [name.strip() for name in text.split(",")]
    if len(names) < 2 or not set(names) <= set(data.classes):
        raise UsageError("unseen", text, f"must be two or more of {', '.join(data.classes[:20])}")
    return names


COMMANDS = (probe,)
"""The commands, in the order in which they are listed."""
