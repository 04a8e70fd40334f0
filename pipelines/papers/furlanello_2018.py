"""Furlanello, Lipton, Tschannen, Itti and Anandkumar (2018): nets that are born again from nets like themselves.

    mlflow run . -e paper -P paper=furlanello-2018

Generation 0 learns hard labels; each later one, of the same architecture and with a fresh start, is distilled from the
one before, at T = 1 on the same images. As many nets on hard labels with other seeds are the control of their vote.
The paper's nets are deep convolutional ones on CIFAR, these are dense.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kdops.config.studies import PaperSettings
from kdops.papers import Statement, interpreted
from kdops.study.summary import summarize, summary_of
from kdops.verdicts.answer import Answer

if TYPE_CHECKING:
    from kdops.study.study import Study

GENERATIONS = 4

STATEMENTS: Mapping[str, Statement] = {
    **interpreted(
        "dense nets in the place of deep convolutional ones",
        {
            "born again": Statement(
                "generation 1 against generation 0, on hard labels",
                "a net distilled from one like itself is better than that one",
                "abstract",
            ),
            "generations": Statement(
                f"generation {GENERATIONS - 1} against generation 1",
                "later generations go on to gain",
                "section 3.1, sequence of teaching selves",
                from_memory=True,
            ),
            "vote": Statement(
                "the vote of all generations against the best of them by validation",
                "an ensemble of the generations gains over a single one",
                "section 3.2, born-again network ensembles",
                interpreted="a majority vote in the place of averaged outputs",
                from_memory=True,
            ),
        },
    ),
    "control": Statement(
        "the vote of all generations against the vote of as many nets on hard labels",
        "what generations gain is more than what an ensemble of any nets gains",
        "section 3.2, our control",
        interpreted="the paper has no such control",
    ),
}


def run(study: Study[PaperSettings]) -> Answer:
    """Train the generations and the control, let both vote, and conclude."""
    settings = study.settings
    names = [f"generation-{number}" for number in range(1, GENERATIONS)]
    own = study.with_recipes(**dict.fromkeys(names, settings.recipes["student"]))
    generations = [study.train("student")]
    for name in names:
        generations.append(own.distill(generations[-1], "student", [settings.temperature], stream=name))
    others = study.train("reseeded", images=study.transfer_images(0), copies=range(GENERATIONS))
    study.stop_if_planned()

    from kdops.ensembles.evaluation import EnsembleEvaluation
    from kdops.ensembles.voters import Voters

    seeds, control = settings.replicates(), Voters(study, "as many on labels", others)
    votes = EnsembleEvaluation(study, {s: [one for g in generations for one in g.of_seed(s)] for s in seeds})
    first, second, last = (generations[place].accuracies() for place in (0, 1, -1))
    vote = votes.of(GENERATIONS)
    findings = (
        STATEMENTS["born again"].above(second - first),
        STATEMENTS["generations"].above(last - second),
        STATEMENTS["vote"].above(vote - votes.single()),
        STATEMENTS["control"].above(vote - control.vote),
    )
    rows = [
        *(summarize(f"generation {number}", one) for number, one in enumerate(generations)),
        summary_of("the vote of the generations", GENERATIONS * len(seeds), vote),
        *control.rows(),
    ]
    return study.conclude("furlanello-2018", Answer.of(rows, findings=findings), report=True)
