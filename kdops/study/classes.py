"""Which classes a model of a study takes for which, as files of the study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from kdops.sweeps.model import Model

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from kdops.config.settings import Settings
    from kdops.study.study import Study


def class_files(study: Study[Settings], model: Model) -> tuple[Mapping[str, pd.DataFrame], Mapping[str, Figure]]:
    """Return the table of a model's classes and the figure of what it takes for what, on test, by file name."""
    from kdops.reporting.classes import class_table, confusion_figure

    classes, labels = study.data.classes, study.data.labels[study.split.test]
    cells = np.bincount(labels * len(classes) + study.predictions(model), minlength=len(classes) ** 2)
    counts = cells.reshape(len(classes), len(classes))
    title = f"What {model.name or model} predicts, {study.settings.dataset}, {len(labels):,} test {study.data.unit}"
    return (
        {f"classes-{model.role}.csv": class_table(counts, classes)},
        {f"confusion-{model.role}.png": confusion_figure(title, counts, classes)},
    )
