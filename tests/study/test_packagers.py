"""A network is exported once in a process where its text says all about it, and anew where code of others does."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import mlflow
import pytest
import torch

from kdops.config.architectures import parse_architecture
from kdops.models.classifier import build
from kdops.study import packagers
from kdops.study.packagers import Packagers
from kdops.utils.random import named_generator

OWN = parse_architecture("mlp(hidden=3)")
SHAPE = (1, 4, 4)
NETS = """
from torch import nn

UNITS = 3

def small(channels, height, width, classes):
    inputs = channels * height * width
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, UNITS), nn.ReLU(), nn.Linear(UNITS, classes))
"""


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(packagers, "_KEPT", {})


def data(classes=("a", "b"), shape=SHAPE):
    return SimpleNamespace(shape=shape, metadata={"class_names": list(classes)})


def network(architecture=OWN, shape=SHAPE, stream="one"):
    """Return a network of two classes with weights of its own."""
    return build(architecture, shape, 2, torch.tensor([100.0]), torch.tensor([50.0]), named_generator(stream))


def assert_written(packager, net, folder):
    """See that what is stored of a network computes what it computes."""
    packager.write(folder, net.state_dict(), model_id="m-1", run_id="r", location="here")
    images = torch.randint(0, 256, (5, *SHAPE), dtype=torch.uint8, generator=named_generator("images"))
    with torch.no_grad():
        torch.testing.assert_close(mlflow.pytorch.load_model(folder)(images), net.eval()(images))


def test_a_later_study_on_the_same_data_writes_its_networks_by_the_export_of_the_first(tmp_path):
    first = Packagers(data()).of(OWN, network)
    later = Packagers(data()).of(OWN, pytest.fail)
    assert later is first
    for stream in ("one", "other"):
        assert_written(later, network(stream=stream), tmp_path / stream)


@pytest.mark.parametrize("other", [data(classes=("a", "c")), data(shape=(1, 4, 5))])
def test_other_data_are_exported_anew(other):
    first = Packagers(data()).of(OWN, network)
    assert Packagers(other).of(OWN, partial(network, shape=other.shape)) is not first


def test_networks_of_others_are_exported_in_each_study_and_once_in_it(tmp_path, monkeypatch):
    (tmp_path / "nets_of_packagers.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    others = parse_architecture("nets_of_packagers:small")
    for units in (3, 4):
        net = network(others)
        study = Packagers(data())
        packager = study.of(others, lambda net=net: net)
        assert study.of(others, pytest.fail) is packager
        assert_written(packager, net, tmp_path / str(units))
        # Their code may be another one for the next study, under the same name.
        import nets_of_packagers

        nets_of_packagers.UNITS = 4


def test_no_more_are_kept_than_said(monkeypatch):
    monkeypatch.setattr(packagers, "MOST_KEPT", 2)
    first, second, last = [parse_architecture(f"mlp(hidden={units})") for units in (1, 2, 4)]
    for one in (first, second, last):
        kept = Packagers(data()).of(one, partial(network, one))
    assert len(packagers._KEPT) == 2
    assert Packagers(data()).of(last, pytest.fail) is kept
    assert [architecture for architecture, *_ in packagers._KEPT] == [str(second), str(last)]
