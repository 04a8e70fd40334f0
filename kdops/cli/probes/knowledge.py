"""Map what parts of an image models use: how much noise each takes until their features change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from kdops.config.knowledge import KnowledgeProbe

if TYPE_CHECKING:
    from kdops.cli.probes.given import Given
    from kdops.reporting.terminal import Side


HEAD: tuple[tuple[str, Side], ...] = (
    *(("model", "left"), ("layer", "left"), ("images", "right"), ("points, object", "right")),
    *(("points, rest", "right"), ("object's share", "right"), ("contrast", "right"), ("unmoved", "right")),
)


def map_knowledge(given: Given, maps: KnowledgeProbe) -> None:
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
    PlainTable(HEAD, rows).print(plain_console())
    typer.echo(
        f"Points take {maps.threshold:g} nats less noise than the rest of the image does on average; the object is "
        f"{what}. Metrics and figures are on the models' runs."
    )
