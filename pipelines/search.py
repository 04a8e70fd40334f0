"""Search: the student worth shipping, over temperature and architecture at once.

    mlflow run . -e search -P dataset=gtsrb
    mlflow run . -e search -P space="temperature=1..20 hidden=16,32,64" -P trials=200

Every trial is distilled from one source and judged on validation images. The best of many trials is a lucky one, so
it is trained again with fresh seeds, and held against the best of a plain sweep over temperatures, trained again with
the same seeds. With several objectives that is done for every trial on the Pareto front.
Cost on two cores: half a minute on digits; on GTSRB about as much as four plain sweeps.
"""

from pathlib import Path

from kdops.cli.app import pipeline_main
from kdops.config.search import SearchSettings
from kdops.data.dataset import Dataset
from kdops.study.checks import check_study
from kdops.study.summary import summarize
from kdops.verdicts.answer import Answer


def check(settings: SearchSettings, data: Dataset) -> None:
    """Refuse what cannot be searched, before there is a run."""
    from kdops.search.search import check as check_search
    from kdops.study.sources import check_source

    check_study(settings, data)
    if settings.source:
        check_source(settings.source, data, settings.trust)
    check_search(settings, data)


def main(settings: SearchSettings, data: Dataset | None = None) -> None:
    """Run the study."""
    from kdops.study.study import open_study

    with open_study("search", settings, data) as study:
        run(study)


def run(study) -> None:
    """Search, train the best again, and conclude."""
    from kdops.search.search import Search
    from kdops.study.sources import find_source

    sources, remark = find_source(study, study.settings.source)
    search = Search(study, sources)
    search.run()
    with search.alone():
        plain = search.plain()
        found = search.found()
        study.conclude(
            "search",
            lambda: answer(study, search, sources, plain, found, remark),
            figures=search.figures,
            finish=lambda folder: write_trials(search, folder),
        )


def answer(study, search, sources, plain, found, remark: str) -> Answer:
    """Return what was found, and what it is worth against a plain sweep."""
    from kdops.verdicts import search_verdict

    (_, best), *others = found
    # A search for another thing than accuracy is not judged by accuracy.
    judged = not others and search.settings.objectives == ("accuracy",)
    verdict = search_verdict(best.accuracies(), plain.accuracies(), study.settings.margin) if judged else None
    rows = [
        *([summarize("source", sources)] if sources.records[0].metrics else []),
        *(summarize(f"trial {trial.number}, {described(trial)}", models) for trial, models in found),
        summarize(f"best of the sweep, T = {plain.records[0].temperature:g}", plain),
    ]
    told = (luck(search, trial, models) for trial, models in found)
    remarks = [gain(search, found, plain), *search.sentences(), *told, remark]
    return Answer(rows, verdict, remarks=[said for said in remarks if said], measured=search.measured())


def described(trial) -> str:
    """Name what a trial tried, the architecture first."""
    values = trial.values
    return f"{values['hidden']} x {values['depth']}, T = {values['temperature']:.3g}"


def luck(search, trial, models) -> str:
    """Return what a trial had on validation, and what the same settings have with fresh seeds."""
    values = ", ".join(f"{name}={written(value)}" for name, value in trial.values.items())
    told = zip(search.settings.objectives, trial.results, strict=True)
    results = ", ".join(f"{name} {value:.6g}" for name, value in told)
    metric = search.metric()
    again = models.table(metric).mean()
    return f"Trial {trial.number} ({values}) had {results}; with fresh seeds its {metric} is {again:.4f}."


def gain(search, found, plain) -> str:
    """Return how a search for a low loss compares with the sweep; accuracy has a verdict of its own."""
    if search.settings.objectives != ("val_nll",):
        return ""
    (_, best), *_ = found
    return search.difference("test_nll", best, plain)


def written(value) -> str:
    """Write a value as the space does, reals in four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value).lower()


def write_trials(search, folder: Path) -> None:
    """Write every trial as a row of ``trials.csv``."""
    search.table().to_csv(folder / "trials.csv", index=False)


if __name__ == "__main__":
    pipeline_main("search", main)
