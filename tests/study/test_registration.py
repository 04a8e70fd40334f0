"""A network that was trained elsewhere becomes a model of the registry."""

import json
import math

import numpy as np
import torch
from PIL import Image

from kdops.cli.app import main
from kdops.data import dataset as datasets
from kdops.sweeps import schema
from tests.packaging.test_weights_file import HERE, Net

DIGITS = datasets.load("digits")


def test_a_network_trained_elsewhere_is_a_model_like_others_but_never_champion_by_itself(store, capsys):
    torch.manual_seed(1)
    net = Net(64, 10)
    torch.save(net.state_dict(), "mine.pt")
    given = ["register", "mine.pt", "--source-model", f"{HERE}:plain", "--source-normalize", "unit"]
    assert main(given) == 0
    assert main(given) == 0, "the same again is there already"
    (version,) = store.client.search_model_versions("name = 'kdops-digits-student'")
    assert schema.is_own(version)
    assert (version.tags["source"], version.tags["chain"]) == ("elsewhere", "student")
    assert math.isnan(float(version.tags["temperature"]))
    images, labels = torch.from_numpy(np.array(DIGITS.images[DIGITS.test])), DIGITS.labels[DIGITS.test]
    right = net(images.float() / 255).argmax(1).numpy() == labels
    assert float(version.tags["test_accuracy"]) == right.mean()
    assert "champion" not in store.client.get_registered_model("kdops-digits-student").aliases
    capsys.readouterr()
    Image.fromarray(DIGITS.images[0, 0]).save("one.png")
    called = ["kdops-digits-student/1"]
    for command in (["candidates"], ["promote", *called], ["lineage", *called]):
        assert main(command) == 0
    assert "a training elsewhere, which is not known here" in capsys.readouterr().out
    assert main(["predict", *called, "one.png", "--csv"]) == 0
    row = capsys.readouterr().out.splitlines()[1].split(",")
    wanted = (net(torch.from_numpy(DIGITS.images[:1]).float() / 255)).softmax(1)[0].tolist()
    np.testing.assert_allclose(list(map(float, row[3:])), wanted, rtol=1e-4)
    (parent,) = [run for run in store.studies() if run.data.tags["kdops.study"] == "register"][1:]
    settings = json.loads(store.artifact(parent, "settings.json").read_text())["settings"]
    assert settings["source_model"] == f"{HERE}:plain"


def test_a_network_in_another_group_than_the_students_here_says_how_it_joins_them(fork, capsys):
    students = len(fork.client.search_model_versions("name = 'kdops-digits-student'"))
    torch.save(Net(64, 10).state_dict(), "mine.pt")
    given = ["register", "mine.pt", "--source-model", f"{HERE}:plain", "--source-normalize", "unit"]
    told = (
        f"The students of these data ({students}) have transfer=disjoint and this one has shared, so they are not "
        "compared; --transfer disjoint registers it beside them."
    )
    for _ in range(2):
        assert main([*given, "--transfer", "shared"]) == 0
        assert told in capsys.readouterr().out.splitlines(), "one that was registered so before is no student of here"
    assert main(given) == 0
    assert "compared" not in capsys.readouterr().out


def test_what_cannot_be_registered_is_one_line_and_leaves_nothing(store, capsys):
    torch.save(Net(64, 3).state_dict(), "three.pt")
    for given, told in (
        (["three.pt"], "source_model=(empty): must name the network"),
        (["three.pt", "--source-model", f"{HERE}:plain"], "has head.weight [3, 6]"),
        (["three.pt", "--source-model", f"{HERE}:plain", "--role", "peer"], "role=peer"),
        (["models:/a/1", "--source-model", f"{HERE}:plain"], "source is no .safetensors, .pt or .pth"),
    ):
        assert main(["register", *given]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert told in line
    assert store.runs() == []
