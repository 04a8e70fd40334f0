"""The distillation methods by name, with their options and bounds, and the text that one is chosen by. No torch here.

A new method is one file in ``kdops/distillation/`` and one entry in ``METHODS``. Its name, options and bounds are then
known to the command line (``method="dkd(beta=2)"``), the run parameter ``method``, the search space, the fingerprint
and the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kdops.config.composed import ASSISTANT, Network, joined_logits, joined_maps, reused
from kdops.config.method_kinds import MapSpec, ModifierSpec
from kdops.config.method_specs import PLAIN, ChosenMethod, MethodSpec, choose
from kdops.config.options import Choice, Flag, Integer, Real, Several, Text
from kdops.errors import UsageError

METHODS: Mapping[str, MethodSpec] = {
    "logits": MethodSpec(
        "kdops.distillation.logits:LogitDistillation",
        "the softened outputs of the source",
        "Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015",
        alpha=Real(0, 1, default=1.0),
        t_squared=Flag(True),
    ),
    "dkd": MethodSpec(
        "kdops.distillation.dkd:DecoupledDistillation",
        "the probability of the label, and the distribution of the other classes, each with a weight",
        "Zhao et al., Decoupled Knowledge Distillation, 2022",
        reads_labels=True,
        alpha=Real(0, 100, default=1.0),
        beta=Real(0, 100, default=8.0),
        warmup=Real(0, 1, default=0.08),
    ),
    "dist": MethodSpec(
        "kdops.distillation.dist:CorrelationDistillation",
        "the correlation of the softened outputs, over the classes and over the batch",
        "Huang et al., Knowledge Distillation from A Stronger Teacher, 2022",
        beta=Real(0, 1000, default=1.0),
        gamma=Real(0, 1000, default=1.0),
        t_squared=Flag(False),
    ),
    "nkd": MethodSpec(
        "kdops.distillation.nkd:NormalizedDistillation",
        "the probability of the label, and the distribution of the other classes among themselves",
        "Yang et al., From Knowledge Distillation to Self-Knowledge Distillation, 2023",
        reads_labels=True,
        gamma=Real(0, 100, default=1.5),
    ),
    "wsld": MethodSpec(
        "kdops.distillation.wsld:WeightedDistillation",
        "the softened outputs, each image weighted by how much better the source knows its label",
        "Zhou et al., Rethinking Soft Labels for Knowledge Distillation, 2021",
        reads_labels=True,
        alpha=Real(0, 100, default=2.5),
        t_squared=Flag(True),
    ),
    "mse": MethodSpec(
        "kdops.distillation.mse:LogitMatching",
        "the logits themselves",
        "Ba and Caruana, Do Deep Nets Really Need to be Deep?, 2014",
        alpha=Real(0, 1, default=1.0),
    ),
    "multilevel": MethodSpec(
        "kdops.distillation.multilevel:MultiLevelDistillation",
        "softened outputs at several temperatures, and their products over images and over classes",
        "Jin, Wang and Lin, Multi-Level Logit Distillation, 2023",
        instance=Real(0, 1000, default=1.0),
        batch=Real(0, 1000, default=1.0),
        classes=Real(0, 1000, default=1.0),
        factors=Several(Real(0, 100, open_low=True), default=(0.5, 0.75, 1.0, 1.25, 1.5)),
    ),
    "smoothing": MethodSpec(
        "kdops.distillation.smoothing:LabelSmoothing",
        "labels that leave a share to the other classes; a control without a source",
        "Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2016",
        is_control=True,
        amount=Real(0, 1, default=0.1),
    ),
    "virtual": MethodSpec(
        "kdops.distillation.virtual:VirtualTeacher",
        "a source that is right and equally unsure of all others; a control without a source",
        "Yuan et al., Revisiting Knowledge Distillation via Label Smoothing Regularization, 2020",
        reads_labels=True,
        is_control=True,
        correct=Real(0.5, 1, default=0.99, open_high=True),
        alpha=Real(0, 1, default=1.0),
        t_squared=Flag(True),
    ),
    "tempered": MethodSpec(
        "kdops.distillation.tempered:TemperedLabels",
        "the labels, at the temperature; a control without a source",
        "Guo et al., On Calibration of Modern Neural Networks, 2017",
        reads_labels=True,
        is_control=True,
        power=Real(0, 2, default=1.0),
    ),
    "standardize": ModifierSpec(
        "kdops.distillation.standardize:Standardized",
        "a method on logits, with each image's logits brought to mean 0 and deviation 1",
        "Sun et al., Logit Standardization in Knowledge Distillation, 2024",
        methods=lambda: METHODS,
        changes_logits=True,
    ),
    "shuffled": ModifierSpec(
        "kdops.distillation.shuffled:Shuffled",
        "a method, with the source's outputs for another image; a control without knowledge of the image",
        "Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015",
        reads_labels=True,
        methods=lambda: METHODS,
        is_control=True,
        within=Choice(("class", "all"), "class"),
    ),
    "pair": ModifierSpec(
        "kdops.distillation.pair:Pair",
        "a method, by the sum of two networks' logits, both of which are deployed; a control of residual",
        "Gao et al., Residual Knowledge Distillation, 2020",
        methods=lambda: METHODS,
        is_stacked=False,
        control_of="residual",
        deploys=joined_logits,
        assistant=Network(ASSISTANT),
    ),
    "rkd": MethodSpec(
        "kdops.distillation.rkd:RelationalDistillation",
        "distances and angles between the embeddings of a batch",
        "Park et al., Relational Knowledge Distillation, 2019",
        "embedding",
        compares_logits=False,
        distance=Real(0, 10_000, default=25.0),
        angle=Real(0, 10_000, default=50.0),
        vertices=Integer(0, 1_000_000),
    ),
    "curriculum": MethodSpec(
        "kdops.distillation.curriculum:CurriculumTemperature",
        "the softened outputs, at a temperature that is learned against the student",
        "Li et al., Curriculum Temperature for Knowledge Distillation, 2023",
        has_modules=True,
        low=Real(0, 1000, default=1.0, open_low=True),
        high=Real(0, 1000, default=21.0, open_low=True),
        rise=Real(0, 1, default=0.04),
        alpha=Real(0, 1, default=1.0),
    ),
    "hint": MethodSpec(
        "kdops.distillation.hint:EmbeddingHint",
        "the embedding, through a dense layer",
        "Romero et al., FitNets: Hints for Thin Deep Nets, 2015",
        "embedding",
        compares_logits=False,
        has_modules=True,
        weight=Real(0, 100_000, default=1.0),
    ),
    "pkt": MethodSpec(
        "kdops.distillation.pkt:ProbabilisticTransfer",
        "which images of a batch are near to which in the embedding, as probabilities",
        "Passalis and Tefas, Learning Deep Representations with Probabilistic Knowledge Transfer, 2018",
        "embedding",
        compares_logits=False,
        weight=Real(0, 1_000_000, default=500.0),
    ),
    "sp": MethodSpec(
        "kdops.distillation.sp:SimilarityPreserving",
        "how alike the images of a batch are in the embedding, row by row",
        "Tung and Mori, Similarity-Preserving Knowledge Distillation, 2019",
        "embedding",
        compares_logits=False,
        weight=Real(0, 1_000_000, default=3000.0),
    ),
    "cc": MethodSpec(
        "kdops.distillation.cc:CorrelationCongruence",
        "the correlation of the images of a batch in the embedding, by a Gaussian kernel",
        "Peng et al., Correlation Congruence for Knowledge Distillation, 2019",
        "embedding",
        compares_logits=False,
        weight=Real(0, 1_000_000, default=100.0),
        gamma=Real(0, 100, default=0.4, open_low=True),
        order=Integer(1, 10, 2),
    ),
    "simkd": MethodSpec(
        "kdops.distillation.simkd:ReusedClassifier",
        "the source's last map, through a projector; the source's last layer is deployed with it",
        "Chen et al., Knowledge Distillation with the Reused Teacher Classifier, 2022",
        compares_logits=False,
        is_stacked=False,
        deploys=reused,
        factor=Integer(1, 1000, 2),
    ),
    "residual": MethodSpec(
        "kdops.distillation.residual:ResidualDistillation",
        "the source's maps; an assistant, which is deployed too, learns what the student leaves of them",
        "Gao et al., Residual Knowledge Distillation, 2020",
        compares_logits=False,
        has_modules=True,
        is_stacked=False,
        deploys=joined_maps,
        assistant=Network(ASSISTANT),
        weight=Real(0, 100_000, default=1.0),
    ),
    "fitnet": MethodSpec(
        "kdops.distillation.fitnet:HintDistillation",
        "a layer of the source first, through a regressor, then its softened outputs",
        "Romero et al., FitNets: Hints for Thin Deep Nets, 2015",
        "at",
        has_modules=True,
        is_stacked=False,
        phases=2,
        source_tap="hint",
        at=Text("stage2"),
        hint=Text(),
        share=Real(0, 1, default=0.3, open_low=True, open_high=True),
        alpha=Real(0, 1, default=1.0),
        t_squared=Flag(True),
    ),
    "crd": MethodSpec(
        "kdops.distillation.crd:ContrastiveDistillation",
        "which images are the same in both networks' embeddings, against images of other classes",
        "Tian et al., Contrastive Representation Distillation, 2020",
        "embedding",
        reads_labels=True,
        compares_logits=False,
        has_modules=True,
        weight=Real(0, 10_000, default=0.8),
        negatives=Integer(1, 65_536, 128),
        tau=Real(0.01, 100, default=0.07),
        dim=Integer(1, 10_000, 32),
        momentum=Real(0, 1, default=0.5, open_high=True),
        mode=Choice(("exact", "relax"), "exact"),
    ),
    "attention": MapSpec(
        "kdops.distillation.attention:AttentionTransfer",
        "where in the picture layers of the source are active",
        "Zagoruyko and Komodakis, Paying More Attention to Attention, 2017",
        weight=Real(0, 1_000_000, default=1000.0),
        p=Real(1, 4, default=2.0),
        mode=Choice(("code", "paper"), "code"),
    ),
    "vid": MapSpec(
        "kdops.distillation.vid:VariationalInformation",
        "layers of the source as the student's own can tell them, each channel with a variance",
        "Ahn et al., Variational Information Distillation for Knowledge Transfer, 2019",
        weight=Real(0, 1_000_000, default=1.0),
        variance=Real(0, 1000, default=5.0, open_low=True),
        eps=Real(0, 1, default=1e-5, open_low=True),
        channels=Integer(0, 10_000),
    ),
    "fsp": MapSpec(
        "kdops.distillation.fsp:FlowDistillation",
        "how each layer of the source flows into the next first, then its softened outputs or labels",
        "Yim et al., A Gift from Knowledge Distillation, 2017",
        fewest=2,
        compares_logits=True,
        phases=2,
        share=Real(0, 1, default=0.3, open_low=True, open_high=True),
        alpha=Real(0, 1, default=0.0),
        t_squared=Flag(True),
        pool=Choice(("max", "average"), "max"),
    ),
    "ofd": MapSpec(
        "kdops.distillation.ofd:FeatureOverhaul",
        "what goes into the activations of the source, as far as it may pass them",
        "Heo et al., A Comprehensive Overhaul of Feature Distillation, 2019",
        layers=("stage1.before", "stage2.before"),
        weight=Real(0, 1_000_000, default=0.001),
    ),
    "review": MapSpec(
        "kdops.distillation.review:KnowledgeReview",
        "each layer of the source from the student's layer and all those behind it",
        "Chen et al., Distilling Knowledge via Knowledge Review, 2021",
        weight=Real(0, 1_000_000, default=1.0),
        warmup=Real(0, 1, default=0.08),
        channels=Integer(0, 10_000),
    ),
}

LOGITS = choose(PLAIN, "method", METHODS)
"""The method where none is named, with its defaults."""


def parse_method(text: str, parameter: str = "method") -> ChosenMethod:
    """Parse ``name`` or ``name(option=value,...)``; an option that is not given has its default.

    Raises:
        UsageError: for an unknown method or option, a doubled option, or a value that is not allowed.
    """
    return choose(text, parameter, METHODS)


def with_shorthand(text: str, alpha: float, t_squared: bool) -> ChosenMethod:
    """Parse a method beside the parameters ``alpha`` and ``t_squared``, which stand for those options of ``logits``.

    Args:
        alpha: the parameter of that name; its default counts as not given.
        t_squared: likewise.

    Raises:
        UsageError: the method is refused, or a shorthand is given with another method or beside the option itself.
    """
    method = parse_method(text)
    shorthand = {"alpha": alpha, "t_squared": t_squared}
    given = {name: value for name, value in shorthand.items() if value != METHODS["logits"].options[name].default}
    for name, value in given.items():
        written = METHODS["logits"].options[name].write(value)
        if method.name != "logits":
            raise UsageError(name, written, f"is an option of logits; leave it out with method={method}")
        if method.options[name] not in (value, METHODS["logits"].options[name].default):
            raise UsageError(name, written, f"method={method} has another value; give one of the two")
    return replace(method, options={**method.options, **given})


def method_apart(text: str) -> str:
    """Return what distinguishes a stored model's method from others, beside its ``alpha`` and ``t_squared``.

    Args:
        text: the method; of models stored before there were methods it is empty, and they learned logits.
    """
    return LOGITS.name if text.partition("(")[0] in ("", LOGITS.name) else text
