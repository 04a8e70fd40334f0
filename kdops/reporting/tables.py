"""Tables on the terminal: the models of a store, the best by validation first, and the closing table of a study."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.text import Text

from kdops.reporting.terminal import PlainTable, Side, plain_console, plain_table
from kdops.sweeps.metrics import TEST_ACCURACY, VAL_ACCURACY, VAL_NLL
from kdops.sweeps.model import LABELS, Model
from kdops.sweeps.ranking import shipping_key
from kdops.sweeps.schema import is_uneven
from kdops.tracking.catalog import Catalog
from kdops.utils.text import accuracy_interval, csv_text
from kdops.verdicts.answer import Row

COLUMNS: dict[str, tuple[Side, Callable[[Model], str]]] = {
    "model": ("left", lambda m: m.name + " *" * m.champion),
    "role": ("left", lambda m: m.role),
    "chain": ("left", lambda m: m.chain),
    "T": ("right", lambda m: "-" if math.isnan(m.temperature) else f"{m.temperature:g}"),
    "seed": ("right", lambda m: str(m.seed)),
    "method": ("left", lambda m: m.method or "-"),
    "transfer": ("left", lambda m: m.transfer),
    "architecture": ("left", lambda m: m.architecture or "-"),
    "parameters": ("right", lambda m: "-" if m.parameters is None else str(m.parameters)),
    "val": ("right", lambda m: f"{m.val_accuracy:.4f}"),
    "test": ("right", lambda m: f"{m.test_accuracy:.4f}"),
    "source": ("left", lambda m: _source(m)),
}
"""Each column's side and cells."""

DISPENSABLE = ("role", "architecture", "parameters", "transfer", "source", "method", "chain", "seed")
"""The columns that a narrow terminal drops, in this order. The chain ends with the role."""


NUMBERS: dict[str, Callable[[Row], str]] = {
    "count": lambda row: str(row.models or "-"),
    "mean": lambda row: f"{row.accuracy.mean:.4f}",
    "95 % interval": lambda row: accuracy_interval(row.accuracy.low, row.accuracy.high) if row.models else "-",
    "balanced": lambda row: "-" if math.isnan(row.balanced) else f"{row.balanced:.4f}",
    "replicates": lambda row: str(row.accuracy.n if row.models else "-"),
}
"""The columns of a study's closing table, beside what they are of."""


def columns_of(rows: Sequence[Row]) -> dict[str, Callable[[Row], str]]:
    """Return the columns of a closing table: the balanced accuracy only where it is known of a row."""
    known = any(not math.isnan(row.balanced) for row in rows)
    return {name: cell for name, cell in NUMBERS.items() if known or name != "balanced"}


def choose(catalog: Catalog, role: str = "", dataset: str = "", source: str = "") -> list[Model]:
    """Choose registered models, best by validation first, see :func:`shipping_key`.

    Args:
        role: only this role; all if empty.
        dataset: only this data set; all if empty.
        source: only models made from this model, ``labels`` for those trained on labels; all if empty.

    Raises:
        UsageError: the source is not spelled as a model is, or has an alias that is not set.
    """
    wanted = source if source in ("", LABELS) else catalog.resolve(source, "source")
    chosen = [
        model
        for model in catalog.registered()
        if (not role or model.role == role)
        and (not dataset or model.dataset == dataset)
        and (not wanted or wanted in (model.sources or (LABELS,)))
    ]
    return sorted(chosen, key=_rank)


def models_csv(models: Sequence[Model]) -> str:
    """Return the models as CSV, numbers in full."""
    names = ["model", "champion", "role", "dataset", "chain", "temperature", "seed", "transfer", "split", "parameters"]
    names += [VAL_ACCURACY, VAL_NLL, TEST_ACCURACY, "source", "run_id", "method", "architecture"]
    rows = []
    for model in models:
        cells = {name: getattr(model, name) for name in names if name not in ("model", "champion", "source")}
        cells |= {
            "model": model.uri,
            "source": " ".join(model.sources) or LABELS,
            "champion": str(model.champion).lower(),
        }
        rows.append([cells[name] for name in names])
    return csv_text(names, rows)


def show_models(models: Sequence[Model], console: Console | None = None) -> None:
    """Print the models, each on one line.

    A terminal shows the columns that fit; what goes elsewhere (a file, ``grep``) has all of them.
    """
    console = console or plain_console()
    columns = list(COLUMNS)
    for name in DISPENSABLE if console.is_terminal else ():
        if _table(models, columns).width <= console.width:
            break
        columns.remove(name)
    _table(models, columns).print(console)
    left_out = [name for name in COLUMNS if name not in columns]
    champion = "* champion of its name. " if any(model.champion for model in models) else ""
    more = f"\nA wider window or --csv also shows {', '.join(left_out)}." if left_out else ""
    count = f"{len(models)} model{'s' if len(models) != 1 else ''}"
    balanced = ", balanced where classes differ much in size" if any(map(is_uneven, models)) else ""
    order = f"best validation accuracy first{balanced}; val and test are accuracies."
    console.print(f"{champion}{count}, {order}{more}", markup=False)


def show_answer(rows: Sequence[Row], sentences: Sequence[str], parent: str, console: Console | None = None) -> None:
    """Print the closing table of a study, its verdict, and where to look next.

    Args:
        sentences: the verdict's and others.
        console: where it is printed; the terminal if left out.
    """
    console = console or plain_console()
    console.print("Test accuracy, mean over temperatures and replicates")
    columns = columns_of(rows)
    sides: list[tuple[str, Side]] = [("models", "left"), *((name, "right") for name in columns)]
    table = plain_table(sides, wraps="models")
    for row in rows:
        table.add_row(Text(row.what), *(cell(row) for cell in columns.values()))
    console.print(table)
    for sentence in sentences:
        console.print(sentence, markup=False)
    console.print(f"Run {parent}; look at it with: kdops ui", markup=False)


def _table(models: Sequence[Model], columns: Sequence[str]) -> PlainTable:
    shown = [COLUMNS[name] for name in columns]
    rows = ([cell(model) for _, cell in shown] for model in models)
    return PlainTable([(name, COLUMNS[name][0]) for name in columns], rows)


def _source(model: Model) -> str:
    """Return what a model was made from; of an ensemble how many members it has."""
    if len(model.sources) > 1:
        return f"{len(model.sources)}{' or more' if model.cut else ''} members"
    return (" ".join(model.sources) or LABELS).removeprefix("models:/")


def _rank(model: Model) -> tuple[float | str, ...]:
    """Order as :func:`shipping_key` says, then the lower version first; what is unknown comes last."""
    unknown = math.isnan(model.val_accuracy)
    return *((math.inf,) * 2 if unknown else shipping_key(model)), *model.place
