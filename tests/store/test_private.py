"""What kdops uses of MLflow's inside, as it is in MLflow 3.17.2: with another version, look here first."""

from __future__ import annotations

from importlib.resources import files

import pytest

from kdops.store import connections, database, tables


def test_the_engines_are_those_that_mlflow_uses(store):
    client = store.client
    runs, models = connections.engines_of(store.uri)
    assert client._tracking_client.store.engine is runs
    assert client._get_registry_client().store.engine is models


def test_commits_wait_for_the_disk_now_and_then_in_the_store_alone(store, tmp_path):
    from sqlalchemy import create_engine, text

    database.ensure_store(store.uri)
    ours, others = connections.engines_of(store.uri)[0], create_engine(f"sqlite:///{tmp_path}/other.db")
    for engine, level in ((ours, 1), (others, 2)):  # NORMAL, FULL
        with engine.connect() as connection:
            assert connection.execute(text("PRAGMA synchronous")).scalar() == level


@pytest.mark.parametrize("missing", ["runs", "models"])
def test_without_these_engines_the_store_is_only_slower(missing, store, monkeypatch):
    from mlflow.store.model_registry import sqlalchemy_store as models
    from mlflow.store.tracking import sqlalchemy_store as runs

    stores = {"runs": runs, "models": models}[missing]
    monkeypatch.setattr(stores.SqlAlchemyStore, "_get_or_create_engine", None)
    assert len(connections.engines_of(store.uri)) == 1


def test_the_newest_migration_is_found_in_the_text_of_the_migrations():
    assert tables._newest(files("mlflow.store.db_migrations"))
