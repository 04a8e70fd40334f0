"""Attack models of one's own: what images must become to mislead them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

import typer

from kdops.config.attacks import Attack

if TYPE_CHECKING:
    from kdops.cli.probes.given import Given
    from kdops.probing.attack import Attacked
    from kdops.reporting.terminal import Side


HEAD: tuple[tuple[str, Side], ...] = (
    *(("model", "left"), ("attack", "left"), ("images", "right"), ("misled", "right"), ("as uint8", "right")),
    *(("unchanged", "right"), ("pixels", "right"), ("L2", "right"), ("Linf", "right"), ("wrong before", "right")),
)


def attack_models(given: Given, attacks: Sequence[Attack]) -> None:
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
            rows.append(_row(model.name, chosen.name, result))
    PlainTable(HEAD, rows).print(plain_console())
    typer.echo("Shares and means are of images that were right before. Metrics and figures are on the models' runs.")
    if any(float(row[5]) > 0 for row in rows):
        typer.echo("Unchanged images show that an attack found no gradient, not that a model is safe; try cw2.")


def _row(name: str, attack: str, found: Attacked) -> tuple[str, ...]:
    shares = (f"{one:.3f}" for one in (found.success, found.success_rounded, found.unchanged))
    means = (f"{found.l0:.1f}", f"{found.l2:.4f}", f"{found.linf:.4f}")
    return (name, attack, str(found.images), *shares, *means, str(found.wrong_before))
