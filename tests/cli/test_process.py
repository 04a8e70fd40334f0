"""A library import, and a study from Python, leave the settings of the whole process as they were."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CODE = """
import gc, json, logging, os, pkgutil, signal, socket, sys, warnings
from importlib import import_module
from importlib.util import find_spec

# What these set themselves when they are imported is theirs.
for name in ("matplotlib.pyplot", "mlflow", "optuna.visualization.matplotlib", "torchvision", "onnx", "sklearn",
             "typer", "mlflow.pytorch", "mlflow.store.tracking.sqlalchemy_store", "torch.export", "pandas"):
    if find_spec(name.partition(".")[0]):  # onnx is an extra
        import_module(name)
import matplotlib, mlflow, numpy, torch
from sqlalchemy import create_engine

torch.set_num_threads(3)


def settings():
    loggers = {name: logging.getLogger(name) for name in ["", "optuna", "mlflow", *logging.root.manager.loggerDict]}
    return {
        "environment": dict(os.environ),
        "path": list(sys.path),
        "folder": os.getcwd(),
        "collector": [gc.isenabled(), gc.get_freeze_count(), gc.get_threshold()],
        "threads of torch": torch.get_num_threads(),
        "precision of torch": [torch.get_float32_matmul_precision(), str(torch.get_default_dtype())],
        "stream of torch": torch.get_rng_state().tolist()[:64],
        "stream of numpy": numpy.random.get_state()[1].tolist()[:8],
        "numpy": numpy.geterr(),
        "time of sockets": socket.getdefaulttimeout(),
        "signals": [str(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "backend": matplotlib.get_backend(),
        "listeners of an engine": [one.__qualname__ for one in create_engine("sqlite://").pool.dispatch.connect],
        "warnings": [str(one) for one in warnings.filters],
        "loggers": {
            name: [one.level, one.disabled, one.propagate, [str(h) for h in one.handlers]]
            for name, one in loggers.items() if not name.startswith(("kdops", "torch"))
        },
        "hooks": [str(sys.excepthook), str(sys.displayhook)],
        "store": mlflow.get_tracking_uri(),
    }


def _told(one, other):
    # Of many values those that differ.
    if isinstance(one, dict) and isinstance(other, dict):
        one = {name: value for name, value in one.items() if other.get(name) != value}
    return str(one)[:300]


def changed(before):
    now = settings()
    there = before.pop("loggers"), now.pop("loggers")
    before |= {f"logger {name}": there[0][name] for name in there[0].keys() & there[1].keys()}
    now |= {f"logger {name}": there[1][name] for name in there[0].keys() & there[1].keys()}
    different = [name for name in before if before[name] != now[name]]
    return [[name, _told(before[name], now[name]), _told(now[name], before[name])] for name in different]


import kdops
before = settings()
from kdops.config.engines import ENGINES
EXTRAS = {spec.place.partition(":")[0]: [spec.package] for spec in ENGINES.values() if spec.package}
for found in pkgutil.walk_packages(kdops.__path__, "kdops."):
    if all(find_spec(package) for package in EXTRAS.get(found.name, [])):
        import_module(found.name)
by_import = changed(before)

from kdops.config.settings import Settings
from kdops.search.search import Search
small = {"temperatures": "1,4", "seeds": "2", "epochs": "teacher=2,student=2"}
search = {**small, "trials": "3", "batch": "3", "space": "temperature=1..4 hidden=8"}
by_study = {}
for entry_point in sys.argv[1:]:
    before = settings()
    given = {"students": small, "search": search}[entry_point]
    import_module(f"pipelines.{entry_point}").main(Settings.parse(entry_point, **given))
    by_study[entry_point] = changed(before)
print("found:" + json.dumps({"import": by_import, **by_study}))
"""


@pytest.mark.parametrize("studies", [[], pytest.param(["students", "search"], marks=pytest.mark.slow)])
def test_a_library_import_and_a_study_from_python_change_nothing_of_the_process(studies, tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "KDOPS_"))}
    environment = {
        **kept,
        "PYTHONPATH": str(ROOT),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "MPLBACKEND": "svg",
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE, *studies],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=800,
    )
    found = [line for line in done.stdout.splitlines() if line.startswith("found:")]
    assert found, done.stderr[-3000:]
    assert json.loads(found[0].removeprefix("found:")) == {"import": [], **{study: [] for study in studies}}
    # Optuna writes one line a trial of its own.
    assert "[I " not in done.stderr


@pytest.mark.slow
def test_nothing_is_reported_after_the_result():
    """Triton's bindings count what is left at the end of the process, and would report it as leaks."""
    code = (
        "from kdops.cli.process import configure_process; configure_process('torch.utils.flop_counter'); print('done')"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
    )
    assert told.stdout == "done\n"
    assert "leaked" not in told.stderr
