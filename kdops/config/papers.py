"""The papers whose claims are tested, by name; a new one is one file in ``pipelines/papers/`` and one entry here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any

from kdops.config.specs import split_outside
from kdops.errors import UsageError

AUTO = "auto"
"""What a parameter is that the paper's entry decides."""


@dataclass(frozen=True)
class Paper:
    """A paper whose claims are tested.

    Attributes:
        module: its file, which has ``STATEMENTS``, the claims by key, and ``run``, the experiment that tests them.
        title: title, authors and year.
        data: the data sets that the paper used, as the parameter ``dataset`` names them; the first is the default.
        cost: what testing it costs.
        usual: what parameters that are ``auto`` are on the paper's data.
        small: what they are on digits.
        ignored: the parameters that its experiment does not read.
        student: the settings of the student's recipe that the experiment decides.
    """

    module: str
    title: str
    data: tuple[str, ...]
    cost: str
    usual: Mapping[str, str] = field(default_factory=dict)
    small: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    student: tuple[str, ...] = ()

    def check(self, name: str, text: Mapping[str, str], defaults: Mapping[str, str]) -> None:
        """Refuse parameters that would have no effect.

        Args:
            name: the paper's key.
            text: what was given.
            defaults: the default of each parameter.

        Raises:
            UsageError: names the first one.
        """
        for one in self.ignored:
            if text[one] not in (AUTO, defaults[one]):
                raise UsageError(one, text[one], f"has no effect on paper={name}; leave it out")
        for one in self.student:
            if text[one] != AUTO and not all(p.strip().startswith("teacher=") for p in split_outside(text[one])):
                raise UsageError(one, text[one], f"is decided by paper={name} for the student; give it as teacher=...")

    def load(self) -> ModuleType:
        """Return its file."""
        return import_module(self.module)

    def statements(self) -> dict[str, Any]:
        """Return what the paper states by key, each a :class:`kdops.papers.Statement`."""
        return dict(self.load().STATEMENTS)

    def filled(self, text: Mapping[str, str]) -> dict[str, str]:
        """Return the text of parameters with what the paper decides in the place of ``auto``."""
        dataset = self.data[0] if text["dataset"] == AUTO else text["dataset"]
        own = self.usual if dataset in self.data else self.small if dataset == "digits" else {}
        chosen = {"temperatures": "1-29", "transfer": "disjoint", "margin": "0.02", **own, "dataset": dataset}
        return {name: chosen.get(name, value) if value == AUTO else value for name, value in text.items()}


_OF_DEFAULT = (
    *("middle", "middle_temperatures", "reversed_temperatures", "reversed_seeds", "born_again_temperatures"),
    *("top", "controls"),
)
"""Parameters of experiments that only the default paper has."""

_VOTES = (*_OF_DEFAULT, "teacher", "temperatures", "method")
"""What is not read where nets on hard labels vote."""

_DEFENDED = {
    "transfer": "shared",
    "margin": "0.05",
    "student": "mlp(hidden=100,depth=2)",
}
"""Nets of defensive distillation."""

_ON_MNIST = {"epochs": "student=3", "batch_size": "128", "learning_rate": "0.003"}

DEFAULT = "szijarto-2020"

