"""Secrets of the environment are nowhere in a store, in an artifact, in a report or in a line that kdops prints."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from kdops.cli.app import main
from kdops.errors import KdopsError
from kdops.store.liveness import note_error
from kdops.utils.secrets import redact_password, redact_secrets

CANARY = "canary4711"
SECRETS = {
    "MLFLOW_TRACKING_USERNAME": "somebody",
    "MLFLOW_TRACKING_PASSWORD": f"{CANARY}a",
    "MLFLOW_TRACKING_TOKEN": f"{CANARY}b",
    "AWS_ACCESS_KEY_ID": f"{CANARY}c",
    "AWS_SECRET_ACCESS_KEY": f"{CANARY}d",
    "AWS_SESSION_TOKEN": f"{CANARY}e",
    "AZURE_STORAGE_ACCESS_KEY": f"{CANARY}f",
    "OPENAI_API_KEY": f"{CANARY}g",
    "HTTPS_PROXY": f"http://me:{CANARY}h@127.0.0.1:1",
    "PGPASSWORD": f"{CANARY}i",
}


@pytest.fixture
def secret(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def found_in(folder: Path) -> list[str]:
    """Return the files below a folder that hold a canary, compressed databases and models included as they are."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]


def test_a_study_and_its_report_hold_no_secret(store, secret, capfd, monkeypatch):
    run = store.run("students", seeds=1, epochs=1, temperatures="1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    for arguments in (
        ["runs", "--csv"],
        ["report", run.info.run_id],
        ["lineage", "kdops-digits-student@champion"],
        ["candidates"],
    ):
        assert main(arguments) == 0
    out, err = capfd.readouterr()
    assert CANARY not in out + err
    with sqlite3.connect(store.database) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone()[0] > 2
        assert CANARY not in "\n".join(connection.iterdump())
    assert found_in(store.folder) == []
    assert "report.md" in out


@pytest.mark.parametrize("command", ["runs", "teacher", "ensemble"])
@pytest.mark.parametrize(
    "uri",
    [
        f"postgresql+psycopg2://me:{CANARY}@127.0.0.1:1/x",
        f"http://me:{CANARY}@127.0.0.1:1",
        f"mysql://me@127.0.0.1:1/x?password={CANARY}",
        f"nonsense://me:{CANARY}@x",
    ],
)
def test_the_password_of_a_store_that_is_not_there_is_not_told(command, uri, secret, nowhere, capfd, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    before = dict(os.environ)
    try:
        assert main([command]) == 1
    finally:
        os.environ.clear()
        os.environ.update(before)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert CANARY not in err


def test_an_error_that_quotes_a_secret_is_noted_without_it(store, secret, monkeypatch):
    from pipelines import teacher

    def quoting(settings):
        from kdops.study.open import open_study

        with open_study("teacher", settings):
            raise KdopsError(f"cannot log in with {SECRETS['MLFLOW_TRACKING_PASSWORD']}")

    monkeypatch.setattr(teacher, "main", quoting)
    with pytest.raises(KdopsError):
        store.run("teacher")
    (run,) = store.studies()
    assert run.data.tags["kdops.error"] == "cannot log in with ***"
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    note_error(f"the token {SECRETS['MLFLOW_TRACKING_TOKEN']} is refused")
    (run,) = store.studies()
    assert run.data.tags["kdops.error"] == "the token *** is refused"
    assert found_in(store.folder) == []


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:a@b:c@host/db", "postgresql://me:***@host/db"),
        ("postgresql://:secret@host/db", "postgresql://:***@host/db"),
        ("postgresql://host/db?user=me&password=secret", "postgresql://host/db?user=me&password=***"),
        ("mssql://host/db?PWD=secret;x=1", "mssql://host/db?PWD=***;x=1"),
        ("https://host/?access_token=secret#x", "https://host/?access_token=***#x"),
        ("sqlite:////tmp/a:b/c@d/mlflow.db", "sqlite:////tmp/a:b/c@d/mlflow.db"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
    ],
)
def test_addresses_are_shown_without_their_passwords(address, shown):
    assert redact_password(address) == shown
    assert redact_password(f"cannot open {address} now") == f"cannot open {shown} now"


def test_what_is_part_of_other_words_is_hidden_in_addresses_alone(monkeypatch):
    monkeypatch.setenv("MY_PASSWORD", "abc")
    assert redact_secrets("abcdef") == "abcdef"
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "postgresql://me:p%40ss-word@host/db")
    assert redact_secrets("login with p@ss-word or p%40ss-word failed") == "login with *** or *** failed"
