"""Try models on classes that they never saw: how well their embedding tells them apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from kdops.errors import UsageError

if TYPE_CHECKING:
    from kdops.cli.probes.given import Given
    from kdops.data.dataset import Dataset
    from kdops.reporting.terminal import Side
    from kdops.sweeps.model import Model


HEAD: tuple[tuple[str, Side], ...] = (
    *(("model", "left"), ("unseen classes", "right"), ("recall@1", "right"), ("AUC", "right")),
)


def try_unseen(given: Given, unseen: str) -> None:
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
    PlainTable(HEAD, rows).print(plain_console())
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
    if len(set(names)) < max(2, len(names)) or not set(names) <= set(data.classes):
        raise UsageError("unseen", text, f"must be two or more of {', '.join(data.classes[:20])}, each once")
    return names
