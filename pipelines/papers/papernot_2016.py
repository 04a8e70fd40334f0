"""Papernot, McDaniel, Wu, Jha and Swami (2016): defensive distillation.

    mlflow run . -e paper -P paper=papernot-2016

A first network is trained on labels with logits divided by T, a second one of the same architecture on its softened
outputs at the same T, and used at T = 1. Both are attacked by JSMA and FGSM, as the undefended network is. That the
first one resists as well, which learned no soft labels, is a claim of ours: our control for what distillation adds.
The networks are dense and small, the paper's are convolutional.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from kdops.config.methods import parse_method
from kdops.config.papers import PAPERS
from kdops.config.studies import PaperSettings
from kdops.papers import Statement
from kdops.study.summary import summarize
from kdops.sweeps.metrics import TEST_ACCURACY
from kdops.sweeps.model import Model, Sweep
from kdops.verdicts.answer import Answer

if TYPE_CHECKING:
    from kdops.study.study import Study

IMAGES = 100
"""Test images that each network is attacked with."""

JSMA, FGSM = "jsma(target=random)", "fgsm(epsilon=0.25)"
SUCCESS = "attack_{}_success"

SMALLER = "dense nets, a target drawn for each image; the paper has convolutional ones and all targets"

STATEMENTS: Mapping[str, Statement] = {
    "undefended": Statement(
        "JSMA against the undefended net: share of images that reach their target",
        "95 % of adversarial samples succeed",
        "abstract",
        "the mean over replicates is within the margin of it",
        published=(0.95,),
        interpreted=SMALLER,
        unit="accuracy",
    ),
    "defended": Statement(
        "JSMA against the net distilled at the highest temperature: likewise",
        "less than 0.5 % succeed",
        "abstract",
        "the mean over replicates is at most the margin above it",
        published=(0.0, 0.005),
        interpreted=SMALLER,
        unit="accuracy",
    ),
    "jsma": Statement(
        "success of JSMA: distilled at the highest temperature against undefended",
        "defensive distillation lowers the success of adversarial samples",
        "abstract",
        "the difference is below zero",
        interpreted=SMALLER,
    ),
    "temperature": Statement(
        "success of JSMA: distilled at the highest temperature against the lowest",
        "the higher the temperature, the fewer adversarial samples succeed",
        "section V.B, figure 7",
        "the difference is below zero",
        from_memory=True,
    ),
    "fgsm": Statement(
        "success of FGSM, epsilon = 0.25: distilled at the highest temperature against undefended",
        "it mitigates the fast gradient sign method too",
        "abstract of the technical report of Papernot and McDaniel, 2016",
        "the difference is below zero",
    ),
    "accuracy": Statement(
        "test accuracy: distilled at the highest temperature against undefended",
        "the defense costs at most 1.5 percentage points of accuracy",
        "section V.B",
        "the difference is above -1.5 percentage points",
        from_memory=True,
    ),
    "gradients": Statement(
        "share of images at which no probability has a derivative of 1e-10: distilled at the highest temperature "
        "against undefended",
        "gradients by the input are smaller by a factor of up to 10 to the 30th",
        "abstract",
        "the difference is above zero",
        interpreted="a derivative below 1e-10 is taken for one that has all but vanished",
    ),
    "first": Statement(
        "success of JSMA at the highest temperature: the net that learned soft labels against the first one, which "
        "learned labels at T",
        "ours: what stops JSMA is the temperature; soft labels add nothing",
        "section IV.B names the first network as a step of the defense only",
        "the difference is within the margin",
        interpreted="our control; the paper does not attack its first network",
    ),
    "calibration": Statement(
        "expected calibration error: distilled at the highest temperature, used at 1, against undefended",
        "ours: a net that is used at another temperature than it was trained at is worse calibrated",
        "section IV.A, where the temperature is set back to 1",
        "the difference is above zero",
        interpreted="our addition; the paper does not look at calibration",
    ),
}


def run(study: Study[PaperSettings]) -> Answer:
    """Train undefended and defended networks, attack them, and conclude."""
    from kdops.study.attacks import FAINT_GRADIENTS, attack_sweep, attacks_table, gradient_sweep
    from kdops.study.figures import metrics_figure

    settings = study.settings
    undefended, first, distilled = defended(study)
    study.stop_if_planned()

    def attacked(sweep: Sweep) -> Sweep:
        return gradient_sweep(study, attack_sweep(study, sweep, {"jsma": JSMA, "fgsm": FGSM}, IMAGES), IMAGES)

    undefended, first, distilled = map(attacked, (undefended, first, distilled))
    top, plain = distilled.at(distilled.temperatures[-1:]), undefended

    def change(metric: str, of: Sweep = top, against: Sweep = plain):
        return of.table(metric)[:, 0] - against.table(metric)[:, 0]

    jsma, fgsm = SUCCESS.format("jsma"), SUCCESS.format("fgsm")
    findings = (
        number(settings, "undefended", plain, "JSMA misleads the undefended net to its target on"),
        number(settings, "defended", top, "JSMA misleads the distilled net to its target on"),
        STATEMENTS["jsma"].below(change(jsma)),
        STATEMENTS["temperature"].below(change(jsma, top, distilled.at(distilled.temperatures[:1]))),
        STATEMENTS["fgsm"].below(change(fgsm)),
        STATEMENTS["accuracy"].above(change(TEST_ACCURACY), -0.015),
        STATEMENTS["gradients"].above(change(FAINT_GRADIENTS)),
        STATEMENTS["first"].within(change(jsma, top, first.at(first.temperatures[-1:])), settings.margin),
        STATEMENTS["calibration"].above(change("test_ece")),
    )
    rows = [
        summarize("undefended", undefended),
        *(summarize(f"labels at T = {t:g}", first.at([t])) for t in first.temperatures),
        *(summarize(f"distilled at T = {t:g}", distilled.at([t])) for t in distilled.temperatures),
    ]
    nets = {"distilled at T": distilled, "labels at T": first, "undefended": undefended}
    metrics = {
        "JSMA: share misled to a target": (jsma, 1.0),
        "FGSM: share misled": (fgsm, 1.0),
        "images without a gradient": (FAINT_GRADIENTS, 1.0),
        "test accuracy": (TEST_ACCURACY, 1.0),
    }
    return study.conclude(
        "papernot-2016",
        Answer.of(rows, findings=findings),
        figures={"figure-1-defense.png": metrics_figure(f"Defensive distillation, {settings.dataset}", nets, metrics)},
        tables={"attacks.csv": attacks_table(nets)},
        report=True,
    )


def defended(study: Study[PaperSettings]) -> tuple[Sweep, Sweep, Sweep]:
    """Return the undefended networks, those trained on labels at each temperature, and those distilled from them.

    The recipe of all of them is that of the student; a run of the second kind is at T = 0 in the store, and here at the
    temperature that its logits were divided by.
    """
    # No label, and no factor of T squared: the loss of the paper.
    plain = study.with_method(method=parse_method("logits(t_squared=false)"))
    recipe = study.settings.recipes["student"]
    undefended = plain.with_recipes(teacher=recipe).train("teacher")
    first: list[Model] = []
    distilled: list[Model] = []
    for temperature in study.settings.temperatures:
        own = plain.with_recipes(teacher=recipe.replace(train_temperature=temperature))
        teachers = own.train("teacher")
        first += [replace(model, temperature=temperature) for model in teachers.records]
        distilled += own.distill(teachers, "student", [temperature]).records
    return undefended, Sweep(tuple(first)), Sweep(tuple(distilled), hops=1)


def number(settings: PaperSettings, key: str, sweep: Sweep, what: str):
    """Compare the success of JSMA with that of the paper."""
    values = sweep.table(SUCCESS.format("jsma"))[:, 0]
    same = PAPERS[settings.paper].is_about(settings.origin)
    sentence = f"{what} {100 * values.mean():.2f} % of the images (n = {len(values)})."
    return STATEMENTS[key].number(values, sentence, margin=settings.margin, same_data=same)
