"""The parameters of the entry points: every one once, with its default and its meaning.

The command line and the pipelines read this list; ``tools/write_project.py`` writes ``MLproject``, its variant for
containers and ``docs/parameters.md`` from it. Values are checked in :mod:`kdops.config.settings`: a new parameter is
one entry here and one field there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kdops.config.augmentation import AUGMENTATIONS
from kdops.config.criterion import SCORES
from kdops.config.datasets import DATASETS
from kdops.config.engines import forms
from kdops.config.methods import METHODS
from kdops.config.paper import AUTO
from kdops.config.papers import DEFAULT, PAPERS
from kdops.config.recipe_settings import ADAMW, DECAYS, ONE_CYCLE, OPTIMIZERS, SCHEDULES
from kdops.config.roles import ROLES

__all__ = ["ALL", "ENTRY_POINTS", "MAIN", "NEWEST", "PARAMETERS", "ROLES_THAT_VOTE", "EntryPoint", "Parameter"]

NEWEST = "newest"
"""The split and transfer setting of the newest models in the registry; for a study that trains none of its own."""

ALL = "all"
"""As many as there are."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of an entry point: its name, its default as text, and what it means."""

    name: str
    default: str
    help: str


_DECAYS = ", ".join(f"{decay:g} of {name}" for name, decay in DECAYS.items())

PARAMETERS: tuple[Parameter, ...] = (
    Parameter("dataset", "digits", f"data: {', '.join(kind.text or name for name, kind in DATASETS.items())}"),
    Parameter("data_root", "", "folder with the data; empty: KDOPS_DATA_ROOT, else the user's cache folder"),
    Parameter(
        "temperatures",
        "1-20",
        "temperatures of the sweep, such as 1-20 or 1,2,4-8; hard labels (T = 0) are trained beside",
    ),
    Parameter("seeds", "3", "replicates of the whole chain, teacher included"),
    Parameter("seed", "0", "seed of the first replicate; it moves initialization, batch order and dropout"),
    Parameter("split_seed", "0", "seed of the split into teacher, transfer and validation images; replicates share it"),
    Parameter("teacher", "auto", "architecture of the teacher, such as cnn(filters=128,layers=3)"),
    Parameter("student", "auto", "architecture of the student, such as mlp(hidden=50)"),
    Parameter("middle", "auto", "architecture of the middle net, such as mlp(hidden=50,depth=2)"),
    Parameter("epochs", "auto", "epochs, for all roles (10) or by role (teacher=6,student=10)"),
    Parameter("batch_size", "auto", "images a step, for all roles or by role"),
    Parameter("learning_rate", "auto", "highest learning rate, for all roles or by role"),
    Parameter("optimizer", "auto", f"{', '.join(OPTIMIZERS)}, with options: sgd(momentum=0.9); auto: {ADAMW}"),
    Parameter("schedule", "auto", f"learning rate over the steps: {', '.join(SCHEDULES)}; auto: {ONE_CYCLE}"),
    Parameter("weight_decay", "auto", f"weight decay a step; auto: {_DECAYS}"),
    Parameter("label_smoothing", "auto", "share of each label that is spread over all classes; auto: 0"),
    Parameter("train_temperature", "auto", "what logits are divided by where labels are learned; auto: 1"),
    Parameter("class_weights", "auto", "none, or balanced: labels of rare classes weigh more; auto: none"),
    Parameter("normalize", "auto", "what pixels are normalized by: data, unit, none or imagenet; auto: data"),
    Parameter("augment", "auto", f"how training images vary, such as crop=4 flip=true: {', '.join(AUGMENTATIONS)}"),
    Parameter("views", "auto", "views of each augmented image whose source outputs are kept, or live; auto: live"),
    Parameter("init", "auto", "how weights are drawn: pytorch, glorot or he; auto: pytorch"),
    Parameter("transfer", "disjoint", "images to distill on: disjoint from the teacher's, shared, or fresh"),
    Parameter("leave_out", "", "classes without images in the transfer set, by name: 3,7"),
    Parameter("frames", "all", "frames of each track in the transfer set, evenly spaced, or all"),
    Parameter("label_noise", "0", "share of the training labels that are replaced by another class"),
    Parameter("bootstrap", "false", "train each model on a sample of its images, drawn with replacement (bagging)"),
    Parameter("method", "logits", f"what a student learns: {', '.join(METHODS)}, with options: dkd(beta=2)"),
    Parameter("alpha", "1.0", "weight of the soft term of the method logits, 0 to 1"),
    Parameter("t_squared", "true", "multiply the soft term of logits by the squared temperature"),
    Parameter("order", "shared", "batch order of one replicate's members: shared or own"),
    Parameter(
        "select_on",
        "validation",
        "what the best is chosen on: validation, or test to mimic the paper, which the verdict then names",
    ),
    Parameter("select_by", SCORES[0], f"score that the best is chosen by: {', '.join(SCORES)}"),
    Parameter("margin", "0.02", "accuracy difference that counts as none"),
    Parameter("device", "auto", "auto, cpu, cuda, or mps (Apple); auto: a GPU of CUDA where there is one"),
    Parameter("engine", "local", f"where networks are trained: {', '.join(forms())}"),
    Parameter("workers", "auto", "how many processes train, each on one device; auto: as many as there are GPUs, or 1"),
    Parameter("keep_epochs", "none", "epochs whose weights are kept beside the last one's: none, all, or 1-5,10"),
    Parameter("fresh", "false", "train again what is already there"),
    Parameter("dry_run", "false", "print which models, how long and how much disk, and stop"),
    Parameter("name", "", "name of your own data in runs and registered models; empty: the last part of dataset"),
    Parameter("image_size", "", "resize your images to HEIGHTxWIDTH, or one number for both; empty: all have one size"),
    Parameter("channels", "", "read your images as 1 (gray) or 3 (color); empty: gray if all are"),
    Parameter("skip_bad", "false", "leave out files of an image folder that are no readable images"),
    Parameter("upright", "false", "turn the photos of an image folder as their EXIF orientation says"),
    Parameter("label", "", "column of a table with the class; empty: label, else the last one"),
    Parameter("group", "", "column of a table that says which rows stay on one side of every split"),
    Parameter("split", "", "column of a table that says train, val or test; empty: split here"),
    Parameter("ignore", "", "columns of a table that are left out, such as id,date"),
    Parameter("categorical", "", "columns of a table whose numbers are categories"),
    Parameter("numeric", "", "columns of a table that must be numbers"),
    Parameter("owner", "", "person or team responsible for the study and its models; a tag of their runs"),
    Parameter("notes", "", "remarks about the study; a tag of its run, and in its description"),
)


