"""Runs an entry point as the MLflow project it is, from any folder and with an installed wheel too.

Everything that can be wrong with what the caller gave is found here, before a run exists: MLflow ends every
failing child alike, and leaves a failed run behind. MLflow itself is imported only once that is done.
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from kdops.cli import PARENT
from kdops.cli.process import configure_process
from kdops.config.parsing import whole
from kdops.config.search import SearchSettings
from kdops.config.settings import Settings
from kdops.errors import KdopsError, UsageError
from kdops.utils.hardware import resolve_device
from kdops.utils.imports import CODE_FOLDER
from kdops.utils.quiet import ASKED_IN_A_STUDY, ASKED_ONCE_MORE, server_patience, silenced

__all__ = ["LAUNCHER", "absolute_store", "end_with_parent", "interruptible", "launch", "open_ui"]

LAUNCHER = "KDOPS_LAUNCHER"
"""The variable by which a study knows the process that launched it, whatever shells lie between them."""

MANY = 1000
"""Fewer images are decoded in no time."""

STORES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")


def launch(entry_point: str, given: Mapping[str, str]) -> int:
    """Check what the caller gave, then run the entry point in a child process, as ``mlflow run`` does.

    The child gets the store, the data folder and the interpreter of the caller, whatever folder it runs in.

    Args:
        entry_point: a key of ``ENTRY_POINTS``.
        given: parameters as text, by name.

    Returns:
        The exit code, 0.

    Raises:
        UsageError: a parameter, the data or the device is not what it should be; no run was made.
        KdopsError: the run failed, or was interrupted.
    """
    settings = Settings.parse(entry_point, **given)
    # Only now, so that a mistake in a parameter is answered at once.
    from kdops.data.dataset import load

    with interruptible():
        if settings.device == "cuda":
            resolve_device(settings.device)
        _make_environment_absolute(Path.cwd())
        pipeline = importlib.import_module(f"pipelines.{entry_point}")
        settings = _absolute(settings)
        with server_patience(ASKED_ONCE_MORE):
            # What is downloaded or decoded now is kept for the child.
            data = load(settings.origin, settings.data_root, progress=_tell_decoding)
            pipeline.check(settings, data)
            if settings.dry_run:
                pipeline.main(settings, data)
                return 0
        _run_project(entry_point, {**given, **_paths(settings)})
    return 0


def open_ui(host: str, port: str) -> None:
    """Show the store in the browser: become ``mlflow ui``, so that signals reach it directly.

    Raises:
        UsageError: the port is no port, or the store is a server already.
    """
    port = str(whole("port", port, 1, 65535))
    _make_environment_absolute(Path.cwd())
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if re.match(r"https?:", uri):
        raise UsageError("MLFLOW_TRACKING_URI", uri, "is a server with a page of its own; open it in a browser")
    from kdops.store.database import ensure_experiment, ensure_store
    from kdops.store.experiment import experiment_name

    ensure_store(uri)
    experiment = ensure_experiment(experiment_name())
    # The page opens on language-model work unless its address says otherwise.
    print(f"Runs: http://{host}:{port}/#/experiments/{experiment}/runs?workflowType=machine_learning", flush=True)
    arguments = ["--backend-store-uri", uri, "--host", host, "--port", port]
    # For one person's browser one worker is quick to start and enough; MLflow's four, and its job runners
    # for language-model evaluations, take a small machine a minute.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    command = [sys.executable, "-m", "mlflow", "ui", *arguments, "--workers", "1"]
    sys.stdout.flush()
    os.execv(sys.executable, command)


def absolute_store(uri: str, folder: Path, parameter: str = "MLFLOW_TRACKING_URI") -> str:
    """Return a store's address with a relative sqlite file made absolute; others come back as they are.

    Raises:
        UsageError: a database in memory, which the child process could not see.
    """
    match = re.fullmatch(r"(sqlite(?:\+\w+)?):(?://(?:/([^?]*))?)?(\?.*)?", uri)
    if not match:
        return uri
    scheme, path, query = match[1], match[2] or "", match[3] or ""
    if path in ("", ":memory:"):
        raise UsageError(parameter, uri, "must name a file, such as sqlite:///mlflow.db")
    if not path.startswith("/"):
        path = os.path.normpath(f"{quote(str(folder))}/{path}")
    return f"{scheme}:///{path}{query}"


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGTERM into the ``KeyboardInterrupt`` that Ctrl-C is, so that both end a study in order.

    After the first, further SIGTERMs are ignored: Ctrl-C reaches launcher and child at the same time, and
    the launcher passes it on. Outside the main thread, where Python allows no handlers, nothing changes.
    """

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    def interrupt_from_keyboard(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        interrupt()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {signal.SIGTERM: interrupt, signal.SIGINT: interrupt_from_keyboard}
    # What is ignored stays ignored: a shell says so of SIGINT for a job in the background.
    before = {s: signal.getsignal(s) for s in handlers if signal.getsignal(s) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, handlers[number])
    try:
        yield
    except KeyboardInterrupt:
        raise KdopsError("interrupted") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_parent(seconds: float = 1.0) -> None:
    """Interrupt this process soon after the one that started it is gone, or the one that launched its study.

    MLflow does not pass SIGTERM on to the child, and cannot pass SIGKILL on; without this the child would
    train on with nobody waiting for it.

    Args:
        seconds: how often to look.
    """
    from kdops.utils.process import ProcessId

    own, launcher = ProcessId.own(), os.environ.get(LAUNCHER, "")

    def watch() -> None:
        while os.getppid() == PARENT and not own.is_dead(launcher):
            gone.wait(seconds)
        os.kill(os.getpid(), signal.SIGTERM)

    gone = threading.Event()
    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def _tell_decoding(done: int, total: int) -> None:
    # A log gets one line, and none where all is done at once.
    if sys.stderr.isatty() or done == total >= MANY:
        end = "\n" if done == total else "\r"
        print(f"decoding images: {done} of {total}", end=end, file=sys.stderr, flush=True)


def _absolute(settings: Settings) -> Settings:
    """Return settings whose paths are absolute, since the child has another folder."""
    root = settings.data_root and os.path.abspath(os.path.expanduser(settings.data_root))
    settings = replace(settings, origin=settings.origin.absolute(), data_root=root)
    if isinstance(settings, SearchSettings) and settings.storage:
        return replace(settings, storage=_absolute_storage(settings.storage))
    return settings


def _paths(settings: Settings) -> dict[str, str]:
    """Return the parameters that hold a path or an address, as text."""
    paths = {"dataset": str(settings.origin), "data_root": settings.data_root}
    if isinstance(settings, SearchSettings):
        paths["storage"] = settings.storage
    return {name: text for name, text in paths.items() if text}


def _absolute_storage(storage: str) -> str:
    """Return the path of a journal, or the address of a database, as it is meant in the caller's folder."""
    if "://" not in storage:
        return os.path.abspath(os.path.expanduser(storage))
    return absolute_store(storage, Path.cwd(), "storage")


def _make_environment_absolute(folder: Path) -> None:
    """Fix in the environment what is relative to the caller's folder, since the child has another."""
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        os.environ["MLFLOW_TRACKING_URI"] = "sqlite:///mlflow.db"
    for variable in STORES:
        if uri := os.environ.get(variable):
            os.environ[variable] = absolute_store(uri, folder)
    if root := os.environ.get("KDOPS_DATA_ROOT"):
        os.environ["KDOPS_DATA_ROOT"] = os.path.abspath(os.path.expanduser(root))
    # A data set may be code of the caller's own, in this folder or on a path that is relative to it.
    os.environ[CODE_FOLDER] = str(folder)
    if path := os.environ.get("PYTHONPATH"):
        os.environ["PYTHONPATH"] = os.pathsep.join(os.path.abspath(part) for part in path.split(os.pathsep) if part)
    # The project's command says ``python``; it must be this one, even if its folder is not on the path.
    here = os.path.dirname(sys.executable)
    os.environ["PATH"] = os.pathsep.join([here, os.environ.get("PATH", os.defpath)])


def _project_folder() -> Path:
    """Return the folder of ``MLproject``: the source checkout, else the copy that the wheel carries."""
    from kdops.store.experiment import is_project

    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent, package / "project"):
        if is_project(folder):
            return folder
    raise KdopsError(f"no MLproject of kdops beside {package}; is the installation complete?")


