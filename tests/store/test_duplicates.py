"""What a repeated request made twice is removed, and nothing else."""

import time

from kdops.store import duplicates
from kdops.store.database import ensure_store
from kdops.store.duplicates import drop_unfinished_models


def test_an_unfinished_model_goes_though_the_clock_of_its_server_is_behind(store, monkeypatch):
    """A run starts by the clock of the study's host, a logged model is made by that of the server."""
    ensure_store(store.uri)
    monkeypatch.setattr(duplicates, "_is_served", lambda uri: True)
    client = store.client
    own, other = (client.create_run("0").info.run_id for _ in range(2))
    double, whole, others = (
        client.create_logged_model("0", name="net", source_run_id=run).model_id for run in (own, own, other)
    )
    client.finalize_logged_model(whole, "READY")
    drop_unfinished_models(client, "0", int(1000 * time.time()) + 300_000, {own})
    assert {model.model_id for model in client.search_logged_models(["0"])} == {whole, others}
    assert double not in {whole, others}
