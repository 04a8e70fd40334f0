"""The command ``check-data``: what a data set holds, how it is split, and which images are in two parts."""

from __future__ import annotations

import typer

__all__ = ["COMMANDS"]

_OPTIONS = ("name", "image_size", "channels", "skip_bad", "label", "group", "split")
"""The parameters that control how data of the caller are read; see docs/parameters.md."""


def check_data(
    dataset: str = typer.Option("digits", "--dataset", help="which data, as in every study", metavar="TEXT"),
    data_root: str = typer.Option("", "--data-root", help="folder with the data", metavar="FOLDER"),
    transfer: str = typer.Option("disjoint", "--transfer", help="disjoint, shared or fresh", metavar="TEXT"),
    split_seed: str = typer.Option("0", "--split-seed", help="the split", metavar="TEXT"),
    name: str = typer.Option("", "--name", help="what data of your own are called", metavar="TEXT"),
    image_size: str = typer.Option("", "--image-size", help="size of images of your own", metavar="TEXT"),
    channels: str = typer.Option("", "--channels", help="1 or 3, of images of your own", metavar="TEXT"),
    skip_bad: str = typer.Option("false", "--skip-bad", help="leave out what cannot be read", metavar="TEXT"),
    label: str = typer.Option("", "--label", help="of a table: the column with the class", metavar="TEXT"),
    group: str = typer.Option("", "--group", help="of a table: the column with the group", metavar="TEXT"),
    split: str = typer.Option("", "--split", help="of a table: the column with the part", metavar="TEXT"),
) -> None:
    """Report what a data set holds, its split, and copies of images across the parts."""
    from kdops.config.settings import Settings

    given = {key: value for key, value in locals().items() if key in _OPTIONS and value}
    settings = Settings.parse(
        "teacher", dataset=dataset, data_root=data_root, transfer=transfer, split_seed=split_seed, **given
    )
    from kdops.data.dataset import load
    from kdops.data.description import described

    data = load(settings.origin, settings.data_root)
    for line in described(data, settings.transfer, settings.split_seed):
        typer.echo(line)


COMMANDS = (check_data,)
