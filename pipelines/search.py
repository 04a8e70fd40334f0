"""Search: the student worth shipping, over temperature and architecture at once.

    mlflow run . -e search -P dataset=gtsrb
    mlflow run . -e search -P space="temperature=1..20 hidden=16,32,64" -P trials=200

Every trial is distilled from one source and judged on validation images. The best of many trials is a lucky one, so
it is trained again with fresh seeds, and held against the best of a plain sweep over temperatures, trained again with
the same seeds. With several objectives that is done for every trial on the Pareto front.
Cost on two cores: half a minute on digits; on GTSRB about as much as four plain sweeps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdops.cli.app import pipeline_main
from kdops.config.methods import LOGITS
from kdops.config.samplers_and_pruners import NLL_OBJECTIVE
from kdops.config.search import SearchSettings
from kdops.config.search_space import METHOD
from kdops.data.dataset import Dataset
from kdops.study.checks import check_study
from kdops.study.summary import summarize
from kdops.sweeps.metrics import TEST_ACCURACY, TEST_NLL
from kdops.sweeps.model import Sweep
from kdops.verdicts.answer import Answer
from kdops.verdicts.claims import NO_VERDICT
from kdops.verdicts.search import search_verdict

if TYPE_CHECKING:
    from kdops.search.search import Search
    from kdops.search.trial import Trial
    from kdops.study.study import Study


def check(settings: SearchSettings, data: Dataset) -> None:
    """Refuse what cannot be searched, before there is a run."""
    from kdops.search.search import check as check_search

    check_study(settings, data)
    if settings.source:
        from kdops.study.sources import check_source

        check_source(settings, data)
    check_search(settings, data)


def main(settings: SearchSettings, data: Dataset | None = None) -> None:
    """Run the study."""
    from kdops.study.open import open_study

    with open_study("search", settings, data) as study:
        run(study)


def run(study: Study[SearchSettings]) -> Answer:
    """Search, train the best again, and conclude."""
    from kdops.search.open import open_search
    from kdops.study.sources import find_source

    sources, remark = find_source(study)
    search = open_search(study, sources)
    search.run()
    with search.alone():
        plain, found = search.plain(), search.found()
        return study.conclude(
            "search",
            answer(study.settings, search, sources, plain, found, remark),
            figures=search.figures(),
            tables={"trials.csv": search.table()},
        )


def answer(
    settings: SearchSettings,
    search: Search,
    sources: Sweep,
    plain: Sweep,
    found: list[tuple[Trial, Sweep]],
    remark: str,
) -> Answer:
    """Return what was found, and what it is worth against a plain sweep.

    Args:
        settings: of the study.
        search: the search.
        sources: what was distilled from.
        plain: the best of the plain sweep, trained with the fresh seeds.
        found: the trials that were trained again, and their models.
        remark: a sentence about the source, for the report.
    """
    (_, best), *others = found
    # A search for another thing than accuracy is not judged by accuracy.
    judged = not others and settings.objectives == ("accuracy",)
    verdict = search_verdict(best.accuracies(), plain.accuracies(), settings.margin) if judged else NO_VERDICT
    rows = [
        *([summarize("source", sources)] if TEST_ACCURACY in sources.records[0].metrics else []),
        *(summarize(f"trial {trial.number}, {describe_trial(settings, trial)}", models) for trial, models in found),
        summarize(f"best of the sweep, T = {plain.records[0].temperature:g}", plain),
    ]
    # A low loss has no verdict of its own.
    gain = search.difference(TEST_NLL, best, plain) if settings.objectives == (NLL_OBJECTIVE,) else ""
    again = [search.describe_again(trial, models) for trial, models in found]
    remarks = [text for text in (gain, *search.sentences(), *again, remark) if text]
    return Answer.of(rows, verdict, remarks=remarks, measured=search.measured())


def describe_trial(settings: SearchSettings, trial: Trial) -> str:
    """Name what a trial tried: its method where that is not plain distillation in all, the architecture, T."""
    values = trial.values
    method = (
        [str(values.get(METHOD, settings.method))] if METHOD in values or settings.method.name != LOGITS.name else []
    )
    sizes = " x ".join(str(values[name]) for name in ("hidden", "depth", "filters", "layers") if name in values)
    return ", ".join([*method, sizes, f"T = {values['temperature']:.3g}"])


if __name__ == "__main__":
    pipeline_main("search", main)
