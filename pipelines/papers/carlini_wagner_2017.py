"""Carlini and Wagner (2017): defensive distillation against attacks that follow the logits.

    mlflow run . -e paper -P paper=carlini-wagner-2017

The networks are those of papernot-2016: undefended, and distilled at T. They are attacked by the three attacks of the
paper, to any other class, and by FGSM and JSMA once more with the logits divided by T.
The networks are dense and small, the paper's are convolutional.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import prod, sqrt
from typing import TYPE_CHECKING

from kdops.config.papers import PAPERS
from kdops.config.studies import PaperSettings
from kdops.papers import Statement
from kdops.study.summary import summarize
from kdops.sweeps.model import Sweep
from kdops.verdicts.answer import Answer
from pipelines.papers.papernot_2016 import FGSM, JSMA, SUCCESS, defended

if TYPE_CHECKING:
    from kdops.study.study import Study

IMAGES = 30
"""Test images that each network is attacked with."""

ATTACKS = {"cw0": "l0", "cw2": "l2", "cwinf": "linf"}
"""The attacks of the paper, each with the distance that it makes small."""

MORE = 0.1
"""A mean distance that grows by less than this part of it counts as no larger."""

NEAREST = "dense nets, any other class counts as success; the paper has convolutional ones and targets"
DIVIDED = "section IV (on vanishing gradients)"

STATEMENTS: Mapping[str, Statement] = {
    **{
        name: Statement(
            f"{name} against nets distilled at T, all T: share of images misled",
            f"the attack for {distance.replace('l', 'L')} succeeds on 100 % with defensively distilled nets",
            "abstract",
            "the mean over replicates is within the margin of it",
            published=(1.0,),
            interpreted=NEAREST,
            unit="accuracy",
        )
        for name, distance in ATTACKS.items()
    },
    "undefended": Statement(
        "the three attacks against the undefended net: share of images misled",
        "all three succeed on 100 % with undefended nets",
        "abstract",
        "the mean over replicates is within the margin of it",
        published=(1.0,),
        interpreted=NEAREST,
        unit="accuracy",
    ),
    "distance": Statement(
        "mean L2 distance of cw2: what distillation at the highest temperature adds to that of the undefended net, as "
        "a part of it",
        "distillation makes adversarial samples only slightly farther, or not at all",
        "section VIII.A, table VI",
        f"the part is below {MORE:g}",
        interpreted=f'"slightly" is taken as {MORE:g} of the distance',
        from_memory=True,
        unit="part",
    ),
    "temperature": Statement(
        "mean L2 distance of cw2: the highest temperature against the lowest, as a part of it",
        "the distance does not grow with T (correlation -0.05)",
        "section VIII.C, figure 9",
        f"the part is below {MORE:g}",
        interpreted=f"growth by less than {MORE:g} counts as none",
        from_memory=True,
        unit="part",
    ),
    "fgsm": Statement(
        "success of FGSM, epsilon = 0.25: the highest temperature against undefended",
        "gradients vanish, so attacks that follow the softmax fail on distilled nets",
        DIVIDED,
        "the difference is below zero",
        from_memory=True,
    ),
    "fgsm divided": Statement(
        "success of FGSM with the logits divided by T: the highest temperature against undefended",
        "once the logits are divided by T the attack works as on an undefended net",
        DIVIDED,
        "the difference is above minus the margin",
        interpreted="the paper says so of JSMA and L-BFGS",
        from_memory=True,
    ),
    "jsma divided": Statement(
        "success of JSMA with the logits divided by T: the highest temperature against undefended",
        "dividing the logits by T is enough to break defensive distillation by JSMA",
        DIVIDED,
        "the difference is above minus the margin",
        from_memory=True,
    ),
    "fewer": Statement(
        "pixels that cw0 changes on the undefended net against those that JSMA changes, as a part of them",
        "the attacks are often much more effective than earlier ones, and never worse",
        "abstract",
        "the difference is below zero",
        interpreted="means over the images that each misleads, both to any class",
        unit="part",
    ),
    "rounded": Statement(
        "cw2 on the distilled nets: share misled once images are rounded to uint8, less that before",
        "ours: rounding to whole pixel values brings many of the nearest images back to their class",
        "section VIII names the rounding as a matter of implementation",
        "the difference is below minus the margin",
        interpreted="our addition; a deployed model takes uint8, and the paper searches on that grid afterwards",
    ),
}


def run(study: Study[PaperSettings]) -> Answer:
    """Attack undefended and distilled networks, and conclude."""
    from kdops.study.attacks import attack_sweep, attacks_table
    from kdops.study.figures import metrics_figure

    settings = study.settings
    undefended, _, distilled = defended(study)
    study.stop_if_planned()
    top, low = distilled.temperatures[-1], distilled.temperatures[0]

    attacks = {**{one: one for one in ATTACKS}, "fgsm": FGSM, "jsma": JSMA, "jsma_any": "jsma"}
    undefended, distilled = (attack_sweep(study, sweep, attacks, IMAGES) for sweep in (undefended, distilled))
    tempered = {f"{name}_divided": f"{attacks[name][:-1]},temperature={top:g})" for name in ("fgsm", "jsma")}
    divided = attack_sweep(study, distilled.at([top]), tempered, IMAGES)

    def of(metric: str, sweep: Sweep = undefended):
        return sweep.table(metric)[:, 0]

    fgsm, jsma, cw2 = (SUCCESS.format(name) for name in ("fgsm", "jsma", "cw2"))
    far, near, plain = (of("attack_cw2_l2", sweep) for sweep in (divided, distilled.at([low]), undefended))
    fewest, jsmas = of("attack_cw0_l0"), of("attack_jsma_any_l0")
    rounded = distilled.table("attack_cw2_success_rounded") - distilled.table(cw2)
    each, soft = ([sweep.table(SUCCESS.format(name)) for name in ATTACKS] for sweep in (undefended, distilled))
    findings = (
        *map(partial(number, settings), ("cw0", "cw2", "cwinf"), (misled.mean(axis=1) for misled in soft)),
        number(settings, "undefended", (sum(each[1:], each[0]) / len(each))[:, 0]),
        STATEMENTS["distance"].below(far / plain - 1, MORE),
        STATEMENTS["temperature"].below(far / near - 1, MORE),
        STATEMENTS["fgsm"].below(of(fgsm, divided) - of(fgsm)),
        STATEMENTS["fgsm divided"].above(of("attack_fgsm_divided_success", divided) - of(fgsm), -settings.margin),
        STATEMENTS["jsma divided"].above(of("attack_jsma_divided_success", divided) - of(jsma), -settings.margin),
        STATEMENTS["fewer"].below(fewest / jsmas - 1),
        STATEMENTS["rounded"].below(rounded.mean(axis=1), -settings.margin),
    )
    rows = [
        summarize("undefended", undefended),
        *(summarize(f"distilled at T = {t:g}", distilled.at([t])) for t in distilled.temperatures),
    ]
    nets, values = {"distilled at T": distilled, "undefended": undefended}, prod(study.data.shape)
    success = {f"{name}: share misled": (SUCCESS.format(name), 1.0) for name in (*ATTACKS, "fgsm", "jsma", "jsma_any")}
    distances = {
        "cw2: root mean square change": ("attack_cw2_l2", sqrt(values)),
        "cwinf: largest change": ("attack_cwinf_linf", 1.0),
        "cw0: share of pixels": ("attack_cw0_l0", values / study.data.shape[0]),
        "JSMA: share of pixels": ("attack_jsma_any_l0", values / study.data.shape[0]),
    }
    return study.conclude(
        "carlini-wagner-2017",
        Answer.of(rows, findings=findings),
        figures={
            "figure-1-success.png": metrics_figure(f"Attacks on {settings.dataset}", nets, success),
            "figure-2-distance.png": metrics_figure(f"What they change, {settings.dataset}", nets, distances, 0.3),
        },
        tables={"attacks.csv": attacks_table({**nets, "logits divided by T": divided})},
        report=True,
    )


def number(settings: PaperSettings, key: str, values):
    """Compare a share of images with that of the paper."""
    same = PAPERS[settings.paper].is_about(settings.origin)
    sentence = f"{100 * values.mean():.2f} % of the images are misled (n = {len(values)})."
    return STATEMENTS[key].number(values, sentence, margin=settings.margin, same_data=same)
