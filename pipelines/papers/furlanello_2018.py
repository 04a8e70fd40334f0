"""Furlanello, Lipton, Tschannen, Itti and Anandkumar (2018): nets that are born again from nets like themselves.

    mlflow run . -e paper -P paper=furlanello-2018

Generation 0 learns hard labels; each later one, of the same architecture and with a fresh start, is distilled from the
one before, at T = 1 on the same images. As many nets on hard labels with other seeds are the control of their vote.
The paper's nets are deep convolutional ones on CIFAR, these are dense. Cost on two cores: seconds on digits; minutes
on GTSRB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from kdops.config.settings import HARD
from kdops.config.studies import PaperSettings
from kdops.papers import Statement
from kdops.study.summary import summarize, summary_of
from kdops.verdicts.answer import Answer

if TYPE_CHECKING:
    from kdops.study.study import Study

GENERATIONS = 4
DENSE = "dense nets in the place of deep convolutional ones"

STATEMENTS: Mapping[str, Statement] = {
    "born again": Statement(
        "generation 1 against generation 0, on hard labels",
        "a net distilled from one like itself is better than that one",
        "abstract",
        "the difference is above zero",
        interpreted=DENSE,
    ),
    "generations": Statement(
        f"generation {GENERATIONS - 1} against generation 1",
        "later generations go on to gain",
        "section 3.1, sequence of teaching selves",
        "the difference is above zero",
        interpreted=DENSE,
        from_memory=True,
    ),
    "vote": Statement(
        "the vote of all generations against the best of them by validation",
        "an ensemble of the generations gains over a single one",
        "section 3.2, born-again network ensembles",
        "the difference is above zero",
        interpreted=f"{DENSE}; a majority vote in the place of averaged outputs",
        from_memory=True,
    ),
    "control": Statement(
        "the vote of all generations against the vote of as many nets on hard labels",
        "what generations gain is more than what an ensemble of any nets gains",
        "section 3.2, our control",
        "the difference is above zero",
        interpreted="the paper has no such control",
    ),
}


def run(study: Study[PaperSettings]) -> Answer:
    """Train the generations and the control, let both vote, and conclude."""
    settings = study.settings
    names = [f"generation-{number}" for number in range(1, GENERATIONS)]
    recipes = {**settings.recipes, **dict.fromkeys(names, settings.recipes["student"])}
    own = study.with_settings(replace(settings, recipes=recipes))
    generations = [study.train("student")]
    for name in names:
        generations.append(own.distill(generations[-1], "student", [settings.temperatures[0]], stream=name))
    others = study.distill(generations[0], "reseeded", [HARD], copies=GENERATIONS)
    study.stop_if_planned()

    from kdops.ensembles.evaluation import EnsembleEvaluation

    seeds = settings.replicates()
    votes = EnsembleEvaluation(study, {s: [one for g in generations for one in g.of_seed(s)] for s in seeds})
    control = EnsembleEvaluation(study, {s: others.copies_of(s) for s in seeds})
    first, second, last = (generations[place].accuracies() for place in (0, 1, -1))
    vote, vote_of_others = votes.of(GENERATIONS), control.of(GENERATIONS)
    findings = (
        STATEMENTS["born again"].above(second - first),
        STATEMENTS["generations"].above(last - second),
        STATEMENTS["vote"].above(vote - votes.single()),
        STATEMENTS["control"].above(vote - vote_of_others),
    )
    rows = [
        *(summarize(f"generation {number}", one) for number, one in enumerate(generations)),
        summary_of("the vote of the generations", GENERATIONS * len(seeds), vote),
        summary_of("the vote of as many on labels", GENERATIONS * len(seeds), vote_of_others),
    ]
    return study.conclude("furlanello-2018", Answer.of(rows, findings=findings), report=True)