PAPERS: Mapping[str, Paper] = {
    DEFAULT: Paper(
        module="pipelines.papers.szijarto_2020",
        title='"Experimental study of some properties of knowledge distillation" (Szijártó, Lehotay-Kéry, Kiss, 2020)',
        data=("gtsrb",),
        cost="minutes on digits; most of a day on GTSRB, on two cores",
    ),
    "szijarto-2020-figure-1": Paper(
        module="pipelines.papers.szijarto_2020_figure_1",
        title="Why figure 1 of Szijártó, Lehotay-Kéry and Kiss (2020) is as it is: dead units and the temperature",
        data=("gtsrb",),
        cost="a minute on digits; half an hour on GTSRB with five replicates, on two cores",
        usual={"temperatures": "1,2,3,4,6,10,17,29", "epochs": "student=3"},
        small={"temperatures": "1,2,4,8", "epochs": "teacher=10,student=10"},
        ignored=_OF_DEFAULT,
        student=("batch_size", "learning_rate", "weight_decay", "optimizer", "schedule", "normalize", "init"),
    ),
    "hinton-2015": Paper(
        module="pipelines.papers.hinton_2015",
        title='"Distilling the Knowledge in a Neural Network" (Hinton, Vinyals, Dean, 2015), section 3',
        data=("torchvision:MNIST",),
        cost="a minute on digits; half an hour on MNIST, on two cores",
        usual={
            "temperatures": "1,2,3,4,8,20",
            "transfer": "shared",
            "margin": "0.002",
            "teacher": "mlp(hidden=400,depth=2,dropout=0.2)",
            "student": "mlp(hidden=200,depth=2)",
            "epochs": "teacher=5,student=3",
            "batch_size": "128",
            "learning_rate": "0.002",
        },
        small={
            "temperatures": "1,3,4,8,20",
            "transfer": "shared",
            "margin": "0.002",
            "teacher": "mlp(hidden=100,depth=2,dropout=0.2)",
            "student": "mlp(hidden=50,depth=2)",
            "epochs": "teacher=20,student=20",
        },
        ignored=_OF_DEFAULT,
    ),
    "mirzadeh-2020": Paper(
        module="pipelines.papers.mirzadeh_2020",
        title='"Improved Knowledge Distillation via Teacher Assistant" (Mirzadeh and others, 2020)',
        data=("gtsrb",),
        cost="a minute on digits; half an hour on GTSRB, on two cores",
        usual={"temperatures": "1,4,10", "transfer": "shared", "student": "mlp(hidden=10,depth=1)"},
        small={"temperatures": "1,4", "transfer": "shared", "student": "mlp(hidden=5,depth=1)"},
        ignored=_OF_DEFAULT,
    ),
    "furlanello-2018": Paper(
        module="pipelines.papers.furlanello_2018",
        title='"Born Again Neural Networks" (Furlanello and others, 2018)',
        data=("gtsrb",),
        cost="seconds on digits; minutes on GTSRB, on two cores",
        usual={"temperatures": "1", "transfer": "shared"},
        small={"temperatures": "1", "transfer": "shared", "student": "mlp(hidden=20,depth=1)"},
        ignored=(*_OF_DEFAULT, "teacher"),
    ),
    "hansen-salamon-1990": Paper(
        module="pipelines.papers.hansen_salamon_1990",
        title='"Neural Network Ensembles" (Hansen, Salamon, 1990)',
        data=("gtsrb",),
        cost="seconds on digits; minutes on GTSRB, on two cores",
        usual={"transfer": "shared"},
        small={"transfer": "shared"},
        ignored=_VOTES,
    ),
    "dietterich-2000": Paper(
        module="pipelines.papers.dietterich_2000",
        title='"An Experimental Comparison of Three Methods for Constructing Ensembles of Decision Trees: Bagging, '
        'Boosting, and Randomization" (Dietterich, 2000)',
        data=("gtsrb",),
        cost="a minute on digits; a quarter of an hour on GTSRB, on two cores",
        usual={"transfer": "shared"},
        small={"transfer": "shared"},
        ignored=(*_VOTES, "label_noise", "bootstrap"),
    ),
    "papernot-2016": Paper(
        module="pipelines.papers.papernot_2016",
        title='"Distillation as a Defense to Adversarial Perturbations against Deep Neural Networks" '
        "(Papernot, McDaniel, Wu, Jha, Swami, 2016)",
        data=("torchvision:MNIST",),
        cost="a minute on digits; ten minutes on MNIST, on two cores",
        usual={**_DEFENDED, "temperatures": "1,5,20,100", **_ON_MNIST},
        small={**_DEFENDED, "temperatures": "1,10,100", "epochs": "student=20"},
        ignored=(*_OF_DEFAULT, "teacher", "train_temperature", "method", "alpha", "t_squared"),
    ),
    "carlini-wagner-2017": Paper(
        module="pipelines.papers.carlini_wagner_2017",
        title='"Towards Evaluating the Robustness of Neural Networks" (Carlini, Wagner, 2017)',
        data=("torchvision:MNIST",),
        cost="a minute on digits; a quarter of an hour on MNIST, on two cores",
        usual={**_DEFENDED, "temperatures": "1,20,100", **_ON_MNIST},
        small={**_DEFENDED, "temperatures": "1,100", "epochs": "student=20"},
        ignored=(*_OF_DEFAULT, "teacher", "train_temperature", "method", "alpha", "t_squared"),
    ),
    "frosst-hinton-2017": Paper(
        module="pipelines.papers.frosst_hinton_2017",
        title='"Distilling a Neural Network Into a Soft Decision Tree" (Frosst, Hinton, 2017)',
        data=("torchvision:MNIST",),
        cost="a minute on digits; half an hour on MNIST, on two cores",
        usual={
            "temperatures": "1",
            "transfer": "shared",
            "margin": "0.01",
            "teacher": "mlp(hidden=400,depth=2,dropout=0.2)",
            "epochs": "teacher=5,student=8",
            "batch_size": "128",
            "learning_rate": "teacher=0.002,student=0.01",
        },
        small={
            "temperatures": "1",
            "transfer": "shared",
            "margin": "0.01",
            "teacher": "mlp(hidden=100,depth=2,dropout=0.2)",
            "epochs": "teacher=20,student=20",
        },
        ignored=(*_OF_DEFAULT, "student"),
    ),
}
"""The papers by name."""
