"""The commands that look after a registry: ``promote``, ``rollback``, ``gc``.

They check their arguments first, and load torch and MLflow only then.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import typer

from kdops.cli.browse import open_store
from kdops.config.parsing import real
from kdops.config.uris import TYPED, check_model, check_name
from kdops.errors import UsageError
from kdops.sweeps import schema
from kdops.utils.text import file_size

if TYPE_CHECKING:
    from kdops.tracking.garbage_rules import Piece

ALIAS = "production"

WORD = re.compile(r"[A-Za-z0-9_-]{1,100}")
RESERVED = re.compile(r"latest|v\d+", re.IGNORECASE)
"""What MLflow takes for something else."""


def promote(
    model: str = typer.Argument(metavar="MODEL", help=TYPED),
    alias: str = typer.Option(ALIAS, "--alias", help="what it is promoted to", metavar="TEXT"),
    margin: str = typer.Option("0.02", "--margin", help="so much worse than the present one it may be", metavar="TEXT"),
) -> None:
    """Move an alias to a model that is whole and, by validation, worse by no more than a margin than its holder."""
    given = check_model(model)
    _check_alias(alias)
    most = real("margin", margin, 0.0, 1.0)
    with open_store() as client:
        from kdops.registry.promotion import promote as promote_version

        change = promote_version(client, str(given), alias, most)
    shown = f"{change.uri.removeprefix('models:/')} (validation accuracy {change.accuracy:.4f})"
    if change.was_there:
        typer.echo(f"{shown} is {alias} already")
    elif not change.before:
        typer.echo(f"{shown} is now {alias}; nobody was before")
    else:
        before = f"{change.before.removeprefix('models:/')} ({change.before_accuracy:.4f})"
        typer.echo(
            f"{shown} is now {alias}, in place of {before}; kdops rollback {given.name} --alias {alias} takes it back"
        )
    if change.baseline is not None:
        typer.echo(
            f"Note: its accuracy is no more than the {change.baseline:.4f} of always answering the largest class; look "
            "at its recall of the others in classes-ROLE.csv of its study"
        )


def rollback(
    name: str = typer.Argument(metavar="NAME", help="the registered model, such as kdops-digits-student"),
    alias: str = typer.Option(ALIAS, "--alias", help="the alias whose last promotion is taken back", metavar="TEXT"),
) -> None:
    """Take the last promotion back: whoever had the alias before has it again."""
    name = check_name(name)
    _check_alias(alias)
    with open_store() as client:
        from kdops.registry.promotion import rollback as roll_back

        change = roll_back(client, name, alias)
    before = change.before.removeprefix("models:/") or "none"
    gone = f"; passed over, since deleted: {', '.join(change.gone)}" if change.gone else ""
    if change.uri:
        typer.echo(f"{change.uri.removeprefix('models:/')} is {alias} again, in place of {before}{gone}")
    else:
        typer.echo(f"nobody is {alias} of {name} now: {before} was the first")


def gc(
    yes: bool = typer.Option(False, "--yes", help="remove it; without this it is only listed"),
    missing: bool = typer.Option(False, "--missing-files", help="also versions whose files are gone, however many"),
) -> None:
    """List what failed studies left, with sizes: runs, models, versions without a model, old checkpoints."""
    with open_store() as client:
        from kdops.store.database import CHECKPOINTS, store_path
        from kdops.store.experiment import experiment_name
        from kdops.tracking.garbage import find_garbage, remove_garbage

        experiment = client.get_experiment_by_name(experiment_name())
        if experiment is None:
            typer.echo("Failed studies left nothing that can be removed.")
            return
        pieces = find_garbage(client, experiment.experiment_id, store_path(CHECKPOINTS), missing)
        for piece in pieces:
            typer.echo(_line(piece))
        going = [piece for piece in pieces if not piece.kept]
        if not going:
            typer.echo("Failed studies left nothing that can be removed.")
        elif not yes:
            typer.echo(f"{_count(going)}, {_size(going)}. Nothing was removed; kdops gc --yes removes it.")
        else:
            removed = []
            for piece in remove_garbage(client, experiment.experiment_id, going):
                if piece.kept:
                    typer.echo(_line(piece))
                else:
                    removed.append(piece)
            typer.echo(
                f"Removed {_count(removed) or 'nothing'}: {_size(removed)} of files are free at once. Runs and logged "
                "models are marked as deleted; mlflow gc takes their rows out of the database."
            )


def _check_alias(alias: str) -> None:
    if alias == schema.CHAMPION:
        raise UsageError(
            "alias", alias, f"every study sets it anew on its best model; use one of your own, such as {ALIAS}"
        )
    if not WORD.fullmatch(alias) or RESERVED.fullmatch(alias):
        raise UsageError(
            "alias", alias or "(empty)", "must be letters, digits, _ and -, and neither latest nor v and a number"
        )


def _line(piece: Piece) -> str:
    kept = f"; stays: {piece.kept}" if piece.kept else ""
    return f"{piece.kind:12}  {file_size(piece.size):>9}  {piece.name}  {piece.why}{kept}"


def _count(pieces: list[Piece]) -> str:
    kinds = dict.fromkeys(piece.kind for piece in pieces)
    counts = {kind: sum(piece.kind == kind for piece in pieces) for kind in kinds}
    return ", ".join(f"{n} {kind}{'s' if n != 1 and kind != 'files' else ''}" for kind, n in counts.items())


def _size(pieces: list[Piece]) -> str:
    return file_size(sum(piece.size for piece in pieces))


COMMANDS = (promote, rollback, gc)
"""The commands, in the order in which they are listed."""
