"""The papers whose claims are tested, by name; a new one is one file in ``pipelines/papers/`` and one entry here."""

from __future__ import annotations

from collections.abc import Mapping

from kdops.config.paper import AUTO, Paper

_DEFENDED = {
    "transfer": "shared",
    "margin": "0.05",
    "student": "mlp(hidden=100,depth=2)",
}
"""Nets of defensive distillation."""

_ON_MNIST = {"epochs": "student=3", "batch_size": "128", "learning_rate": "0.003"}
_ON_DIGITS = {"epochs": "student=20", "batch_size": AUTO, "learning_rate": AUTO}

DEFAULT = "szijarto-2020"

_PAPERS = (
    Paper(
        name=DEFAULT,
        title='"Experimental study of some properties of knowledge distillation" (Szijártó, Lehotay-Kéry, Kiss, 2020)',
        data=("gtsrb",),
        cost="minutes on digits; most of a day on GTSRB, on two cores",
    ),
    Paper(
        name="szijarto-2020-figure-1",
        title="Why figure 1 of Szijártó, Lehotay-Kéry and Kiss (2020) is as it is: dead units and the temperature",
        data=("gtsrb",),
        cost="a minute on digits; on GTSRB with five replicates and temperatures=1-29 an hour and a quarter of "
        "processor time (measured beside other programs)",
        usual={"temperatures": "1,2,3,4,6,10,17,29", "epochs": "student=3"},
        small={"temperatures": "1,2,4,8", "epochs": "teacher=10,student=10"},
        decides=("method", "optimizer", "schedule", "learning_rate", "batch_size", "weight_decay", "normalize", "init"),
    ),
    Paper(
        name="hinton-2015",
        title='"Distilling the Knowledge in a Neural Network" (Hinton, Vinyals, Dean, 2015), sections 3 and 4',
        data=("torchvision:MNIST",),
        cost="75 s of processor time on digits, half an hour of one core on MNIST (measured beside other programs)",
        usual={
            "temperatures": "1,2,3,4,8,20",
            "transfer": "shared",
            "margin": "0.002",
            "teacher": "mlp(hidden=1200,depth=2,dropout=0.5)",
            "student": "mlp(hidden=800,depth=2)",
            "augment": "teacher=shift=2",
            "epochs": "teacher=15,student=5",
            "batch_size": "128",
            "learning_rate": "0.002",
        },
        small={
            "temperatures": "1,3,4,8,20",
            "teacher": "mlp(hidden=100,depth=2,dropout=0.2)",
            "student": "mlp(hidden=50,depth=2)",
            "augment": AUTO,
            "epochs": "teacher=20,student=10",
            "batch_size": AUTO,
            "learning_rate": AUTO,
        },
        reads=("teacher", "student", "temperatures", "margin", "choice"),
        decides=("leave_out",),
    ),
    Paper(
        name="mirzadeh-2020",
        title='"Improved Knowledge Distillation via Teacher Assistant" (Mirzadeh and others, 2020)',
        data=("gtsrb",),
        cost="a minute on digits; half an hour on GTSRB, on two cores",
        usual={
            "temperatures": "1,4,10",
            "transfer": "shared",
            "student": "mlp(hidden=10,depth=1)",
            "middle": "mlp(hidden=100,depth=1)",
        },
        small={"temperatures": "1,4", "student": "mlp(hidden=5,depth=1)"},
        reads=("teacher", "student", "middle", "temperatures", "margin", "choice"),
    ),
    Paper(
        name="furlanello-2018",
        title='"Born Again Neural Networks" (Furlanello and others, 2018)',
        data=("gtsrb",),
        cost="seconds on digits; minutes on GTSRB, on two cores",
        usual={"temperatures": "1", "transfer": "shared"},
        small={"student": "mlp(hidden=20,depth=1)"},
        reads=("student", "temperature", "choice"),
    ),
    Paper(
        name="hansen-salamon-1990",
        title='"Neural Network Ensembles" (Hansen, Salamon, 1990)',
        data=("gtsrb",),
        cost="seconds on digits; minutes on GTSRB, on two cores",
        usual={"transfer": "shared"},
        reads=("student", "margin", "choice"),
    ),
    Paper(
        name="dietterich-2000",
        title='"An Experimental Comparison of Three Methods for Constructing Ensembles of Decision Trees: Bagging, '
        'Boosting, and Randomization" (Dietterich, 2000)',
        data=("gtsrb",),
        cost="a minute on digits; a quarter of an hour on GTSRB, on two cores",
        usual={"transfer": "shared"},
        reads=("student", "margin"),
        decides=("label_noise", "bootstrap"),
    ),
    Paper(
        name="papernot-2016",
        title='"Distillation as a Defense to Adversarial Perturbations against Deep Neural Networks" '
        "(Papernot, McDaniel, Wu, Jha, Swami, 2016)",
        data=("torchvision:MNIST",),
        cost="a minute on digits, on two cores; 92 s of processor time on MNIST (measured, one core beside other "
        "programs)",
        usual={**_DEFENDED, "temperatures": "1,5,20,100", **_ON_MNIST},
        small={"temperatures": "1,10,100", **_ON_DIGITS},
        reads=("student", "temperatures", "margin"),
        decides=("method", "train_temperature"),
    ),
    Paper(
        name="carlini-wagner-2017",
        title='"Towards Evaluating the Robustness of Neural Networks" (Carlini, Wagner, 2017)',
        data=("torchvision:MNIST",),
        cost="a minute on digits, on two cores; 46 s of processor time on MNIST beside the nets of papernot-2016 "
        "(measured, one core beside other programs)",
        usual={**_DEFENDED, "temperatures": "1,20,100", **_ON_MNIST},
        small={"temperatures": "1,100", **_ON_DIGITS},
        reads=("student", "temperatures", "margin"),
        decides=("method", "train_temperature"),
    ),
    Paper(
        name="frosst-hinton-2017",
        title='"Distilling a Neural Network Into a Soft Decision Tree" (Frosst, Hinton, 2017)',
        data=("torchvision:MNIST",),
        cost="a minute on digits, on two cores; 4 minutes of processor time on MNIST (measured, one core beside other "
        "programs)",
        usual={
            "temperatures": "1",
            "transfer": "shared",
            "margin": "0.01",
            "teacher": "mlp(hidden=400,depth=2,dropout=0.2)",
            "student": "mlp(hidden=255,depth=1)",
            "epochs": "teacher=5,student=8",
            "batch_size": "128",
            "learning_rate": "teacher=0.002,student=0.01",
        },
        small={
            "teacher": "mlp(hidden=100,depth=2,dropout=0.2)",
            "epochs": "teacher=20,student=20",
            "batch_size": AUTO,
            "learning_rate": AUTO,
        },
    ),
    Paper(
        name="gao-2020",
        title='"Residual Knowledge Distillation" (Gao, Shen, Li, Loy, 2020)',
        data=("gtsrb",),
        cost="70 s of processor time on digits (measured, two shared cores), 24 minutes on GTSRB beside the teachers "
        "of yim-2017 (measured, one core beside other programs); frames=5 takes a fifth",
        usual={
            "temperatures": "4",
            "transfer": "shared",
            "teacher": "cnn(filters=32,layers=3,dropout=0.1)",
            "student": "cnn(filters=16,layers=3,dropout=0)",
        },
        small={"student": "cnn(filters=6,layers=2,dropout=0)", "epochs": "teacher=10,student=20"},
        reads=("teacher", "student", "temperature"),
        decides=("method",),
    ),
    Paper(
        name="yim-2017",
        title='"A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer Learning" '
        "(Yim, Joo, Bae, Kim, 2017)",
        data=("gtsrb",),
        cost="60 s of processor time on digits (measured, two shared cores), 23 minutes on GTSRB (measured, one core "
        "beside other programs); frames=5 takes a fifth",
        usual={
            "temperatures": "4",
            "transfer": "shared",
            "teacher": "cnn(filters=32,layers=3,dropout=0.1)",
            "student": "cnn(filters=16,layers=2,dropout=0)",
        },
        small={"student": "cnn(filters=6,layers=2,dropout=0)", "epochs": "teacher=10,student=12"},
        reads=("teacher", "student", "temperature", "margin"),
        decides=("method",),
    ),
    Paper(
        name="chung-2020",
        title='"Feature-map-level Online Adversarial Knowledge Distillation" (Chung, Park, Kim, Kwak, 2020)',
        data=("gtsrb",),
        cost="85 s of processor time on digits, 24 minutes on GTSRB with frames=10 (both measured, one core beside "
        "other programs); all frames take three times that (estimated)",
        usual={
            "transfer": "shared",
            "student": "cnn(filters=8,layers=3,dropout=0)",
            "middle": "cnn(filters=16,layers=3,dropout=0)",
        },
        small={
            "student": "cnn(filters=4,layers=2,dropout=0)",
            "middle": "cnn(filters=8,layers=2,dropout=0)",
            "epochs": "student=10",
        },
        reads=("student", "middle", "margin"),
    ),
    Paper(
        name="farhadi-yang-2020",
        title='"TKD: Temporal Knowledge Distillation for Active Perception" (Farhadi, Yang, 2020)',
        data=("gtsrb",),
        cost="30 s of processor time on digits (measured, two shared cores), 142 s on GTSRB (measured, one core beside "
        "other programs)",
        usual={"temperatures": "4", "teacher": "cnn(filters=32,layers=3,dropout=0.1)", "epochs": "teacher=3,student=3"},
        small={"epochs": "teacher=10,student=5"},
        reads=("teacher", "student", "temperature", "margin"),
        decides=("frames",),
    ),
    Paper(
        name="wu-2020",
        title='"Learning an Evolutionary Embedding via Massive Knowledge Distillation" (Wu, He, Hu, Sun, 2020)',
        data=("gtsrb",),
        cost="43 s of processor time on digits (measured, two shared cores), 5 minutes on GTSRB (measured, one core "
        "beside other programs)",
        usual={
            "temperatures": "4",
            "transfer": "shared",
            "teacher": "cnn(filters=32,layers=3,dropout=0.1)",
            "epochs": "teacher=3,student=3",
        },
        small={"student": "mlp(hidden=20,depth=1)", "epochs": "teacher=10,student=20"},
        reads=("teacher", "student", "temperature", "margin"),
        decides=("method", "leave_out"),
    ),
    Paper(
        name="cheng-2020",
        title='"Explaining Knowledge Distillation by Quantifying the Knowledge" (Cheng, Rao, Chen, Zhang, 2020)',
        data=("gtsrb",),
        cost="75 s of processor time on digits, 8 minutes on GTSRB (both measured, on two shared cores)",
        usual={
            "temperatures": "4",
            "teacher": "cnn(filters=16,layers=3,dropout=0.1)",
            "student": "cnn(filters=8,layers=3,dropout=0)",
            "epochs": "teacher=4,student=4",
        },
        small={"student": "cnn(filters=8,layers=2,dropout=0)", "epochs": "teacher=10,student=8"},
        reads=("teacher", "student", "temperature"),
        decides=("keep_epochs", "train_temperature"),
    ),
)

PAPERS: Mapping[str, Paper] = {paper.name: paper for paper in _PAPERS}
"""The papers by name."""