STUDENT_TEMPERATURES = Parameter("student_temperatures", "1-29", "temperatures of the students, the best is reversed")
REVERSED_TEMPERATURES = Parameter("reversed_temperatures", "1-10", "temperatures of the reversed nets")
MIDDLE_TEMPERATURES = Parameter("middle_temperatures", "1-20", "temperatures of middle nets and the way through them")
BORN_AGAIN_TEMPERATURES = Parameter(
    "born_again_temperatures", "1,4,10", "temperatures of the control distilled from the teacher itself, or none"
)
REVERSED_SEEDS = Parameter("reversed_seeds", "auto", "replicates of the reversed nets and their control; auto: all")
ROLES_THAT_VOTE = tuple(role for role in ROLES if role != "teacher")
"""A replicate has one teacher, and one model is no ensemble."""
TOP = Parameter("top", "all", "how many of the best members of each replicate vote, by validation, or all")
CONTROLS = Parameter("controls", "true", "train the controls of the ensemble, which cost more than two sweeps")
MEMBERS = (
    TOP,
    CONTROLS,
    Parameter("role", "student", f"role whose registered models vote: {', '.join(ROLES_THAT_VOTE)}"),
    Parameter("model", "", "registered model, or models:/name/version,..., that vote; empty: by role"),
)
SOURCE_OPTIONS = (
    Parameter("source_model", "", "network of a file of weights: module:function, torchvision:NAME, or one of kdops"),
    Parameter(
        "source_normalize",
        "data",
        "what the network of a file, or a program of floats, is given: data, imagenet, unit, none or MEAN/STD",
    ),
    Parameter("trust", "false", "run the Python code of a source that is no exported program"),
)
UNLABELED = Parameter(
    "unlabeled", "", "imagefolder:FOLDER with images without labels that distilled students learn from too"
)
SEARCH = (
    Parameter("role", "student", "role that is searched for: student or middle"),
    Parameter("source", "", "URI or file of what to distill from; empty: the best registered teacher"),
    *SOURCE_OPTIONS,
    Parameter(
        "space",
        "",
        "what may be tried, such as temperature=1..20 hidden=16,32,64 or method=logits,dkd beta=1..15; "
        "what is not named keeps its default",
    ),
    Parameter(
        "objective",
        "accuracy",
        f"{', '.join(SCORES)} or val_nll, on validation; with parameters or flops, as in accuracy,flops, for a front",
    ),
    Parameter("trials", "100", "trials to finish, those of an earlier start included"),
    Parameter(
        "batch", "25", "trials asked for and trained together; more are faster, fewer learn more from each other"
    ),
    Parameter(
        "sampler",
        "tpe",
        "what chooses trials: tpe, random or grid, with options as in grid(points=5) or tpe(startup=20)",
    ),
    Parameter(
        "pruner",
        "median",
        "median or none: whether trials that do badly end early; median(startup=10,warmup=3) is the default",
    ),
    Parameter("storage", "", "file or database URL that keeps the trials; empty: a journal beside the store"),
    Parameter("study_name", "", "name of the search in its storage; empty: made from what is searched"),
)
STEPS = Parameter(
    "steps",
    "teacher>middle>student",
    "roles parted by >, each with an architecture of its own if need be: teacher>middle:mlp(hidden=100)>student",
)
COMPARED = (
    Parameter(
        "methods",
        ALL,
        "methods to compare, such as dkd,dist,rkd(angle=0), beside logits; all: those that fit the student",
    ),
    Parameter("trials", "6", "settings tried of each method, its own weights and the temperature, logits included"),
    Parameter("controls", "true", "train each method with the source's outputs for other images of the class beside"),
)
COMPANY = (
    Parameter("nets", "2", "nets of a company: how many students, or architectures: mlp(hidden=50)+mlp(hidden=20)"),
    Parameter(
        "company",
        "mutual",
        "how its nets learn from each other: mutual, aligned or adversarial, such as mutual(temperature=2), or several",
    ),
)
PEERS = {
    "seeds": "replicates of each company, and of as many independent nets",
    "temperatures": "of a sweep; the method of a company has a temperature of its own",
    "method": "logits; company names how nets learn from each other",
    "transfer": "images to train on: those that students learn from, disjoint from a teacher's, shared, or fresh",
    "margin": "gain over independent nets that counts as none",
}
"""What shared parameters mean where nets learn from each other."""
COMPARING = {
    "temperatures": "temperatures that the trials draw from",
    "seeds": "replicates that trials are judged on, and as many fresh ones that the best is trained again on",
    "seed": "seed of the first replicate; the fresh ones follow",
    "method": "logits; methods names what is compared",
    "alpha": "weight of the soft term of logits, 0 to 1; 1 is tried among others",
    "select_on": "validation; trials never see the test set",
    "margin": "gain over logits that counts as none",
}
"""What shared parameters mean where methods are compared."""
SEARCHING = {
    "temperatures": "temperatures of the sweep that the best found is held against",
    "seeds": "fresh seeds that the best found is trained again with",
    "seed": "seed of every trial; the fresh ones follow it",
    "batch_size": "images a step, by role; of the trials the space decides",
    "learning_rate": "highest learning rate, by role; of the trials the space decides",
    "alpha": "weight of the soft term in the sweep; of the trials the space decides",
    "t_squared": "squared temperature in the sweep; of the trials the space decides",
    "method": "what a student learns in the sweep, and in the trials unless the space names methods",
    "order": "shared; the trials of a search see the same batches",
    "select_on": "validation; a search never sees the test set",
    "select_by": "accuracy; objective says what a search looks for",
}
"""What shared parameters mean in a search."""
REPEATING = {
    "dataset": "data, as elsewhere; auto: those of the paper",
    "temperatures": "temperatures of the students; auto: those of the paper",
    "transfer": "images to distill on: disjoint from the teacher's, shared, or fresh; auto: as in the paper",
    "margin": "accuracy difference that counts as none; auto: 0.02, or what the paper asks for",
}
"""What shared parameters mean where the experiments of a paper are repeated."""
PAPER = Parameter("paper", DEFAULT, f"whose claims are tested: {', '.join(PAPERS)}")
NAMED = "what to distill from: a model URI, several (0.7*URI,0.3*URI), a file of weights or outputs"
SOURCE = Parameter("source", "", f"{NAMED}; empty: own teachers")
DISTILLING = {
    "temperatures": "temperatures of the student; hard labels (T = 0) are trained beside",
    "seeds": "replicates of the student; the source is one for all",
    "seed": "seed of the first replicate, and of the teacher where one is trained",
}
"""What shared parameters mean where a student is distilled the short way."""
DRAWN = {
    "temperatures": "temperatures of the members; what is listed by version is taken whatever its temperature",
    "seeds": "how many replicates have models that vote, or all there are",
    "seed": "the first replicate whose models vote",
    "split_seed": f"members of the split of this seed, or {NEWEST}: that of the newest models",
    "transfer": f"members of this transfer setting, or {NEWEST}: that of the newest models",
}
"""What shared parameters mean where models are drawn that are there already."""


