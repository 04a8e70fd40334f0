"""How a study is concluded: its answer, figures and note on its run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kdops.study.result_files import write_results, write_table
from kdops.study.summary import about, note, setting
from kdops.sweeps import schema
from kdops.sweeps.model import Model
from kdops.sweeps.unit import Context
from kdops.tracking.tracker import Tracker
from kdops.utils.files import temporary_folder
from kdops.verdicts.answer import ANSWER_FILE, Answer

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Conclusion:
    """What a study ends with.

    Attributes:
        answer: the closing table, the verdict and the findings.
        figures: by file name.
        tables: written beside ``results.csv``, by file name.
        report: write a report of the whole study.
    """

    answer: Answer
    figures: Mapping[str, Figure] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    report: bool = False


def log_answer(tracker: Tracker, models: Sequence[Model], context: Context, conclusion: Conclusion) -> list[str]:
    """Update the champions, and put results, figures, answer and note on the run.

    Returns:
        The URIs of the champions.
    """
    settings, answer = context.settings, conclusion.answer
    champions = [tracker.registry.update_champion(role) for role in sorted({model.role for model in models})]
    reused = [model.uri for model in models if model.reused]
    basis, more = setting(settings, context.data, context.split), about(settings.owner, settings.notes)
    tags = {
        schema.NOTE: note(answer.word or answer.title, answer.rows, answer.sentences, basis, more),
        schema.SELECT_ON: settings.select_on,
        **({schema.REUSED: schema.fitted(reused)} if reused else {}),
        **({schema.VERDICT: answer.word} if answer.word else {}),
    }
    with temporary_folder() as folder:
        write_results(folder, models, context, conclusion.figures)
        for name, table in conclusion.tables.items():
            write_table(table, folder / name)
        text = json.dumps({"study": tracker.entry_point, **answer.to_json()}, indent=2, allow_nan=False)
        (folder / ANSWER_FILE).write_text(f"{text}\n", encoding="utf-8")
        tracker.log(tags=tags, metrics=answer.statistics, artifacts=folder)
    return [uri for uri in champions if uri]


def log_report(tracker: Tracker) -> None:
    """Write the report of a study whose answer is logged, from its store alone."""
    from kdops.reporting.report import write_report

    with temporary_folder() as folder:
        write_report(tracker.stored(), folder)
        tracker.log(artifacts=folder)
