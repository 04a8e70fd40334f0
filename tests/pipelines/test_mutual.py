"""The study of companies: every peer is a tracked model, the control is the plain training, votes stand beside."""

import json

import pytest

from kdops.config.settings import HARD, Settings
from kdops.errors import UsageError
from kdops.study.open import open_study
from kdops.sweeps.unit import Task

SMALL = {"nets": "mlp(hidden=5)+mlp(hidden=3,depth=2)", "seeds": "1", "epochs": "2", "company": "mutual"}


def test_companies_are_held_against_independent_nets(store, capsys):
    store.plan("mutual", **SMALL)
    planned = capsys.readouterr().out
    parent = store.run("mutual", **SMALL)
    peers = [run for run in store.children(parent) if run.data.tags["kdops.role"] == "peer"]
    assert f"{len(peers)} models, {len(peers)} to train" in planned
    by_company: dict[str, list] = {}
    for run in peers:
        by_company.setdefault(run.data.tags["kdops.company"], []).append(run)
        assert run.data.tags["kdops.model"].startswith("models:/kdops-digits-peer/")
        assert run.data.params["nets"] == "mlp(hidden=5,depth=1,dropout=0)+mlp(hidden=3,depth=2,dropout=0)"
    for company, runs in by_company.items():
        assert sorted(run.data.params["seed"] for run in runs) == ["0", "1000000"]
        assert len({run.data.tags["kdops.fleet_digest"] for run in runs}) == 1
        assert {run.data.params["targets"] for run in runs} == {
            "labels" if company == "independent" else "labels and peers"
        }
    assert set(by_company) == {"independent", "mutual"}
    votes = [run for run in store.children(parent) if run.data.tags["kdops.role"] == "ensemble"]
    assert len(votes) == 2
    answer = json.loads(store.artifact(parent, "answer.json").read_text())
    assert [claim["name"] for claim in answer["claims"]] == ["members", "vote", "members_mutual", "vote_mutual"]
    nets = by_company["mutual"][0].data.params["nets"].split("+")
    assert [row["what"] for row in answer["rows"]] == [
        f"{company}, {what}" for company in ("independent", "mutual") for what in ("members", *nets, "their vote")
    ]
    assert store.artifact(parent, "figures/figure-mutual.png").stat().st_size > 5000
    # The first independent net is the very student that learns hard labels by itself.
    student = Settings.parse("students", student="mlp(hidden=5)", seeds="1", epochs="2")
    with open_study("students", student) as study:
        task = Task("student", "transfer images", student.order)
        (hard,) = study.executor.sweep(task, {0: None}, (HARD,), study.transfer_images(0), study.context)
    first = next(run for run in by_company["independent"] if run.data.params["seed"] == "0")
    assert hard.weights == first.data.tags["kdops.weights"]
    before = store.trained()
    store.run("mutual", **SMALL)
    assert store.trained() == before


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"nets": "1"}, "nets=1: must be a whole number from 2"),
        ({"nets": "9" * 5000}, "must be a whole number from 2"),
        ({"nets": "mlp"}, "nets=mlp: must be a number from 2"),
        ({"nets": "mlp+torchvision:resnet18"}, "no network of kdops's own"),
        ({"nets": "mlp+"}, "unknown architecture"),
        ({"company": "logits"}, "company=logits: must be one of independent"),
        ({"company": "mutual,mutual"}, "given twice"),
        ({"company": "independent"}, "trained beside every other"),
        ({"company": "mutual(order=random)"}, "one of simultaneous, sequential"),
        ({"company": "mutual(temperature=0)"}, "temperature must be a number above 0"),
        ({"method": "dkd"}, "company names how nets learn"),
        ({"company": "adversarial"}, "must be cnn(...) with as many layers each"),
        ({"company": "adversarial", "nets": "cnn(layers=2)+cnn(layers=3)"}, "must be cnn(...) with as many layers"),
    ],
)
def test_what_is_no_company_is_refused_in_a_line(given, words):
    with pytest.raises(UsageError, match=r"^(nets|company|method)=") as refused:
        Settings.parse("mutual", **given)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
