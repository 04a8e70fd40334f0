"""The command ``probe``: what images must become to mislead models of one's own, what of them the models use, and how
well models tell classes apart that they never saw.
"""

from __future__ import annotations

import typer

from kdops.cli.browse import open_store
from kdops.cli.probes.attack import attack_models
from kdops.cli.probes.given import load_given
from kdops.cli.probes.knowledge import map_knowledge
from kdops.cli.probes.open_set import try_unseen
from kdops.config.attacks import ATTACKS, parse_attacks
from kdops.config.knowledge import KnowledgeProbe
from kdops.config.parsing import line, whole
from kdops.config.uris import check_model
from kdops.errors import UsageError

LAYER, GRID = "embedding", "8"


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
    layer: str = typer.Option(LAYER, "--layer", help="the features: embedding, or stage1 ... of convolutions"),
    grid: str = typer.Option(GRID, "--grid", help="patches on each side of an image of --knowledge"),
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
    if unseen and not open_set:
        raise UsageError("unseen", unseen, "names the classes of --open-set; give that too")
    for name, value, usual in () if knowledge else (("layer", layer, LAYER), ("grid", grid, GRID)):
        if value != usual:
            raise UsageError(name, value, "is for --knowledge; give that too")
    attacks = parse_attacks(attack or "cw2") if attack or not (knowledge or open_set) else ()
    maps = KnowledgeProbe(line("layer", layer, 200), whole("grid", grid, 2, 1000))
    count = whole("images", images, 1, 1_000_000)
    for name in models:
        check_model(name)
    with open_store() as client:
        given = load_given(client, models, data_root, count)
        if attacks:
            attack_models(given, attacks)
        if knowledge:
            map_knowledge(given, maps)
        if open_set:
            try_unseen(given, unseen)


COMMANDS = (probe,)
"""The commands, in the order in which they are listed."""
