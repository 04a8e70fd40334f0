"""From units to orders: passes, members by their place, and sources by what they can give."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from kdops.config.architectures import parse_architecture
from kdops.config.methods import parse_method
from kdops.config.settings import Settings
from kdops.distillation.sources import Kept, Live, Mixture, RowOutputs
from kdops.errors import UsageError
from kdops.models.classifier import build, pixel_statistics
from kdops.study.sweep_training import ask_sources
from kdops.sweeps.model import COPY_SEEDS, Model
from kdops.sweeps.unit import Context, Task, Unit
from kdops.training import engine, stored_networks, sweep_orders
from kdops.training.checkpoint import Checkpoints
from kdops.training.evaluation import compute_logits
from kdops.training.local import LocalEngine
from kdops.training.order import Order
from kdops.training.stored_networks import Networks
from kdops.training.sweep_orders import TEST_IMAGES, Orders
from kdops.utils.progress import Reporter
from kdops.utils.random import named_generator
from tests.toys import quarters

COUNT, CLASSES = 20, 4
IMAGES = quarters(COUNT, 0, 4)
ROWS = np.arange(COUNT)
CNN = "cnn(filters=5,layers=2)"
SOURCE = Model(
    "teacher", 0, 0.0, "teacher", "labels", "models:/kdops-toy-teacher/1", weights="w", params={"architecture": CNN}
)
NET = build(
    parse_architecture(CNN), (1, 4, 4), CLASSES, *pixel_statistics(IMAGES.pixels), named_generator("net")
).eval()
DATA = SimpleNamespace(
    digest="toy",
    images=IMAGES.pixels.numpy(),
    labels=IMAGES.labels.numpy(),
    shape=(1, 4, 4),
    classes=tuple("abcd"),
    unlabeled=None,
)
SPLIT = SimpleNamespace(teacher=ROWS, transfers=(ROWS,), validation=ROWS, test=ROWS)


class Kept_(dict):
    """An engine that only keeps its arrays."""

    workers = 1
    put = dict.__setitem__


def made(net, units, tmp_path, **given):
    """Return the orders of units whose source is a network, each with its units, and the arrays."""
    networks = Networks(DATA, SPLIT, "cpu", lambda model: NET.state_dict(), lambda model: None)
    networks.adopt(SOURCE, net)
    arrays = Kept_()
    context = Context(Settings.parse("students", **given), DATA, SPLIT, "cpu")
    params = {"architecture": str(context.architecture_of("student"))}
    units = [replace(unit, record=replace(unit.record, params=params | unit.record.params)) for unit in units]
    return list(Orders(context, networks, arrays, Checkpoints(tmp_path)).of(units, ROWS)), arrays


def units(seeds=(0,), temperatures=(0.0, 1.0, 4.0), method="logits", predictions=False, order="shared"):
    task = Task("student", "transfer images", order, predictions, method=parse_method(method))
    return [
        Unit(task, Model("student", s, t, "", "", ""), SOURCE if t or predictions else None, f"{method} {s} {t}", "")
        for s in seeds
        for t in temperatures
    ]


@pytest.mark.parametrize("student", ["mlp(hidden=5)", "cnn(filters=4,layers=1)"])
@pytest.mark.parametrize("order", ["shared", "own"])
@pytest.mark.parametrize("predictions", [False, True])
@pytest.mark.parametrize("net", [NET, Mixture([NET], [1.0])], ids=["one", "several"])
def test_units_are_in_the_sequence_of_an_orders_members(net, predictions, order, student, tmp_path):
    given = units((3, 1), predictions=predictions, order=order)
    found, arrays = made(net, given, tmp_path, student=student)
    for one, own in found:
        assert [(group.seed, t) for group, t in one.members] == [(u.record.seed, u.record.temperature) for u in own]
        assert {group.own_order for group, _ in one.members} == {order == "own"}
        assert {one.images, one.labels, *one.rows.values()} <= arrays.keys()
        for group, t in one.members:
            assert group.predictions == (predictions and t == 0)
            assert {group.source.logits, group.source.test_logits} <= {*arrays, ""}
            assert group.source.logits or t == 0
    every = [unit for _, own in found for unit in own]
    assert sorted(unit.fingerprint for unit in every) == sorted(unit.fingerprint for unit in given)
    assert len({one.digest for one, _ in found}) == len(found)
    if student.startswith("cnn"):
        assert len(found) == len(given)


def test_workers_compute_what_a_source_says_and_each_is_asked_once(tmp_path, monkeypatch):
    networks = Networks(DATA, SPLIT, "cpu", lambda model: NET.state_dict(), lambda model: None)
    foreign, given = replace(SOURCE, uri="models:/foreign/1", weights="f"), units()
    networks.adopt(foreign, nn.Identity())
    context = Context(Settings.parse("students", engine="processes"), DATA, SPLIT, "cpu")
    orders, parts = Orders(context, networks, LocalEngine(), Checkpoints(tmp_path)), {"transfer images": ROWS}
    ask_sources(orders, [*given, replace(given[1], source=foreign)], {**parts, TEST_IMAGES: ROWS[::2]}, Reporter())
    expected = compute_logits([NET], IMAGES.pixels, "cpu")[0]
    monkeypatch.delattr(Networks, "logits")
    assert torch.equal(networks.logits_of(SOURCE, ROWS, "transfer images"), expected)
    torch.testing.assert_close(networks.logits_of(SOURCE, ROWS[::2], TEST_IMAGES), expected[::2])
    assert list(orders.of_sources(given, parts)) == []


def test_a_source_is_asked_once_about_the_views_of_each_replicate_and_of_the_very_images():
    asked, nets = [], Networks(DATA, SPLIT, "cpu", lambda model: NET.state_dict(), lambda model: None)

    def source(images):
        asked.append(len(images))
        return images.float().flatten(1)[:, :CLASSES]

    nets.adopt(SOURCE, source)
    recipe = Settings.parse("students", augment="crop=1 mixup=1", views="2").recipes["student"]
    one = nets.seen(SOURCE, ROWS, recipe, 0, 4.0)
    assert nets.seen(SOURCE, ROWS, recipe, COPY_SEEDS, 1.0) is one
    assert asked == [COUNT] * 2
    others = [nets.seen(SOURCE, rows, recipe, seed, 4.0) for rows, seed in ((ROWS, 1), (ROWS[::-1], 0), (ROWS[1:], 0))]
    assert not any(torch.equal(other.logits, one.logits) for other in others)


@pytest.mark.parametrize("views", ["2", "live"])
def test_outputs_that_were_stored_are_never_those_of_a_view(views, tmp_path):
    stored = RowOutputs(torch.zeros(COUNT, CLASSES))
    for net in (stored, Mixture([NET, stored], [0.5, 0.5])):
        with pytest.raises(UsageError, match=r"outputs were stored for the images as they are; give augment=none"):
            made(net, units(), tmp_path, augment="student=mixup", views=views)


def test_units_that_differ_in_neither_seed_nor_temperature_are_each_their_own(tmp_path):
    twice = [*units((0,), (4.0,)), *units((0,), (4.0,), method="logits(alpha=0.5)")]
    found, _ = made(NET, twice, tmp_path)
    names = [unit.fingerprint for unit in twice]
    assert [unit.fingerprint for _, own in found for unit in own] == names


def test_several_sources_give_each_temperature_its_own(tmp_path):
    ((order, _),), arrays = made(Mixture([NET, NET], [0.5, 0.5]), units(), tmp_path)
    given = {group.temperatures: arrays[group.source.logits] for group in order.groups}
    assert list(given) == [(0.0,), (1.0,), (4.0,)]
    assert len({values.tobytes() for values in given.values()}) > 1


@pytest.mark.parametrize("net", [nn.Identity(), Mixture([NET], [1.0])], ids=["a program", "several"])
def test_a_source_that_is_no_network_of_kdops_has_logits_only(net, tmp_path, monkeypatch):
    monkeypatch.setattr(Networks, "_external_logits", lambda *given: torch.zeros(COUNT, CLASSES))
    with pytest.raises(UsageError, match=r"^method=models:/kdops-toy-teacher/1: this source has logits only"):
        made(net, units(method="rkd"), tmp_path)
    found, _ = made(net, units(method="dkd"), tmp_path)
    assert all(not group.source.features for order, _ in found for group in order.groups)


def test_features_are_kept_up_to_a_bound_and_the_embedding_always(tmp_path, monkeypatch):
    def source(method):
        ((order, _),), arrays = made(NET, units(temperatures=(4.0,), method=method), tmp_path, student=CNN)
        # What an engine sees of it.
        order = Order.from_json(order.to_json())
        return engine._with_arrays(order.groups[0], order, arrays, IMAGES.pixels).source

    kept = source("fitnet(at=stage1)")
    assert isinstance(kept, Kept)
    maps = source("attention(at=stage1)")
    torch.testing.assert_close(maps.features["stage1"], kept.features["stage1"].square().mean(1))
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        patch.setattr(stored_networks, "IN_MEMORY", 0.0)
        in_file = source("fitnet(at=stage1)")
        assert torch.equal(in_file.features["stage1"], kept.features["stage1"])
        assert [path.name for path in tmp_path.joinpath("cache/kdops/decoded").iterdir()] == [], "the file has no name"
    assert kept.shapes.features == {"stage1": (5, 2, 2)}
    monkeypatch.setattr(sweep_orders, "KEPT_BYTES", 10)
    assert source("attention(at=stage1)").shapes == maps.shapes
    live = source("fitnet(at=stage1)")
    assert isinstance(live, Live)
    chosen = torch.tensor([3, 0, 7])
    torch.testing.assert_close(live.at(chosen).features["stage1"], kept.at(chosen).features["stage1"])
    assert live.shapes.features == {"stage1": (5, 2, 2)}
    assert isinstance(source("rkd"), Kept)
    with pytest.raises(UsageError, match="the source has no such tap; it has stage1, stage2, embedding"):
        source("fitnet(at=stage1,hint=stage3)")


def test_an_order_has_the_architecture_and_the_streams_of_its_task(tmp_path):
    """A model may be registered as another role than the one whose recipe it was trained by."""
    task = Task("reseeded", "transfer images", "shared", registered="student")
    one = Unit(task, Model("student", 0, 4.0, "", "", ""), None, "", "")
    ((order, _),), _ = made(NET, [one], tmp_path, student="mlp(hidden=7)")
    assert (str(order.recipe.architecture), order.role) == ("mlp(hidden=7,depth=1,dropout=0)", "student")


def test_a_stored_run_names_no_code_that_is_imported(tmp_path, monkeypatch):
    """Code is imported where this command line names it; what a stored run names goes by its program."""
    marker = tmp_path / "marker"
    (tmp_path / "evil.py").write_text(f"open({str(marker)!r}, 'w')\ndef net(*_):\n    raise SystemExit\n")
    monkeypatch.setenv("KDOPS_CODE_FOLDER", str(tmp_path))
    stored = replace(SOURCE, params={"architecture": "evil:net", "code": "any"})
    for named in ([], [parse_architecture("mine:net")]):
        networks = Networks(DATA, SPLIT, "cpu", lambda model: {}, lambda model: NET, named)
        assert networks.of(stored) is NET
    assert not marker.exists()
    networks = Networks(DATA, SPLIT, "cpu", lambda model: {}, lambda model: NET, [parse_architecture("evil:net")])
    assert networks.of(stored) is NET
    assert marker.exists(), "named by the caller it is looked at"
