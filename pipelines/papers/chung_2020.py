"""Chung, Park, Kim and Kwak (2020): nets that learn from each other's outputs, and deceive each other's discriminators.

    mlflow run . -e paper -P paper=chung-2020

Two students are trained together: independently, by each other's outputs alone, with last maps that are equal value by
value, and with last maps that a discriminator takes for the other's. The last is tried with a large net (``middle``)
beside a student too, and with three students, where each learns from one other or from both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kdops.config.companies import parse_company
from kdops.config.studies import PaperSettings
from kdops.data.dataset import Dataset
from kdops.papers import Statement, interpreted
from kdops.study.summary import summary_of
from kdops.verdicts.answer import Answer, Row

if TYPE_CHECKING:
    from kdops.study.study import Study

RATE = 0.0002
"""Highest rate of the optimizer of the maps: that of the paper moves little in a short training."""

OUTPUTS = "mutual(temperature=3)"
ALIGNED = f"aligned(rate={RATE:g})"
DECEIVED = f"adversarial(rate={RATE:g})"
FROM_ALL = f"adversarial(rate={RATE:g},cyclic=false)"

STATEMENTS: Mapping[str, Statement] = interpreted(
    f"small nets without batch normalization, few epochs, rate {RATE:g} for the maps",
    {
        "independent": Statement(
            "two students with adversarial maps against independent ones, mean of both",
            "nets that learn from each other's maps and outputs are better than nets trained alone",
            "abstract",
        ),
        "outputs": Statement(
            "two students with adversarial maps against those that learn from outputs alone",
            "maps carry knowledge that outputs do not",
            "abstract",
        ),
        "aligned": Statement(
            "two students with adversarial maps against those whose maps are to be equal",
            "adversarial training is better than direct alignment of maps",
            "abstract",
        ),
        "small and large": Statement(
            "what the student gains beside a large net, less what it gains beside another student",
            "most is gained where a small and a large net are trained together",
            "abstract",
        ),
        "cyclic": Statement(
            "three students that learn maps from one other each against those that learn from both",
            "the cyclic scheme is at least as good as all pairs",
            "section 3.3, cyclic learning",
            "the difference is above minus the margin",
            from_memory=True,
        ),
        "vote": Statement(
            "the vote of two students with adversarial maps against that of independent ones",
            "their gain stays where both nets are used",
            "section 4, our control",
            interpreted="the paper has no such control",
        ),
    },
)


def check(settings: PaperSettings, _: Dataset) -> None:
    """Refuse networks whose maps cannot be compared.

    Raises:
        UsageError: they are not convolutional, of as many layers.
    """
    parse_company(DECEIVED).check_nets([settings.recipes[role].architecture for role in ("student", "middle")])


def run(study: Study[PaperSettings]) -> Answer:
    """Train the companies, let them vote, and conclude."""
    student, large = (study.settings.recipes[role].architecture for role in ("student", "middle"))
    companies = {
        f"{len(nets)} nets{' (one large)' * (large in nets)}, {text}": study.train_together(parse_company(text), nets)
        for nets, texts in {
            (student,) * 2: ("independent", OUTPUTS, ALIGNED, DECEIVED),
            (student, large): ("independent", DECEIVED),
            (student,) * 3: (DECEIVED, FROM_ALL),
        }.items()
        for text in texts
    }
    study.stop_if_planned()

    from kdops.ensembles.voters import Voters

    alone, outputs, aligned, deceived, beside_alone, beside, cyclic, every = voters = [
        Voters(study, name, models) for name, models in companies.items()
    ]
    beside_large, beside_small = (
        pair.table[:, 0] - control.table[:, 0] for pair, control in ((beside, beside_alone), (deceived, alone))
    )
    findings = (
        STATEMENTS["independent"].above(deceived.members - alone.members),
        STATEMENTS["outputs"].above(deceived.members - outputs.members),
        STATEMENTS["aligned"].above(deceived.members - aligned.members),
        STATEMENTS["small and large"].above(beside_large - beside_small),
        STATEMENTS["cyclic"].above(cyclic.members - every.members, -study.settings.margin),
        STATEMENTS["vote"].above(deceived.vote - alone.vote),
    )
    rows = list[Row]()
    for one in voters:
        members, vote = one.rows()
        each = zip(("student", "large net"), one.table.T, strict=True) if one in (beside_alone, beside) else ()
        rows += [members, *(summary_of(f"{one.name}, {net}", len(own), own) for net, own in each), vote]
    return study.conclude("chung-2020", Answer.of(rows, findings=findings), report=True)