def _experiment() -> str:
    """Name the experiment and make it where it is missing.

    It is made here, in the caller's folder: that is where MLflow then puts a local store's artifacts.
    """
    from kdops.store.database import ensure_experiment, ensure_store
    from kdops.store.experiment import experiment_name

    ensure_store(os.environ["MLFLOW_TRACKING_URI"])
    name = experiment_name()
    ensure_experiment(name)
    return name


def _run_project(entry_point: str, parameters: dict[str, str]) -> None:
    configure_process("mlflow")
    import mlflow
    from mlflow.exceptions import ExecutionException

    from kdops.store.faults import explained_faults
    from kdops.utils.process import ProcessId

    os.environ[LAUNCHER] = str(ProcessId.own())
    # MLflow's lines repeat the whole command; the pipeline itself reports what matters.
    # A wrong address is reported within seconds; once models are trained, a server that is away is waited for.
    with silenced("mlflow.projects"), explained_faults(os.environ["MLFLOW_TRACKING_URI"]):
        with server_patience(ASKED_ONCE_MORE):
            experiment = _experiment()
        try:
            with server_patience(ASKED_IN_A_STUDY):
                mlflow.projects.run(
                    uri=str(_project_folder()),
                    entry_point=entry_point,
                    parameters=parameters,
                    env_manager="local",
                    synchronous=True,
                    experiment_name=experiment,
                )
        except ExecutionException as error:
            raise KdopsError(f"{entry_point}: {error}; what went wrong is told above") from None
