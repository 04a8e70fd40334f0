"""The distillation methods by name, with their options, and the choice of one as a checked value. No torch here.

A new method is one file in ``kdops/distillation/`` and one entry in ``METHODS``. Its name, options and bounds are then
known to the command line (``method="dkd(beta=2)"``), the run parameter ``method``, the fingerprint and the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kdops.config.architectures import Architecture
from kdops.config.composed import ASSISTANT, Network, alone, joined_logits, joined_maps, reused
from kdops.config.parsing import Choice, Flag, Integer, Option, Real, Several, Spec, Text, parse_spec
from kdops.config.recipes import Recipe
from kdops.errors import UsageError

__all__ = ["LOGITS", "METHODS", "ChosenMethod", "Inner", "MethodSpec", "method_apart", "parse_method", "with_shorthand"]


Deploys = Callable[[Architecture, Architecture, Mapping[str, Any]], Architecture]
"""From student, source and the options of a method to what is trained and stored; raises ValueError."""


class MethodSpec(Spec):
    """One method.

    Args:
        place: ``module:class`` of it, see :class:`kdops.distillation.method.Method`.
        summary: what a student learns, in a few words.
        reference: the paper.
        *taps: options that name taps of the student, see :mod:`kdops.models.taps`, and taps that it always needs.
        has_modules: whether something is trained beside a student.
        is_stacked: whether dense students are trained together in one pass, see
            :attr:`kdops.distillation.method.Method.is_stacked`.
        is_control: whether a student learns nothing of what the source knows of its images.
        deploys: returns the network that is trained, measured and stored, which may be more than the student. The taps
            of the method are then those of that network, which has them all.
        **options: its options by name.
    """

    def __init__(
        self,
        place: str,
        summary: str,
        reference: str,
        *taps: str,
        has_modules: bool = False,
        is_stacked: bool = True,
        is_control: bool = False,
        deploys: Deploys = alone,
        **options: Option[Any],
    ):
        super().__init__(place, **options)
        self.summary, self.reference, self.taps, self.deploys = summary, reference, taps, deploys
        self.has_modules, self.is_stacked, self.is_control = has_modules, is_stacked, is_control

    @property
    def searchable(self) -> dict[str, Option[Any]]:
        """Its options but for a method that it changes."""
        return {name: option for name, option in self.options.items() if not isinstance(option, Inner)}


@dataclass(frozen=True)
class Inner(Option["ChosenMethod"]):
    """The method that a modifier changes; ``logits`` where none is given."""

    @property
    def default(self) -> ChosenMethod:  # type: ignore[override]
        """``logits`` with its defaults."""
        return LOGITS

    def read(self, text: str) -> ChosenMethod:
        """Read the method."""
        if text.count("(") > MOST_BRACKETS:
            raise ValueError(self.allowed())
        try:
            return parse_method(text)
        except UsageError as error:
            raise ValueError(f"{self.allowed()}; {error}") from None

    def allowed(self) -> str:
        """Return what is allowed."""
        return f"a method, with at most {MOST_BRACKETS} pairs of brackets"

    def write_full(self, value: ChosenMethod) -> str:
        """Return the method with all its options."""
        return value.full_text


FEWEST_EPOCHS = 2
"""A method with two phases trains at least one epoch in each."""

MOST_BRACKETS = 4
"""How deep methods stand in each other: no more is of use, and deeper ones would take long to read."""


class ModifierSpec(MethodSpec):
    """A method that changes another one, its first option: ``standardize(dkd(beta=2))``."""

    first = "method"

    def __init__(self, place: str, summary: str, reference: str, **given: Any):
        super().__init__(place, summary, reference, **given)
        self.options = {self.first: Inner(), **self.options}


class MapSpec(MethodSpec):
    """A method on the maps of several layers, whose names the option ``at`` has: ``own:source`` where they differ."""

    def __init__(
        self,
        place: str,
        summary: str,
        reference: str,
        *,
        layers: tuple[str, ...] = ("stage1", "stage2"),
        fewest: int = 1,
        **options: Option[Any],
    ):
        super().__init__(place, summary, reference, "at", has_modules=True, is_stacked=False)
        self.options = {"at": Several(Text(), default=layers, fewest=fewest), **options}


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
        gamma=Real(0, 100, default=1.5),
    ),
    "wsld": MethodSpec(
        "kdops.distillation.wsld:WeightedDistillation",
        "the softened outputs, each image weighted by how much better the source knows its label",
        "Zhou et al., Rethinking Soft Labels for Knowledge Distillation, 2021",
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
        is_control=True,
        correct=Real(0.5, 1, default=0.99, open_high=True),
        alpha=Real(0, 1, default=1.0),
        t_squared=Flag(True),
    ),
    "tempered": MethodSpec(
        "kdops.distillation.tempered:TemperedLabels",
        "the labels, at the temperature; a control without a source",
        "Guo et al., On Calibration of Modern Neural Networks, 2017",
        is_control=True,
        power=Real(0, 2, default=1.0),
    ),
    "standardize": ModifierSpec(
        "kdops.distillation.standardize:Standardized",
        "a method on logits, with each image's logits brought to mean 0 and deviation 1",
        "Sun et al., Logit Standardization in Knowledge Distillation, 2024",
    ),
    "shuffled": ModifierSpec(
        "kdops.distillation.shuffled:Shuffled",
        "a method, with the source's outputs for another image; a control without knowledge of the image",
        "Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015",
        is_control=True,
        within=Choice(("class", "all"), "class"),
    ),
    "pair": ModifierSpec(
        "kdops.distillation.pair:Pair",
        "a method, by the sum of two networks' logits, both of which are deployed; a control of residual",
        "Gao et al., Residual Knowledge Distillation, 2020",
        is_stacked=False,
        deploys=joined_logits,
        assistant=Network(ASSISTANT),
    ),
    "rkd": MethodSpec(
        "kdops.distillation.rkd:RelationalDistillation",
        "distances and angles between the embeddings of a batch",
        "Park et al., Relational Knowledge Distillation, 2019",
        "embedding",
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
        has_modules=True,
        weight=Real(0, 100_000, default=1.0),
    ),
    "pkt": MethodSpec(
        "kdops.distillation.pkt:ProbabilisticTransfer",
        "which images of a batch are near to which in the embedding, as probabilities",
        "Passalis and Tefas, Learning Deep Representations with Probabilistic Knowledge Transfer, 2018",
        "embedding",
        weight=Real(0, 1_000_000, default=500.0),
    ),
    "sp": MethodSpec(
        "kdops.distillation.sp:SimilarityPreserving",
        "how alike the images of a batch are in the embedding, row by row",
        "Tung and Mori, Similarity-Preserving Knowledge Distillation, 2019",
        "embedding",
        weight=Real(0, 1_000_000, default=3000.0),
    ),
    "cc": MethodSpec(
        "kdops.distillation.cc:CorrelationCongruence",
        "the correlation of the images of a batch in the embedding, by a Gaussian kernel",
        "Peng et al., Correlation Congruence for Knowledge Distillation, 2019",
        "embedding",
        weight=Real(0, 1_000_000, default=100.0),
        gamma=Real(0, 100, default=0.4, open_low=True),
        order=Integer(1, 10, 2),
    ),
    "simkd": MethodSpec(
        "kdops.distillation.simkd:ReusedClassifier",
        "the source's last map, through a projector; the source's last layer is deployed with it",
        "Chen et al., Knowledge Distillation with the Reused Teacher Classifier, 2022",
        is_stacked=False,
        deploys=reused,
        factor=Integer(1, 1000, 2),
    ),
    "residual": MethodSpec(
        "kdops.distillation.residual:ResidualDistillation",
        "the source's maps; an assistant, which is deployed too, learns what the student leaves of them",
        "Gao et al., Residual Knowledge Distillation, 2020",
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


@dataclass(frozen=True)
class ChosenMethod:
    """A method and the value of each of its options.

    Attributes:
        name: of the method, in ``METHODS``.
        options: every option's value.
    """

    name: str
    options: Mapping[str, Any]

    def __str__(self) -> str:
        """Return the canonical text: options that differ from their defaults, in the order of the table."""
        return self.name + self.spec.write(self.options)

    @property
    def spec(self) -> MethodSpec:
        """Its entry in the table."""
        return METHODS[self.name]

    @property
    def full_text(self) -> str:
        """The text with all options, which means the same whatever becomes of the defaults."""
        return self.name + self.spec.write(self.options, full=True)

    @property
    def parts(self) -> tuple[ChosenMethod, ...]:
        """The method itself, and those that it changes, from the outermost."""
        inner = (value.parts for value in self.options.values() if isinstance(value, ChosenMethod))
        return (self, *(part for parts in inner for part in parts))

    @property
    def searchable(self) -> dict[str, Option[Any]]:
        """Its options, with those of the method that it changes."""
        return {name: option for part in self.parts for name, option in part.spec.searchable.items()}

    def with_options(self, values: Mapping[str, Any]) -> ChosenMethod:
        """Return the method with other values of its options, and of the options of the method that it changes.

        Args:
            values: by name, those of other methods too; a text is read.
        """
        changed = dict(self.options)
        for name, value in self.options.items():
            if isinstance(value, ChosenMethod):
                changed[name] = value.with_options(values)
            elif name in values:
                given = values[name]
                changed[name] = self.spec.options[name].read(given) if isinstance(given, str) else given
        return ChosenMethod(self.name, changed)

    @property
    def soft_weight(self) -> float:
        """The parameter ``alpha`` of a run: the weight of a soft term, 0 for a method without one of that name."""
        return self.parts[-1].options.get("alpha", 0.0)

    @property
    def t_squared(self) -> bool:
        """The parameter ``t_squared`` of a run; true for a method without that option."""
        return self.parts[-1].options.get("t_squared", True)

    @property
    def student_taps(self) -> tuple[str, ...]:
        """The taps of the student that it needs."""
        named = (part.options.get(name, name) for part in self.parts for name in part.spec.taps)
        layers = (layer for one in named for layer in ((one,) if isinstance(one, str) else one))
        return tuple(layer.partition(":")[0] for layer in layers)

    @property
    def is_control(self) -> bool:
        """Whether a student learns nothing of what the source knows of its images."""
        return any(part.spec.is_control for part in self.parts)

    @property
    def has_modules(self) -> bool:
        """Whether something is trained beside a student."""
        return any(part.spec.has_modules for part in self.parts)

    @property
    def is_stacked(self) -> bool:
        """Whether dense students are trained together in one pass."""
        return all(part.spec.is_stacked for part in self.parts)

    def check_recipe(self, recipe: Recipe, role: str) -> None:
        """Refuse a network that lacks a tap, and fewer epochs than the method has phases.

        Raises:
            UsageError: names what is missing.
        """
        self.check_taps(recipe.architecture, role)
        if not self.is_stacked and recipe.epochs < FEWEST_EPOCHS:
            raise UsageError("epochs", recipe.epochs, f"must be at least {FEWEST_EPOCHS} for the phases of {self}")

    @property
    def deploys_more(self) -> bool:
        """Whether what is trained and stored is more than the student."""
        return any(part.spec.deploys is not alone for part in self.parts)

    def deployed(self, student: Architecture, source: Architecture) -> Architecture:
        """Return the network that is trained, measured and stored: the student, or one that it is a part of.

        Raises:
            UsageError: one of the networks lacks what the method needs; names what it has.
        """
        found = student
        for part in self.parts:
            if part.spec.deploys is alone:
                continue
            if found is not student:
                raise UsageError("method", self, "has two methods that deploy more than the student; take one of them")
            try:
                found = part.spec.deploys(student, source, part.options)
            except ValueError as error:
                raise UsageError("method", self, str(error)) from None
        return found

    def check_taps(self, architecture: Architecture, role: str) -> None:
        """Refuse a network of kdops's own that lacks a tap; of external ones the taps are known once they are built.

        Raises:
            UsageError: names the tap, and those that the network has.
        """
        there = architecture.taps()
        for tap in self.student_taps if there else ():
            if tap not in there:
                known = ", ".join(name for name in there if "." not in name)
                raise UsageError("method", self, f"the {role} {architecture} has no tap {tap}; it has {known}")


LOGITS = ChosenMethod("logits", METHODS["logits"].defaults())
"""The method where none is named."""


def parse_method(text: str, parameter: str = "method") -> ChosenMethod:
    """Parse ``name`` or ``name(option=value,...)``; an option that is not given has its default.

    Raises:
        UsageError: for an unknown method or option, a doubled option, or a value that is not allowed.
    """
    return ChosenMethod(*parse_spec(text, parameter, METHODS))


def with_shorthand(text: str, alpha: float, t_squared: bool) -> ChosenMethod:
    """Parse a method beside the parameters ``alpha`` and ``t_squared``, which stand for those options of ``logits``.

    Args:
        text: the parameter ``method``.
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
    return ChosenMethod(method.name, {**method.options, **given})


def method_apart(params: Mapping[str, str]) -> str:
    """Return what distinguishes a stored model's method from others, beside its ``alpha`` and ``t_squared``.

    Args:
        params: parameters of its run; models stored before there were methods have none and learned logits.
    """
    text = params.get("method", LOGITS.name)
    return LOGITS.name if text.partition("(")[0] == LOGITS.name else text
