"""Runs entry points that kill themselves at a named moment: a server that forks a process for each, imports paid once.

Each line on standard input is one job as JSON; each line on standard output is how its process ended. What a job kills
is a real process, by a real signal, in the middle of the real thing: only the call that it dies at is counted.
"""

import importlib
import json
import os
import signal
import sys
import traceback
from functools import partial
from pathlib import Path

MOMENTS = {
    "a statement of the database": "sqlalchemy.engine.default:DefaultDialect.do_execute",
    "the experiment": "mlflow:MlflowClient.create_experiment",
    "a decoded image": "kdops.data.images:pixels_of",
    "keeping the decoded images": "kdops.data.cache:_write",
    "ending stale runs": "kdops.tracking.tracker:end_stale_runs",
    "the study's data": "kdops.tracking.tracker:Tracker._log_data",
    "an epoch": "kdops.training.training_pass:TrainingPass._train_epoch",
    "a checkpoint": "kdops.training.checkpoint:_write",
    "a checkpoint's end": "kdops.training.checkpoint:Checkpoints.remove",
    "measuring": "kdops.training.engine:_measured",
    "the package": "kdops.packaging.folder:Packager._save_template",
    "a run": "mlflow:MlflowClient.create_run",
    "a logged model": "mlflow:MlflowClient.create_logged_model",
    "a model's folder": "kdops.packaging.folder:Packager.write",
    "a model's files": "kdops.tracking.model_run:put_files",
    "a ready model": "mlflow:MlflowClient.finalize_logged_model",
    "inputs": "mlflow:MlflowClient.log_inputs",
    "metrics": "mlflow:MlflowClient.log_batch",
    "a registered name": "mlflow:MlflowClient.create_registered_model",
    "a version": "mlflow:MlflowClient.create_model_version",
    "a version's link": "mlflow:MlflowClient.set_logged_model_tags",
    "a run's end": "mlflow:MlflowClient.set_terminated",
    "the alias": "mlflow:MlflowClient.set_registered_model_alias",
    "an ensemble": "kdops.ensembles.evaluation:EnsembleEvaluation.register",
    "the results": "kdops.study.conclusion:write_results",
    "a figure": "matplotlib.figure:Figure.savefig",
    "the artifacts": "mlflow:MlflowClient.log_artifacts",
    "the report": "kdops.reporting.report:write_report",
    "a part of the study": "kdops.tracking.tracker:Tracker.below",
    "withdrawing a version": "mlflow:MlflowClient.delete_model_version",
    "withdrawing a model": "mlflow:MlflowClient.delete_logged_model",
}
"""What a process may be killed at, and the function that is called for it."""

HEAVY = (
    "kdops.study.open",
    "kdops.ensembles.evaluation",
    "kdops.reporting.report",
    "kdops.reporting.figures",
    "kdops.ensembles.controls",
    "kdops.data.digits",
)


def kill_at(moment: str, number: int, when: str, how: int) -> None:
    """Let this process get a signal before or after the n-th call of a moment's function."""
    owner, name, real = _function(MOMENTS[moment])
    calls = [0]

    def counted(*arguments, **named):
        calls[0] += 1
        mine = calls[0] == number
        if mine and when == "before":
            os.kill(os.getpid(), how)
        answer = real(*arguments, **named)
        if mine and when == "after":
            os.kill(os.getpid(), how)
        return answer

    setattr(owner, name, counted)


def note_epochs(path: str) -> None:
    """Write down every epoch that ends: the role, and the members that were trained in it."""
    owner, name, real = _function(MOMENTS["an epoch"])

    def noted(self, *arguments):
        answer = real(self, *arguments)
        with open(path, "a") as file:
            file.write(json.dumps([self.role, self.members]) + "\n")
        return answer

    setattr(owner, name, noted)


def _function(path: str):
    module, _, names = path.partition(":")
    owner = importlib.import_module(module)
    *outer, name = names.split(".")
    for one in outer:
        owner = getattr(owner, one)
    return owner, name, getattr(owner, name)


def run(job: dict) -> None:
    """Become the process of a job, and never return."""
    sys.stdin.close()
    with open(Path(job["folder"]) / "output.txt", "a") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.chdir(job["folder"])
    os.environ.update(job["environment"])
    from kdops.cli.app import pipeline_main
    from kdops.training import checkpoint

    # A training here lasts a second: it is kept at every epoch as one of hours is.
    checkpoint.FIRST_SECONDS, checkpoint.SHARE = 0.0, float("inf")
    note_epochs(str(Path(job["folder"]) / "epochs.txt"))
    if job["kill"]:
        kill_at(*job["kill"])
    entry_point = job["command"][0]
    try:
        pipeline_main(entry_point, importlib.import_module(f"pipelines.{entry_point}").main, job["command"][1:])
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve() -> None:
    """Fork a process for every job, several at once where a job says how many."""
    import matplotlib.font_manager  # noqa: F401
    import mlflow  # noqa: F401

    for name in HEAVY:
        importlib.import_module(name)
    for path in (Path(__file__).parent.parent / "pipelines").glob("[a-z]*.py"):
        importlib.import_module(f"pipelines.{path.stem}")
    answer = partial(print, file=os.fdopen(os.dup(1), "w"), flush=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    answer("ready")
    for line in sys.stdin:
        children = {}
        for job in json.loads(line):
            child = os.fork()
            if child == 0:
                run(job)
            children[child] = None
        for child in children:
            _, status = os.waitpid(child, 0)
            children[child] = os.waitstatus_to_exitcode(status)
        answer(json.dumps(list(children.values())))


if __name__ == "__main__":
    serve()
