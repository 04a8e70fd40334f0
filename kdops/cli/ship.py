"""The commands for models that leave the store: ``candidates``, ``export``, ``predict``, ``tree``.

They check their arguments first, and load torch and MLflow only then.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kdops.cli.browse import check_words, open_store
from kdops.config.parsing import boolean
from kdops.config.uris import TYPED, check_model
from kdops.errors import KdopsError, UsageError, plain_line
from kdops.utils.garbage_collection import gc_paused
from kdops.utils.text import csv_text

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from kdops.packaging.export import Exported
    from kdops.packaging.loading import Loaded
    from kdops.reporting.candidates import ServingCost, Size
    from kdops.sweeps.model import Model
    from kdops.tracking.catalog import Catalog

FORMATS = ("onnx", "pt2")
"""As in :mod:`kdops.packaging.export`, which is slow to load; a test compares the two."""


def candidates(
    dataset: str = typer.Option("", "--dataset", help="of this data set [default: the only one]", metavar="TEXT"),
    role: str = typer.Option("", "--role", help="only this role, such as student", metavar="TEXT"),
    csv: bool = typer.Option(False, "--csv", help="print CSV: numbers in full"),
    figure: str = typer.Option("", "--figure", help="also draw accuracy over latency", metavar="FILE.png"),
) -> None:
    """Show which registered models are worth shipping: accuracy, latency, size, and the Pareto front."""
    check_words(role=role, dataset=dataset)
    drawing = _output("figure", figure, ".png") if figure else None
    # What is read and imported stays until the end: collecting garbage meanwhile would be a fifth of the time.
    with gc_paused(), open_store() as client:
        from kdops.reporting.candidates import candidates_csv, group_candidates, show_candidates
        from kdops.reporting.tables import choose
        from kdops.tracking.listing import list_registered

        catalog = list_registered(client)
        models = choose(catalog, role, _dataset(catalog, dataset))
        if not models:
            roles = ", ".join(sorted({m.role for m in catalog.registered() if m.dataset == dataset or not dataset}))
            raise UsageError("role", role, f"no registered model has this role; there are {roles}")
        groups = group_candidates(models, _measured(client, models))
    if csv:
        typer.echo(candidates_csv(groups), nl=False)
    else:
        show_candidates(groups)
    if drawing is not None:
        from kdops.reporting.candidates_figure import pareto_figure

        _save(pareto_figure(f"Registered models of {models[0].dataset}", groups).savefig, drawing)


def export(
    model: str = typer.Argument(metavar="MODEL", help=TYPED),
    file_format: str = typer.Option(..., "--format", help=", ".join(FORMATS), metavar="FORMAT"),
    output: str = typer.Option("", "--output", help="the file [default: NAME-VERSION with its ending]", metavar="FILE"),
    int8: str = typer.Option("false", "--int8", help="true: weights in int8 (onnx only)", metavar="TEXT"),
    data_root: str = typer.Option("", "--data-root", help="folder with the data, to compare on", metavar="FOLDER"),
) -> None:
    """Export a model as one file, and compare what it gives with the model itself."""
    check_model(model)
    if file_format not in FORMATS:
        raise UsageError("format", file_format or "(empty)", f"must be one of {', '.join(FORMATS)}")
    quantized = boolean("int8", int8)
    if quantized and file_format != "onnx":
        raise UsageError("int8", int8, f"is only to be had with format=onnx, not with {file_format}")
    given = _output("output", output, "") if output else None
    with open_store() as client:
        from kdops.packaging.export import check_packages, export_model
        from kdops.packaging.inputs import images_to_compare
        from kdops.packaging.loading import load_stored
        from kdops.tracking.catalog import data_of, find_registered

        check_packages(file_format, quantized)
        found = find_registered(client, model)
        path = given or _output("output", f"{found.name.replace('/', '-')}{'-int8' * quantized}.{file_format}", "")
        loaded = load_stored(client, found.uri)
        images, what = images_to_compare(found.dataset, data_of(client, found), loaded, data_root)
        _print_export(found, loaded, export_model(loaded, file_format, path, images, quantized), what)


def predict(
    model: str = typer.Argument(metavar="MODEL", help=TYPED),
    files: list[str] = typer.Argument(
        metavar="FILES...", help="image files, of a model of a table CSV files; or folders of them"
    ),
    csv: bool = typer.Option(False, "--csv", help="print CSV, with the probability of every class"),
    skip_bad: str = typer.Option("false", "--skip-bad", help="true: leave out what cannot be read", metavar="TEXT"),
) -> None:
    """Report the class of image files, or of the rows of CSV files, one line each: file, class, probability."""
    check_model(model)
    skip = boolean("skip_bad", skip_bad)
    _, loaded = _loaded(model)
    if not loaded.encoding and loaded.shape[0] not in (1, 3):
        raise UsageError("model", model, f"takes images of {loaded.shape[0]} channels, which no image file has")
    from kdops.packaging.inputs import read_examples

    examples = read_examples(files, loaded)
    for file, reason in examples.refused:
        print(f"kdops: {plain_line(file)}: {plain_line(reason)}", file=sys.stderr)
    if not examples.names or (examples.refused and not skip):
        raise typer.Exit(2)
    if examples.remark:
        print(plain_line(examples.remark), file=sys.stderr)
    _print_classes(examples.names, loaded, examples.values, csv)


def tree(
    model: str = typer.Argument(metavar="MODEL", help=f"of the family tree: {TYPED}"),
    file: str = typer.Argument("", metavar="[FILE]", help="an image file, whose way is drawn too"),
    output: str = typer.Option("tree.png", "--output", help="the figure", metavar="FILE.png"),
) -> None:
    """Draw the filters of a soft decision tree, and the way of an image through it."""
    check_model(model)
    drawing = _output("output", output, ".png")
    found, loaded = _loaded(model)
    from kdops.packaging.inputs import read_examples
    from kdops.packaging.trees import view_of, way_of
    from kdops.reporting.tree_figure import tree_figure

    view, way = view_of(loaded, model), None
    if file:
        examples = read_examples([file], loaded)
        if not len(examples.values):
            reason = examples.refused[0][1] if examples.refused else "has no image"
            raise UsageError("file", file, reason)
        way = way_of(loaded, model, examples.values[0])
    _save(tree_figure(found.name, view, way).savefig, drawing)
    if way is not None:
        classified = loaded.classes[int(view.leaves[way.leaf].argmax())]
        typer.echo(f"{plain_line(file)}  {plain_line(classified)}  leaf {way.leaf}, reached with {way.probability:.4f}")
    typer.echo(f"{drawing}")


def _loaded(model: str) -> tuple[Model, Loaded]:
    """Find a model that the caller named, and load it."""
    with open_store() as client:
        from kdops.packaging.loading import load_stored
        from kdops.tracking.catalog import find_registered

        found = find_registered(client, model)
        return found, load_stored(client, found.uri)


def _save(savefig: Callable[..., None], path: Path) -> None:
    try:
        savefig(path, dpi=150, format="png")
    except OSError as error:
        raise KdopsError(f"{path} cannot be written: {error.strerror or error}") from error


def _dataset(catalog: Catalog, given: str) -> str:
    """Return the data set that was asked for, or the only one there is."""
    there = sorted({model.dataset for model in catalog.registered()})
    if not there:
        raise KdopsError("the store has no models yet; train some first, such as: kdops main")
    if given and given not in there:
        raise UsageError("dataset", given, f"no registered model is of this data set; there are {', '.join(there)}")
    if not given and len(there) > 1:
        raise UsageError("dataset", "(empty)", f"must be one of {', '.join(there)}")
    return given or there[0]


def _measured(client, models: list[Model]) -> dict[Size, ServingCost]:
    """Load one model of each size and time it; one whose files are gone is reported, and the next one tried."""
    from kdops.packaging.latency import latency
    from kdops.packaging.loading import load_stored
    from kdops.reporting.candidates import ServingCost, size_of

    found: dict[Size, ServingCost] = {}
    failed: dict[Size, str] = {}
    for model in models:
        size = size_of(model)
        if size in found or failed.get(size, "").count("\n") >= 3:
            continue
        try:
            loaded = load_stored(client, model.uri)
        except KdopsError as error:
            failed[size] = f"{failed.get(size, '')}{error}\n"
            continue
        found[size] = ServingCost(latency(loaded.module, loaded.shape, 1), loaded.size)
    for size, reasons in failed.items():
        if size not in found:
            print(f"not measured: {size[0]}: {reasons.splitlines()[0]}", file=sys.stderr)
    return found


def _print_export(found: Model, loaded: Loaded, exported: Exported, what: str) -> None:
    from kdops.packaging.latency import latency
    from kdops.registry.card import example_of

    unit = example_of(loaded.encoding)
    one = f"1 {unit.split()[-1]}"
    size = f"{exported.size:,} bytes"
    size += f", {found.parameters:,} parameters" if found.parameters is not None else ""
    size += f", {found.flops:,} floating point operations {unit}" if found.flops is not None else ""
    typer.echo(f"{exported.path}: {found.name}, {size}")
    same = f"the same class on {100 * exported.agreement:.1f} %, outputs off by at most {exported.difference:.2g}"
    typer.echo(f"compared by {exported.checked_with} on {exported.images} {what}: {same}")
    own = [latency(loaded.module, loaded.shape, count) for count in (1, 64)]
    here = f"the model itself {1000 * own[0]:.3f} ms for {one}, {1000 * own[1]:.3f} ms for 64"
    if exported.latency_1 == exported.latency_1:  # not nan
        there = f"{1000 * exported.latency_1:.3f} ms for {one}, {1000 * exported.latency_64:.3f} ms for 64; "
    else:
        there = "not measured, install onnxruntime for that; "
    typer.echo(f"latency on one thread here: {there}{here}")


def _print_classes(files: list[str], loaded: Loaded, values: np.ndarray, csv: bool) -> None:
    probabilities = loaded.classify(values)
    highest, places = probabilities.max(axis=1), probabilities.argmax(axis=1)
    if csv:
        rows = zip(files, places.tolist(), probabilities.tolist(), strict=True)
        cells = [[file, loaded.classes[place], own[place], *own] for file, place, own in rows]
        typer.echo(csv_text(["file", "class", "probability", *loaded.classes], cells), nl=False)
        return
    for file, place, probability in zip(files, places.tolist(), highest.tolist(), strict=True):
        typer.echo(f"{plain_line(file)}  {plain_line(loaded.classes[place])}  {probability:.4f}")


def _output(parameter: str, text: str, ending: str) -> Path:
    """Check a file that is to be written.

    Raises:
        UsageError: its folder is not there, it is a folder itself, or its name ends otherwise.
    """
    path = Path(os.path.expanduser(text))
    if path.is_dir():
        raise UsageError(parameter, text, "must be a file, and this is a folder")
    if not path.parent.is_dir():
        raise UsageError(parameter, text, f"there is no folder {path.parent}")
    if ending and path.suffix.lower() != ending:
        raise UsageError(parameter, text, f"must end with {ending}")
    return path


COMMANDS = (candidates, export, predict, tree)
"""The commands, in the order in which they are listed."""
