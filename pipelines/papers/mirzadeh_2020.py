"""Mirzadeh, Farajtabar, Li, Levine, Matsukawa and Ghasemzadeh (2020): teacher assistants.

    mlflow run . -e paper -P paper=mirzadeh-2020

A small student is distilled from the teacher, from one assistant (``middle``), and along that and one or two smaller
ones: chains of two to five nets. All ways have the same temperatures, images and epochs; the assistant and the student
that count are the best by validation of each step. So the student chooses among as many temperatures on every way, and
a way via assistants has their choices beside. The assistants are dense, as the student is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kdops.config.architectures import parse_architecture
from kdops.config.settings import HARD
from kdops.config.studies import PaperSettings
from kdops.papers import Statement, interpreted
from kdops.study.summary import summarize
from kdops.verdicts.answer import Answer

if TYPE_CHECKING:
    from kdops.study.study import Study

SMALLER = tuple(parse_architecture(f"mlp(hidden={hidden},depth=1)") for hidden in (30, 20))
"""The second and the third assistant; the first is the net ``middle``."""

STATEMENTS: Mapping[str, Statement] = interpreted(
    "the best temperature by validation at every step; the authors' code chooses on test",
    {
        "distillation": Statement(
            "the student distilled from the teacher against the one on hard labels",
            "distillation helps",
            "section on results, table 1",
            from_memory=True,
        ),
        "assistant": Statement(
            "the student via one assistant against the direct one",
            "an assistant between teacher and student makes the student better",
            "abstract",
        ),
        "gain": Statement(
            "the student via one assistant against the direct one, by more than the margin",
            "the gain is large",
            "section on results, table 1",
            "the gain is above the margin",
            interpreted='"large" is taken as more than the margin',
            from_memory=True,
        ),
        "two": Statement(
            "the student via two assistants against the one via one",
            "a longer way of assistants makes the student better still",
            "section on the path of assistants, table 4",
            from_memory=True,
        ),
        "three": Statement(
            "the student via three assistants against the one via two",
            "so does one assistant more",
            "section on the path of assistants, table 4",
            from_memory=True,
        ),
    },
)


def run(study: Study[PaperSettings]) -> Answer:
    """Distill directly and along assistants, and conclude."""
    settings, temperatures = study.settings, study.settings.temperatures
    middle = settings.recipes["middle"]
    nets = (middle.architecture, *SMALLER)
    recipes = {f"assistant-{number}": middle.replace(architecture=net) for number, net in enumerate(nets, 1)}
    own = study.with_recipes(**recipes)
    teachers = study.train("teacher")
    direct = study.distill(teachers, "student", [HARD, *temperatures])
    ways, assistants, source = [], [], teachers
    for name in recipes:
        source = study.best(own.distill(source, "middle", temperatures, stream=name))
        assistants.append(source)
        ways.append(study.best(study.distill(source, "student", temperatures)))
    best = study.best(direct.soft())
    study.stop_if_planned()
    hard, plain, one, two, three = (sweep.accuracies() for sweep in (direct.hard(), best, *ways))
    findings = (
        STATEMENTS["distillation"].above(plain - hard),
        STATEMENTS["assistant"].above(one - plain),
        STATEMENTS["gain"].above(one - plain, settings.margin),
        STATEMENTS["two"].above(two - one),
        STATEMENTS["three"].above(three - two),
    )
    rows = [
        summarize("teacher", teachers),
        *(summarize(f"{n}, {r.architecture}", own) for (n, r), own in zip(recipes.items(), assistants, strict=True)),
        summarize("student, hard labels", direct.hard()),
        summarize("student, direct", best),
        summarize("student, via one assistant", ways[0]),
        *(summarize(f"student, via {number}", way) for number, way in zip(("two", "three"), ways[1:], strict=True)),
    ]
    return study.conclude("mirzadeh-2020", Answer.of(rows, findings=findings), report=True)
