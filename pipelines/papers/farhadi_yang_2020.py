"""Farhadi and Yang (2020): a source is asked about some frames of each video, chosen by a rule, and the student learns.

    mlflow run . -e paper -P paper=farhadi-yang-2020

The 30 frames of a track of GTSRB are the video. A student learns from the source's outputs for all frames of the
training tracks, or for one, three or ten of each that are chosen at random; also for the three last, in which the sign
is largest, and for the three that a first student is least sure of. All see equally many images in all; the last batch
of an epoch may be small, so that few frames can mean more steps. The paper adapts a detector while the video runs and
chooses frames by a recurrent net; online adaptation is not tested, since which test images are of one track was never
published. Data without tracks have classes cut into thirties, which decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kdops.config.studies import PaperSettings
from kdops.papers import Statement, interpreted
from kdops.study.summary import summarize
from kdops.sweeps.model import Model, Sweep
from kdops.verdicts.answer import Answer

if TYPE_CHECKING:
    from kdops.study.study import Study

COUNTS = (1, 3, 10, 30)
CHOSEN = 3
"""Frames of each track where rules are compared."""


def enough(count: int) -> Statement:
    """Return the statement that so many frames of each track are enough."""
    return Statement(
        f"students that learn from {count} of the {COUNTS[-1]} frames of each track against all",
        f"the source is needed on selected frames only: {count} of {COUNTS[-1]} are enough",
        "abstract",
        "the difference is above minus the margin",
        interpreted="how many frames are selected is ours",
    )


STATEMENTS: Mapping[str, Statement] = interpreted(
    "images of signs in the place of a detector's videos; equally many images seen in all",
    {
        "one": enough(COUNTS[0]),
        "three": enough(COUNTS[1]),
        "ten": enough(COUNTS[2]),
        "rule": Statement(
            f"{CHOSEN} frames that a first student is least sure of against {CHOSEN} at random",
            "frames that are selected by a rule teach more",
            "abstract",
            interpreted="the student's probability is the rule, where the paper has a recurrent net",
        ),
        "last": Statement(
            f"the {CHOSEN} last frames, in which the sign is largest, against {CHOSEN} at random",
            "the simplest rule of all does so too",
            "section on key frames, our control",
            interpreted="the paper has no such control",
        ),
    },
)


def run(study: Study[PaperSettings]) -> Answer:
    """Distill from some frames of each track, and conclude."""
    from kdops.study.key_frames import key_frames

    teachers = study.train("teacher")
    recipe, temperature, seeds = study.settings.recipes["student"], study.settings.temperature, teachers.seeds
    most = len(study.transfer_images(0).rows)

    def students(count: int, rule: str, first: Sequence[Model | None]) -> Sweep:
        records: list[Model] = []
        for seed, model in zip(seeds, first, strict=True):
            images = key_frames(study, count, rule, seed, model)
            own = study.with_recipes(student=recipe.replace(epochs=round(recipe.epochs * most / len(images.rows))))
            source = Sweep(teachers.of_seed(seed))
            records += own.distill(source, "student", [temperature], images=images).records
        return Sweep(tuple(records), hops=1)

    none = [None] * len(seeds)
    found = {count: students(count, "random", none) for count in COUNTS}
    chance = found[CHOSEN]
    unsure = students(CHOSEN, "unsure", [chance.of_seed(seed)[0] for seed in seeds])
    last = students(CHOSEN, "last", none)
    study.stop_if_planned()
    *few, every = (own.accuracies() for own in found.values())
    findings = (
        *(
            STATEMENTS[k].above(v - every, -study.settings.margin)
            for k, v in zip(("one", "three", "ten"), few, strict=True)
        ),
        STATEMENTS["rule"].above(unsure.accuracies() - chance.accuracies()),
        STATEMENTS["last"].above(last.accuracies() - chance.accuracies()),
    )
    rows = [
        summarize("teacher", teachers),
        *(summarize(f"student, {count} of {COUNTS[-1]} frames at random", own) for count, own in found.items()),
        summarize(f"student, the {CHOSEN} frames it is least sure of", unsure),
        summarize(f"student, the {CHOSEN} last frames", last),
    ]
    return study.conclude("farhadi-yang-2020", Answer.of(rows, findings=findings), report=True)
