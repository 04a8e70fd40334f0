"""What the engine makes of units: groups, members by their number, and sources by what they can give."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from kdops.config.architectures import parse_architecture
from kdops.config.methods import parse_method
from kdops.distillation.method import build_method
from kdops.distillation.sources import Kept, Live, Mixture
from kdops.errors import UsageError
from kdops.models.classifier import build, pixel_statistics
from kdops.sweeps.model import Model
from kdops.sweeps.unit import Task, Unit
from kdops.training import local
from kdops.training.local import LocalEngine
from kdops.utils.random import named_generator
from tests.toys import quarters

COUNT, CLASSES = 20, 4
IMAGES = quarters(COUNT, 0, 4)
ROWS = np.arange(COUNT)
SOURCE = Model("teacher", 0, 0.0, "teacher", "labels", "models:/kdops-toy-teacher/1", weights="w")
NET = build(
    parse_architecture("cnn(filters=5,layers=2)"),
    (1, 4, 4),
    CLASSES,
    *pixel_statistics(IMAGES.pixels),
    named_generator("net"),
)


def engine(net):
    found = LocalEngine.__new__(LocalEngine)
    found.context = SimpleNamespace(device="cpu")
    found._outputs = {}
    found.net = lambda record: net
    found._pixels = lambda rows: IMAGES.pixels[torch.from_numpy(rows)]
    found._logits_of = lambda record, rows, part: torch.zeros(len(rows), CLASSES)
    found._logits_at = lambda record, rows, part, t: torch.full((len(rows), CLASSES), t)
    return found


def units(seeds=(0,), temperatures=(0.0, 1.0, 4.0), method="logits", predictions=False):
    task = Task("student", "transfer images", "shared", predictions, method=parse_method(method))
    return [
        Unit(task, Model("student", s, t, "", "", ""), SOURCE if t or predictions else None, f"{s} {t}", "")
        for s in seeds
        for t in temperatures
    ]


@pytest.mark.parametrize("predictions", [False, True])
@pytest.mark.parametrize("net", [NET, Mixture([nn.Identity()], [1.0])], ids=["one", "several"])
def test_units_are_in_the_order_of_the_groups_members(net, predictions):
    given = units((3, 1), predictions=predictions)
    groups, ordered = engine(net)._groups(given, ROWS, build_method(parse_method("logits")))
    members = [(group.seed, t) for group in groups for t in group.temperatures]
    assert members == [(unit.record.seed, unit.record.temperature) for unit in ordered]
    assert sorted(unit.fingerprint for unit in ordered) == sorted(unit.fingerprint for unit in given)


def test_units_that_differ_in_neither_seed_nor_temperature_are_each_their_own():
    twice = [*units((0,), (4.0,)), *units((0,), (4.0,), method="logits(alpha=0.5)")]
    _, ordered = engine(NET)._groups(twice, ROWS, build_method(parse_method("logits")))
    assert ordered == twice


@pytest.mark.parametrize("net", [nn.Identity(), Mixture([nn.Identity()], [1.0])], ids=["a program", "several"])
def test_a_source_that_is_no_network_of_kdops_has_logits_only(net):
    rkd = build_method(parse_method("rkd"))
    with pytest.raises(UsageError, match=r"^method=models:/kdops-toy-teacher/1: this source has logits only"):
        engine(net)._groups(units(), ROWS, rkd)
    dkd, _ = engine(net)._groups(units(), ROWS, build_method(parse_method("dkd")))
    assert all(isinstance(group.source, Kept) and not group.source.features for group in dkd)


def test_features_are_kept_up_to_a_bound_and_the_embedding_always(monkeypatch):
    here = engine(NET)
    kept = here._source(SOURCE, ROWS, "part", ("stage1", "embedding"))
    assert isinstance(kept, Kept)
    assert kept.shapes.features == {"stage1": (5, 2, 2), "embedding": (5,)}
    monkeypatch.setattr(local, "KEPT_BYTES", 10)
    live = here._source(SOURCE, ROWS, "part", ("stage1",))
    assert isinstance(live, Live)
    chosen = torch.tensor([3, 0, 7])
    torch.testing.assert_close(live.at(chosen).features["stage1"], kept.at(chosen).features["stage1"])
    assert live.shapes.features == {"stage1": (5, 2, 2)}
    assert isinstance(here._source(SOURCE, ROWS, "part", ("embedding",)), Kept)
    with pytest.raises(UsageError, match="the source has no such tap; it has stage1, stage2, embedding"):
        here._source(SOURCE, ROWS, "part", ("stage3",))


def test_a_model_is_measured_with_the_architecture_of_its_task(monkeypatch):
    """A model may be registered as another role than the one whose recipe it was trained by."""
    here, asked = engine(NET), []
    here.context = SimpleNamespace(
        device="cpu", architecture_of=asked.append, split=SimpleNamespace(validation=ROWS, test=ROWS)
    )
    here._net = lambda architecture, state: NET
    here._metrics = lambda unit, one, val, test: {}
    task = Task("reseeded", "transfer images", "shared", registered="student")
    one = Unit(task, Model("student", 0, 4.0, "", "", ""), None, "", "")
    here._measured([SimpleNamespace(state={})], [one])
    assert asked == ["reseeded"]
