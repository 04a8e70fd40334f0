"""The files of a study: every model in one table, the settings, the figures."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from kdops import __version__
from kdops.sweeps.model import Model
from kdops.sweeps.unit import Context
from kdops.utils.text import csv_cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PACKAGES = ("mlflow", "numpy", "torch", "torchvision")


def results_table(models: Sequence[Model]) -> pd.DataFrame:
    """Return one row a model: what it is, where it is, its metrics and its parameters."""
    return pd.DataFrame(
        [
            {
                "role": record.role,
                "chain": record.chain,
                "temperature": record.temperature,
                "seed": record.seed,
                "source": record.source,
                "model": record.uri,
                "run_id": record.run_id,
                "reused": record.reused,
                **record.metrics,
                **record.params,
            }
            for record in models
        ]
    )


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, in which no cell is a formula: classes are called whatever a folder or file says."""
    texts = table.select_dtypes(exclude=["number", "bool"])
    table.assign(**{name: texts[name].map(csv_cell) for name in texts}).to_csv(path, index=False)


def write_results(folder: Path, models: Sequence[Model], context: Context, figures: Mapping[str, Figure]) -> None:
    """Write ``results.csv``, ``settings.json`` and ``figures/*.png`` into a folder."""
    data, split = context.data, context.split
    write_table(results_table(models), folder / "results.csv")
    described = {
        "settings": context.settings.as_dict(),
        "data": {"name": data.name, "digest": data.digest, "notes": data.notes},
        "split": {
            "digest": split.digest,
            "teacher": len(split.teacher),
            "transfer": [len(part) for part in split.transfers],
            "validation": len(split.validation),
            "test": len(split.test),
        },
        "versions": {"kdops": __version__, **{name: version(name) for name in PACKAGES}},
        "machine": {"python": platform.python_version(), "system": platform.platform(terse=True)},
    }
    (folder / "settings.json").write_text(json.dumps(described, indent=2) + "\n")
    (folder / "figures").mkdir()
    for name, figure in figures.items():
        figure.savefig(folder / "figures" / name, dpi=130)
