"""The study of methods: equal budgets, fresh replicates for what was chosen on validation, and a verdict on each."""

import json

import numpy as np
import pytest

from kdops.config.method_trials import shuffled, trials_of
from kdops.config.methods import parse_method
from kdops.config.settings import Settings

SMALL = {"methods": "dkd", "trials": "2", "seeds": "2", "temperatures": "2,4", "epochs": "teacher=2,student=2"}


def test_methods_are_compared_on_fresh_replicates_with_as_many_trials(store):
    parent = store.run("methods", **SMALL)
    children = store.children(parent)
    students = [run for run in children if run.data.tags["kdops.role"] == "student"]
    settings = Settings.parse("methods", **SMALL)
    by_seed: dict[str, list[str]] = {}
    for run in students:
        by_seed.setdefault(run.data.params["seed"], []).append(run.data.params.get("method", "labels"))
    # Two trials of two methods on the replicates 0 and 1; on 2 and 3 hard labels, the best of each, and both shuffled.
    assert {seed: len(methods) for seed, methods in by_seed.items()} == {"0": 4, "1": 4, "2": 5, "3": 5}
    tried = {str(method) for one in settings.methods for method, _ in trials_of(one, 2, (2.0, 4.0))}
    assert set(by_seed["0"]) == tried
    fresh = [run for run in students if run.data.params["seed"] == "2" and "method" in run.data.params]
    plain = [run for run in fresh if not run.data.params["method"].startswith("shuffled")]
    assert len(plain) == 2
    texts = {run.data.params["method"] for run in fresh}
    assert texts >= {str(shuffled(parse_method(run.data.params["method"]))) for run in plain}
    for run in plain:
        name = run.data.params["method"].partition("(")[0]
        scores: dict[tuple[str, str], float] = {}
        for other in students:
            params = other.data.params
            if params["seed"] in "01" and params["method"].partition("(")[0] == name:
                key = params["method"], params["temperature"]
                scores[key] = scores.get(key, 0.0) + other.data.metrics["val_accuracy"]
        chosen = run.data.params["method"], run.data.params["temperature"]
        assert scores[chosen] == max(scores.values())
    answer = json.loads(store.artifact(parent, "answer.json").read_text())
    assert [claim["name"] for claim in answer["claims"]] == ["methods", "method_dkd"]
    for kind, name in (
        ("seconds", "train_seconds"),
        ("beside", "method_parameters"),
        ("kept", "method_bytes"),
        ("peak", "train_peak_bytes"),
    ):
        own = [run for run in students if run.data.params["seed"] in "23"]
        mean = np.mean([o.data.metrics[name] for o in own if o.data.params.get("method", "").startswith("dkd")])
        assert answer["statistics"][f"method_dkd_{kind}"] == pytest.approx(mean)
    assert store.artifact(parent, "figures/figure-methods.png").stat().st_size > 5000
    before = len(store.trained())
    store.run("methods", **SMALL)
    assert len(store.trained()) == before


def test_a_dry_run_lists_what_is_trained(nowhere, capsys):
    nowhere.plan("methods", **SMALL)
    # Four teachers; two methods with two trials on two replicates; their best, shuffled too, and hard labels on two.
    assert "22 models, 22 to train" in capsys.readouterr().out
