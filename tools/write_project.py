"""Write MLproject, its variant for containers, and docs/parameters.md from kdops/config/parameters.py.

Run it after a change of a parameter: ``python tools/write_project.py``. With ``--check`` nothing is written; the
files that are stale are named, and the exit code is 1 if there are any.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from kdops import __version__  # noqa: E402
from kdops.config.architectures import FAMILIES, TorchvisionNet  # noqa: E402
from kdops.config.companies import COMPANIES  # noqa: E402
from kdops.config.datasets import DATASETS  # noqa: E402
from kdops.config.methods import METHODS  # noqa: E402
from kdops.config.parameters import ENTRY_POINTS, MAIN, PARAMETERS, Parameter  # noqa: E402
from kdops.config.recipe_settings import OPTIMIZERS, SCHEDULES  # noqa: E402
from kdops.config.samplers_and_pruners import PRUNERS, SAMPLERS  # noqa: E402

WRITTEN = "written by tools/write_project.py; do not edit"

PLAIN = f"""# {WRITTEN}
name: kdops

conda_env: conda.yaml

# Every value travels as text: kdops checks it itself and answers a bad one with one line.
"""

CONTAINERS = f"""# {WRITTEN}
# The entry points of the project at the top, in containers: MLflow wants docker_env for kubernetes, which excludes
# conda_env.
name: kdops

docker_env:
  image: kdops:{__version__}

"""

INTRODUCTION = f"""<!-- {WRITTEN} -->

# Parameters

Every parameter of an entry point is an option of its command, with the same name and default:
`kdops NAME --learning-rate 0.01` and `mlflow run . -e NAME -P learning_rate=0.01 --env-manager local` mean the same.
Values are text; truth values are `true` and `false`. A value that is not allowed ends the command with exit code 2 and
one line that says what is allowed. More about the values: [data](how-to/data.md), [architectures](how-to/models.md),
[steps of a chain](how-to/chains.md), [search space](how-to/search.md),
[loss and temperatures](explanation/method.md).

Below the shared parameters, each entry point lists those of its own and those with another default or meaning there.

## Shared by all entry points
"""

OPTIONS = """## Values with options

`name(option=value,...)`, in any order; an option that is not given has its default. `cnn` has one rate of dropout for
all layers, or one for each; without any, the default rates are those of the first layers.
"""

RECIPES = """## What `auto` stands for

Architecture, epochs, batch size and learning rate by data and role. `reversed` and `born-again` nets are trained as the
teacher is, the controls `reseeded` and `reordered` and the `peer` nets of a company as the student, where `epochs` and
the others do not name them.
"""

SPECS = {
    "teacher, student, middle": {
        **{name: family.spec for name, family in FAMILIES.items()},
        "torchvision:NAME": TorchvisionNet.spec,
    },
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "method": METHODS,
    "company": COMPANIES,
    "sampler": SAMPLERS,
    "pruner": PRUNERS,
}
"""The values that have options, by parameter."""


def project(head: str, program: str) -> str:
    """Return the text of an MLproject whose commands begin with ``program``."""
    lines = [head + "entry_points:"]
    for name, point in [*ENTRY_POINTS.items(), ("main", ENTRY_POINTS[MAIN])]:
        passed = " ".join(f"--{p.name.replace('_', '-')}\0{{{p.name}}}" for p in point.parameters())
        lines += [
            f"  {name}:",
            "    parameters:",
            *(f"      {p.name}: {{type: string, default: {json.dumps(p.default)}}}" for p in point.parameters()),
            "    command: >-",
            f"      {program}{MAIN if name == 'main' else name}",
            textwrap.fill(
                passed, 118, initial_indent=" " * 6, subsequent_indent=" " * 6, break_on_hyphens=False
            ).replace("\0", " "),
            "",
        ]
    return "\n".join(lines)


def document() -> str:
    """Return the text of docs/parameters.md: parameters, values with options, and what ``auto`` stands for."""
    lines = [INTRODUCTION, *table(("parameter", "default", "meaning"), map(row, PARAMETERS))]
    for name, point in ENTRY_POINTS.items():
        special = [p for p in point.parameters() if p not in PARAMETERS]
        lines += ["", f"## `{name}`", "", point.help]
        lines += ["", f"`main` is the same as `{name}`."] if name == MAIN else []
        lines += ["", *table(("parameter", "default", "meaning"), map(row, special))] if special else []
    lines += ["", OPTIONS, *table(("parameter", "value", "option", "default", "allowed"), options())]
    lines += ["", RECIPES, *table(("data", "role", "architecture", "epochs", "batch_size", "learning_rate"), recipes())]
    return "\n".join([*lines, ""])


def row(parameter: Parameter) -> tuple[str, str, str]:
    """Return the cells of a parameter."""
    return f"`{parameter.name}`", f"`{parameter.default}`" if parameter.default else "empty", escaped(parameter.help)


def options() -> Iterator[tuple[str, ...]]:
    """Return the cells of each option of a value that has some."""
    for parameter, specs in SPECS.items():
        for name, spec in specs.items():
            for option, kind in spec.options.items():
                default = kind.write(kind.default)
                yield f"`{parameter}`", f"`{name}`", f"`{option}`", f"`{default}`", escaped(kind.allowed())


def recipes() -> Iterator[tuple[str, ...]]:
    """Return the cells of each recipe."""
    for name, kind in DATASETS.items():
        for role, recipe in kind.recipes.items():
            values = recipe.architecture, recipe.epochs, recipe.batch_size, recipe.learning_rate
            yield f"`{kind.text or name}`", role, *(f"`{value}`" for value in values)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    names = tuple(head)
    return [f"| {' | '.join(cells)} |" for cells in (names, ("---",) * len(names), *rows)]


def escaped(text: str) -> str:
    """Escape the signs that Markdown would take for its own."""
    return re.sub(r"([*|<])", r"\\\1", text)


FILES = {
    "MLproject": lambda: project(PLAIN, "python -m pipelines."),
    "deploy/kubernetes/MLproject": lambda: project(CONTAINERS, "python entry.py pipelines."),
    "docs/parameters.md": document,
}


def main(check: bool) -> int:
    """Write the files that are stale, or only name them; return the exit code."""
    stale = []
    for name, text in FILES.items():
        path = ROOT / name
        if not path.exists() or path.read_text(encoding="utf-8") != text():
            stale.append(name)
            if not check:
                path.write_text(text(), encoding="utf-8")
    if stale:
        print("\n".join(f"{name} is stale; run tools/write_project.py" if check else f"wrote {name}" for name in stale))
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] == ["--check"]))
