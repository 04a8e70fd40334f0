"""The commands that read the store: ``runs``, ``lineage``, ``report``, ``compare``, ``papers``.

They load MLflow and pandas only once the arguments are checked, and torch never.
"""

from __future__ import annotations

import os
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kdops.cli.launch import absolute_store, working_folder
from kdops.config.papers import PAPERS
from kdops.config.uris import TYPED, check_model, check_study
from kdops.errors import MissingStoreError, UsageError
from kdops.utils.garbage_collection import gc_paused

if TYPE_CHECKING:
    from kdops.tracking.catalog import Catalog

NAME = re.compile(r"[\w./:-]*")


def runs(
    role: str = typer.Option("", "--role", help="only this role, such as student", metavar="TEXT"),
    dataset: str = typer.Option("", "--dataset", help="only this data set", metavar="TEXT"),
    source: str = typer.Option("", "--source", help="only models made from this one, or from labels", metavar="TEXT"),
    csv: bool = typer.Option(False, "--csv", help="print CSV: all columns, numbers in full"),
) -> None:
    """List the models of the store, the best by validation first."""
    check_words(role=role, dataset=dataset)
    if source not in ("", "labels"):
        check_model(source, "source")
    # What is read stays until the end: among ten thousand models collections took 0.6 s of 8.
    with open_store() as client, gc_paused():
        from kdops.reporting.tables import choose, models_csv, show_models
        from kdops.tracking.listing import list_registered
        from kdops.tracking.relatives import made_from

        catalog = list_registered(client, role)
        models = choose(catalog, role, dataset, source)
        if source not in ("", "labels"):
            # The URI may have named another model when some of them were made.
            made = made_from(client, catalog.resolve(source, "source"))
            models = [model for model in models if model.run_id in made]
        if csv:
            typer.echo(models_csv(models), nl=False)
        elif models:
            show_models(models)
        else:
            typer.echo(_none(list_registered(client), {"role": role, "dataset": dataset, "source": source}))


def lineage(
    model: str = typer.Argument(metavar="MODEL", help=TYPED),
    dot: bool = typer.Option(False, "--dot", help="print a graph for Graphviz"),
    everything: bool = typer.Option(False, "--all", help="show every model, also where there are many alike"),
) -> None:
    """Show where a model came from, up to the labels, and all that was distilled from it."""
    check_model(model)
    with open_store() as client:
        from kdops.reporting.lineage import ancestors, descendants, lineage_dot, lineage_lines
        from kdops.tracking.relatives import read_relatives

        relatives = read_relatives(client, model)
        up, down = ancestors(relatives, everything), descendants(relatives, everything)
        typer.echo(lineage_dot(up, down) if dot else "\n".join(lineage_lines(up, down)))


def report(
    study: str = typer.Argument(metavar="STUDY", help="the run id of a study, or its first 6 characters or more"),
    output: str = typer.Option("", "--output", help="folder to write to [default: report-ID here]", metavar="FOLDER"),
    latex: bool = typer.Option(False, "--latex", help="print the tables as LaTeX; with --output write report.tex too"),
) -> None:
    """Write the report of a study: Markdown with its figures, and one HTML page with everything in it."""
    check_study(study)
    folder = Path(os.path.expanduser(output)) if output else None
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError("output", output, "must be a folder, or nothing yet; this is a file")
    with open_store() as client:
        from kdops.reporting.report import report_folder, report_latex, write_report
        from kdops.tracking.stored_study import find_study, read_study

        found = read_study(client, find_study(client, study))
        if latex and folder is None:
            typer.echo(report_latex(found), nl=False)
            return
        for path in write_report(found, folder or Path(report_folder(found.run_id)), with_latex=latex):
            typer.echo(path)


def compare(
    first: str = typer.Argument(metavar="STUDY", help="the run id of a study, or its first 6 characters or more"),
    second: str = typer.Argument(metavar="STUDY", help="of another one"),
) -> None:
    """Show what differs between two studies: settings, data, versions, results."""
    for text in (first, second):
        check_study(text)
    with open_store() as client:
        from kdops.reporting.compare import compare_studies, show_comparison
        from kdops.tracking.stored_study import find_study, read_study

        one, other = (read_study(client, run_id) for run_id in [find_study(client, text) for text in (first, second)])
        show_comparison(one, other, compare_studies(one, other))


def papers(
    paper: str = typer.Argument("", metavar="[PAPER]", help="show the claims of this one", show_default=False),
) -> None:
    """List the papers whose claims can be tested: title, data, cost, and what this store last answered."""
    if paper and paper not in PAPERS:
        raise UsageError("paper", paper, f"must be one of {', '.join(PAPERS)}")
    answers = _last_answers()
    for name, one in PAPERS.items():
        if paper in ("", name):
            about = f"{len(one.statements())} claims on {', '.join(one.data)}; {one.cost}"
            typer.echo(f"{name}: {one.title}\n  {about}\n  {answers.get(name, 'not answered in this store')}")
    for claim in PAPERS[paper].statements().values() if paper else ():
        typer.echo(f"- {claim.what} ({claim.source}): {claim.shown}; replicates if {claim.test}")
    if not paper:
        typer.echo("kdops papers PAPER shows its claims, kdops paper --paper PAPER tests them.")


def _last_answers() -> dict[str, str]:
    """Return in a line what the store last answered on each paper; nothing where there is no store."""
    try:
        with open_store() as client:
            from kdops.tracking.stored_study import last_of_papers, read_study
            from kdops.verdicts.findings import describe_findings

            studies = {name: read_study(client, run_id) for name, run_id in last_of_papers(client).items()}
    except MissingStoreError:
        return {}
    last = {name: f"last answer {one.started:%Y-%m-%d}, run {one.run_id[:8]}" for name, one in studies.items()}
    return {name: f"{last[name]}: {describe_findings(one.findings())}" for name, one in studies.items()}


def check_words(**given: str) -> None:
    """Refuse a role or a data set that is not one word."""
    for name, text in given.items():
        if not NAME.fullmatch(text):
            raise UsageError(name, text, "must be one word of letters, digits and . / : - _")


def open_store() -> AbstractContextManager:
    """Open the store of this folder, or of ``MLFLOW_TRACKING_URI``: gives a client, see :mod:`kdops.store.database`."""
    uri = absolute_store(os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db", working_folder())
    registry = os.environ.get("MLFLOW_REGISTRY_URI")
    # MLflow asks a server that is not there again and again, for minutes; reading can as well be repeated by hand.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    from kdops.store.database import open_existing

    return open_existing(uri, absolute_store(registry, working_folder()) if registry else None)


def _none(catalog: Catalog, asked: dict[str, str]) -> str:
    """Return that nothing was found, and what there is."""
    given = " ".join(f"{name}={value}" for name, value in asked.items() if value)
    models = catalog.registered()
    if not models:
        return "The store has no models yet; train some first, such as: kdops main"
    roles = ", ".join(sorted({model.role for model in models}))
    datasets = ", ".join(sorted({model.dataset for model in models}))
    return f"No model fits {given}; the store has {len(models)}, of the roles {roles}, on {datasets}."


COMMANDS = (runs, lineage, report, compare, papers)
"""The commands, in the order in which they are listed."""