@dataclass(frozen=True)
class EntryPoint:
    """One entry point of the project.

    Attributes:
        help: what it does.
        defaults: the defaults that differ from the shared ones.
        own: the parameters that it has beside the shared ones.
        main_sweep: the roles that ``temperatures`` is for.
        meanings: what shared parameters mean here, where that is something else.
        pairs: the roles of a source and of what is distilled from it, of each distillation.
    """

    help: str
    defaults: Mapping[str, str]
    own: tuple[Parameter, ...] = ()
    main_sweep: tuple[str, ...] = ("student", "middle", "reversed")
    meanings: Mapping[str, str] = field(default_factory=dict)
    pairs: tuple[tuple[str, str], ...] = (("teacher", "student"),)

    def parameters(self) -> tuple[Parameter, ...]:
        """Return the parameters of this entry point, in order, with its own defaults."""
        shared = tuple(
            Parameter(p.name, self.defaults.get(p.name, p.default), self.meanings.get(p.name, p.help))
            for p in PARAMETERS
        )
        return (*shared, *self.own)


ENTRY_POINTS: Mapping[str, EntryPoint] = {
    "teacher": EntryPoint("Train the teacher on labels, once for each replicate.", {}),
    "students": EntryPoint(
        "Distill the teacher into the student at every temperature (figure 1).",
        {"temperatures": "1-29"},
        (SOURCE, *SOURCE_OPTIONS, UNLABELED),
    ),
    "distill": EntryPoint(
        "Distill one source, or a teacher trained once, into a student: does it help, and which one to ship?",
        {"temperatures": "1,2,4", "alpha": "0.5", "transfer": "shared"},
        (
            replace(SOURCE, help=f"{NAMED}; empty: the best registered teacher, else one that is trained"),
            *SOURCE_OPTIONS,
            UNLABELED,
        ),
        ("student",),
        DISTILLING,
    ),
    "symmetry": EntryPoint(
        "Does distilling the best student back into an untrained teacher give the teacher (figure 2)?",
        {"temperatures": "1-10"},
        (STUDENT_TEMPERATURES, BORN_AGAIN_TEMPERATURES, REVERSED_SEEDS),
        ("reversed",),
        {"temperatures": "temperatures of the reversed nets; beside, at T = 0, they learn the student's decisions"},
        pairs=(("teacher", "student"), ("student", "reversed"), ("teacher", "born-again")),
    ),
    "ensemble": EntryPoint(
        "Do the best registered students know more when they vote (figure 3)?",
        {"temperatures": "1-29", "seeds": ALL, "split_seed": NEWEST, "transfer": NEWEST},
        MEMBERS,
        meanings=DRAWN,
    ),
    "transitivity": EntryPoint(
        "Does distilling through a middle net give the student that distilling directly gives (figures 4 and 5)?",
        {},
        pairs=(("teacher", "student"), ("teacher", "middle"), ("middle", "student")),
    ),
    "chain": EntryPoint(
        "What does each step of a chain of distillations cost against distilling directly?", {}, (STEPS,)
    ),
    "search": EntryPoint(
        "Which student is worth shipping: search temperature and architecture for the best by validation.",
        {"temperatures": "1-29", "seeds": "5"},
        SEARCH,
        ("student", "middle"),
        SEARCHING,
    ),
    "methods": EntryPoint(
        "Which methods teach a student more than plain distillation, with the same number of trials for each?",
        {},
        COMPARED,
        ("student",),
        COMPARING,
    ),
    "mutual": EntryPoint(
        "Do nets that learn from each other beat independent ones, and does their vote beat the vote of these?",
        {"seeds": "5"},
        COMPANY,
        ("student",),
        PEERS,
    ),
    "paper": EntryPoint(
        "All experiments of a paper in one study, with a report claim by claim.",
        {"dataset": AUTO, "temperatures": AUTO, "transfer": AUTO, "margin": AUTO},
        (PAPER, REVERSED_TEMPERATURES, BORN_AGAIN_TEMPERATURES, REVERSED_SEEDS, MIDDLE_TEMPERATURES, TOP, CONTROLS),
        ("student",),
        REPEATING,
    ),
}

MAIN = "transitivity"
"""What ``main`` is: what ``mlflow run .`` does where no entry point is named."""
