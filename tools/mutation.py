"""Change what chooses, compares and identifies models, one small fault at a time, and show the faults no test sees.

    python tools/mutation.py --sample 40                # 40 faults drawn of each file that pyproject.toml names
    python tools/mutation.py kdops/verdicts/votes.py    # all faults of one file

mutmut (dependency group ``mutation``) makes the faults and runs the tests that reach each, in a copy of the tracked
files. The copy differs in three ways. Properties and cached functions are decorated by a call below them, since mutmut
leaves what is decorated alone. Hypothesis tries few examples and does not look for the smallest. The slowest
simulations are left out. So a fault that is shown may still be seen by the whole suite: try it there before a test is
written for it.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

EXAMPLES = 12

FEW_EXAMPLES = f"""

import hypothesis

_all = hypothesis.settings.__init__


def _few(self, *args, **given):
    if "max_examples" in given:
        given["max_examples"] = min(given["max_examples"], {EXAMPLES})
    _all(self, *args, **given)


hypothesis.settings.__init__ = _few
phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
hypothesis.settings.register_profile("few", phases=phases, database=None, deadline=None, max_examples={EXAMPLES})
hypothesis.settings.load_profile("few")
"""
"""Added to the copy's ``conftest.py``."""

SLOW = (
    "each_core_file and not hardware",
    "chance_alone_makes",
    "hundred_members",
    "error_rates_at",
    "false_symmetric_at",
)
"""Expressions of pytest for tests that take most of the time and see little that others do not."""

BESIDE = {
    "data": (),
    "ensembles": ("tests/test_selection.py",),
    "sweeps": ("tests/test_selection.py", "tests/sweeps/test_model.py", "tests/sweeps/test_fingerprint.py"),
    "verdicts": ("tests/verdicts/test_verdicts.py", "tests/verdicts/test_claims.py", "tests/verdicts/test_answer.py"),
}
"""The tests of a room that are run beside those of the file itself."""


def main() -> None:
    """Run what the command line names, and print counts and the faults that survived."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", help="files to change; all that [tool.mutmut] names if none is given")
    parser.add_argument("--sample", type=int, default=0, help="how many faults to draw of each file; 0 for all")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--processes", type=int, default=1, help="how many run at once")
    given = parser.parse_args()
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mutmut"]["only_mutate"]
    files = given.files or sorted(str(file.relative_to(ROOT)) for name in patterns for file in ROOT.glob(name))
    with tempfile.TemporaryDirectory(prefix="kdops-mutation-") as folder:
        copy = Path(folder)
        tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, tracked.split("\0")):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
        with (copy / "tests" / "conftest.py").open("a") as conftest:
            conftest.write(FEW_EXAMPLES)
        for file in files:
            undecorate(copy / file)
            print(run_file(copy, file, given.sample, given.seed, given.processes), flush=True)


def undecorate(file: Path) -> None:
    """Write properties and cached functions as plain ones that are decorated by a call below them."""
    lines = file.read_text().split("\n")
    decorated = [node for node in ast.walk(ast.parse("\n".join(lines))) if isinstance(node, ast.FunctionDef)]
    for node in sorted(decorated, key=lambda node: -node.lineno):
        match node.decorator_list:
            case [ast.Name(id="property" | "cache" as name) as decorator]:
                lines.insert(node.end_lineno or 0, f"{' ' * node.col_offset}{node.name} = {name}({node.name})")
                del lines[decorator.lineno - 1]
    file.write_text("\n".join(lines))


def run_file(copy: Path, file: str, sample: int, seed: int, processes: int) -> str:
    """Run the faults of one file, and return the counts and the faults that survived."""
    _, room, name = file.split("/")
    own = f"tests/{room}/test_{name}"
    tests = sorted({*([own] if (ROOT / own).exists() else []), *BESIDE[room]})
    options = {
        "only_mutate": [file],
        "pytest_add_cli_args": ["-n0", "-p", "no:cacheprovider", "-k", f"not ({') and not ('.join(SLOW)})"],
        "pytest_add_cli_args_test_selection": tests,
    }
    settings = (ROOT / "pyproject.toml").read_text()
    for key, value in options.items():
        line = f"{key} = {json.dumps(value)}"
        settings = re.sub(rf"(?ms)^{key} = \[.*?\]$", lambda _, line=line: line, settings)
    (copy / "pyproject.toml").write_text(settings)
    names = faults_of(copy / file, file)
    drawn = random.Random(seed).sample(names, sample) if 0 < sample < len(names) else []
    log = mutmut(copy, "run", "--max-children", str(processes), *drawn)
    listed = mutmut(copy, "results", "--all", "true")
    state = dict(line.strip().rsplit(": ", 1) for line in listed.splitlines() if ": " in line)
    state = {one: state.get(one, "not run") for one in drawn or names}
    counts = ", ".join(f"{count} {what}" for what, count in Counter(state.values()).most_common())
    if "killed" not in state.values():
        return f"{file}: {counts}\n{log[-3000:]}"
    left = [one for one, what in state.items() if what not in ("killed", "timeout", "caught by type check")]
    shown = "\n".join(f"{one} ({state[one]})\n{change_of(copy, one)}" for one in left)
    return f"{file}: {len(state)} of {len(names)} faults: {counts}\n{shown}"


def faults_of(path: Path, file: str) -> list[str]:
    """Return the names of the faults that mutmut makes in a file."""
    from mutmut.mutation.file_mutation import mutate_file_contents  # a group of its own, installed by name

    module = file.removesuffix(".py").replace("/", ".")
    return [f"{module}.{name}" for name in mutate_file_contents(str(path), path.read_text()).mutant_names]


def change_of(copy: Path, fault: str) -> str:
    """Return the lines that a fault takes and those it adds."""
    lines = mutmut(copy, "show", fault).splitlines()
    return "\n".join(line for line in lines if line.startswith(("-", "+")) and not line.startswith(("---", "+++")))


def mutmut(copy: Path, *words: str) -> str:
    """Run mutmut in the copy, and return what it wrote."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "mutmut", *words], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


if __name__ == "__main__":
    main()
