"""What a process writes on the run that MLflow made for it, before and beside any study."""

from __future__ import annotations

import os

from kdops.utils.secrets import redact_secrets

__all__ = ["ERROR", "PROCESS", "name_process", "note_error"]

PROCESS = "kdops.process"
ERROR = "kdops.error"
CHARACTERS = 1000
"""Of an error; MLflow keeps 8,000, and a page shows far fewer."""


def name_process() -> None:
    """Write this process on its run, so that the end of both can be told whatever happens."""
    from kdops.utils.process import ProcessId  # not above: the command line imports this module

    _write(PROCESS, str(ProcessId.own()))


def note_error(message: str) -> None:
    """Write on the run why it failed; a store that cannot be written to keeps its own error the one that is told."""
    try:
        _write(ERROR, redact_secrets(message)[:CHARACTERS])
    except Exception:
        return


def _write(tag: str, value: str) -> None:
    if run_id := os.environ.get("MLFLOW_RUN_ID"):
        from mlflow import MlflowClient

        MlflowClient().set_tag(run_id, tag, value)
