"""The command ``probe``: how far images must be changed until registered models of one's own are misled."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import typer

from kdops.cli.browse import open_store
from kdops.config.attacks import ATTACKS, parse_attacks
from kdops.config.parsing import whole
from kdops.config.uris import check_model
from kdops.errors import UsageError

if TYPE_CHECKING:
    from kdops.probing.attack import Attacked
    from kdops.reporting.terminal import Side


def probe(
    models: list[str] = typer.Argument(
        metavar="MODEL...", help="models:/NAME/VERSION or NAME/VERSION; several of one data set are attacked together"
    ),
    attack: str = typer.Option("cw2", "--attack", help=f"some of {', '.join(ATTACKS)}, each with (option=value,...)"),
    images: str = typer.Option("100", "--images", help="how many test images, evenly among all"),
    data_root: str = typer.Option("", "--data-root", help="folder with the data", metavar="FOLDER"),
) -> None:
    """Attack models of your own with test images: what share is misled, and how little it takes."""
    attacks, count = parse_attacks(attack), whole("images", images, 1, 1_000_000)
    for name in models:
        check_model(name)
    with open_store() as client:
        from kdops.models.classifier import Classifier
        from kdops.packaging.inputs import test_images
        from kdops.packaging.loading import load_stored
        from kdops.probing.attack import attack_networks
        from kdops.reporting.attack_figure import attack_figure
        from kdops.tracking.catalog import data_of, find_registered
        from kdops.tracking.probes import log_probe
        from kdops.utils.files import temporary_folder

        found = [find_registered(client, name) for name in models]
        loaded = [load_stored(client, model.uri) for model in found]
        for model, one in zip(found, loaded, strict=True):
            if not isinstance(one.module, Classifier) or one.encoding:
                raise UsageError("model", model.name, "must be one network of images, such as an ensemble's member")
            if (one.shape, one.classes, model.dataset) != (loaded[0].shape, loaded[0].classes, found[0].dataset):
                raise UsageError("model", model.name, f"is of other data than {found[0].name}; give it by itself")
        origin = data_of(client, found[0]) or {"dataset": found[0].dataset}
        pixels, labels = test_images(origin, loaded[0], data_root, count)
        rows = []
        for chosen, architecture in product(attacks, dict.fromkeys(model.architecture for model in found)):
            places = [place for place, model in enumerate(found) if model.architecture == architecture]
            results = attack_networks([loaded[place].module for place in places], pixels, labels, chosen)
            for model, result in zip([found[place] for place in places], results, strict=True):
                figure = attack_figure(f"{model.name}: {chosen}", result, loaded[0].classes)
                with temporary_folder() as folder:
                    figure.savefig(folder / f"{chosen.name}.png", dpi=130)
                    log_probe(client, model.run_id, chosen, len(labels), result.metrics(chosen.name), folder)
                rows.append(_row(model.name, chosen.name, result))
    from kdops.reporting.terminal import PlainTable, plain_console

    PlainTable(HEAD, rows).print(plain_console())
    typer.echo("Shares and means are of images that were right before. Metrics and figures are on the models' runs.")
    if any(float(row[5]) > 0 for row in rows):
        typer.echo("Unchanged images show that an attack found no gradient, not that a model is safe; try cw2.")


HEAD: tuple[tuple[str, Side], ...] = (
    *(("model", "left"), ("attack", "left"), ("images", "right"), ("misled", "right"), ("as uint8", "right")),
    *(("unchanged", "right"), ("pixels", "right"), ("L2", "right"), ("Linf", "right"), ("wrong before", "right")),
)


def _row(name: str, attack: str, found: Attacked) -> tuple[str, ...]:
    shares = (f"{one:.3f}" for one in (found.success, found.success_rounded, found.unchanged))
    means = (f"{found.l0:.1f}", f"{found.l2:.4f}", f"{found.linf:.4f}")
    return (name, attack, str(found.images), *shares, *means, str(found.wrong_before))


COMMANDS = (probe,)
"""The commands, in the order in which they are listed."""
