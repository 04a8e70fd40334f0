"""Every engine of the table gives what ``local`` gives."""

import math
import platform
from dataclasses import replace

import numpy as np
import pytest
import torch

from kdops.config.architectures import parse_architecture
from kdops.config.companies import parse_company
from kdops.config.engines import ENGINES
from kdops.config.methods import METHODS, parse_method
from kdops.config.recipes import recipe
from kdops.distillation.method import build_method
from kdops.distillation.sources import Kept
from kdops.errors import DivergenceError, KdopsError
from kdops.models.classifier import build, digest_of, pixel_statistics
from kdops.training.engine import build_engine, perform
from kdops.training.evaluation import METRICS, Metric, compute_logits
from kdops.training.groups import Images, PassInputs
from kdops.training.order import Done, Order, OrderGroup, OrderTrial, SourceArrays, TrainedModel, pack
from kdops.training.trials import TrialPlan, train_trials
from kdops.utils.hardware import process_threads
from kdops.utils.random import named_generator
from tests.toys import quarters

COUNT, CLASSES, SIDE = 70, 4, 6
IMAGES = quarters(COUNT, 0, SIDE)
STATISTICS = pixel_statistics(IMAGES.pixels)
MEAN, STD = (tuple(one.tolist()) for one in STATISTICS)
GIVEN = 3 * np.random.default_rng(0).standard_normal((COUNT, CLASSES)).astype(np.float32)
ARRAYS = {
    "images": IMAGES.pixels.numpy(),
    "labels": IMAGES.labels.numpy(),
    "train": np.arange(COUNT),
    "validation": np.arange(0, COUNT, 2),
    "test": np.arange(1, COUNT, 2),
    "logits": GIVEN,
    "test logits": GIVEN[1::2],
    "broken": np.full_like(GIVEN, np.nan),
}
SOURCE = SourceArrays("logits", "test logits")
NET = parse_architecture("cnn(filters=4,layers=2)")
STATE = build(NET, (1, SIDE, SIDE), CLASSES, *STATISTICS, named_generator("a source")).state_dict()
ARRAYS["weights"] = np.frombuffer(pack(STATE), np.uint8)
GROUPS = (OrderGroup(0, (0.0, 1.0, 4.0), SOURCE), OrderGroup(0, (0.0,), SOURCE, own_order=True, predictions=True))


def order(architecture="mlp(hidden=5)", groups=GROUPS, digest="d", **changes):
    parts = {name: name for name in ("train", "validation", "test")}
    made = Order(
        digest=digest,
        role="student",
        recipe=recipe(architecture, 2, 16, 0.1 + 0.2),
        method=parse_method("logits").full_text,
        groups=groups,
        images="images",
        labels="labels",
        rows=parts,
        shape=(1, SIDE, SIDE),
        classes=CLASSES,
        mean=MEAN,
        std=STD,
        device="cpu",
        threads=process_threads(),
    )
    return replace(made, **changes)


ORDERS = [
    order(),
    order("mlp(hidden=5,depth=2,dropout=0.3)", (replace(GROUPS[0], seed=1), GROUPS[0]), "two replicates"),
    order("cnn(filters=4,layers=2)", (replace(GROUPS[0], temperatures=(4.0,)),), "alone", keep_epochs=(1, 2)),
    order("mlp(hidden=5)", (OrderGroup(3, (0.0,), SourceArrays()),), "labels"),
    order(
        groups=(OrderGroup(3, (2.0, 2.0), SourceArrays()),),
        digest="company",
        keep_epochs=(1,),
        nets=("cnn(filters=4,layers=2)", "cnn(filters=3,layers=2,dropout=0)"),
        method=parse_company("adversarial(temperature=2)").full_text,
    ),
    order(
        groups=(OrderGroup(0, (0.0,), SourceArrays(architecture=str(NET), weights="weights")),),
        digest="source",
        asks=True,
        rows={"some images": "train", "test images": "test"},
    ),
    # The second diverges, and the third has another source.
    order(
        groups=(*[OrderGroup(0, (t,), SourceArrays("logits")) for t in (2.0, 4.0)], OrderGroup(0, (2.0,), SOURCE)),
        digest="trials",
        trials=tuple(
            OrderTrial(recipe(net, 2, 16, rate), parse_method(f"logits(alpha={alpha})").full_text)
            for net, rate, alpha in [("mlp(hidden=5)", 0.3, 1), ("mlp(hidden=4,depth=3)", 1e9, 1), ("mlp", 0.1, 0.5)]
        ),
    ),
]


def through(engine, orders=ORDERS, arrays=ARRAYS):
    """Return what an engine makes of orders, by order."""
    for digest, array in arrays.items():
        engine.put(digest, array)
    told = []
    found = {done.digest: done for done in engine.run(iter(orders), lambda *given: told.append(given))}
    for one in [one for one in orders if not one.asks]:
        images = len(one.members) * COUNT * one.recipe.epochs
        assert not told or [given for given in told if given[0] == one.digest][-1] == (one.digest, images, images)
    return found


def plain(done):
    """Return a result with digests for weights, and without its times and memory."""
    measured = ("train_seconds", "train_peak_bytes")
    timeless = [{k: v for k, v in one.metrics.items() if k not in measured} for one in done.models]
    kept = [{epoch: digest_of(state) for epoch, state in one.kept.items()} for one in done.models]
    each = zip(done.models, timeless, kept, strict=True)
    return [(digest_of(one.state), repr(one.history), *own) for one, *own in each]


@pytest.fixture(scope="module")
def engine():
    """Return the engine of a name: one for all tests, as a study has one for all sweeps."""
    made = {}

    def of(name):
        if name not in made:
            if ENGINES[name].package:
                pytest.importorskip(ENGINES[name].package)
            made[name] = build_engine(name)
        return made[name]

    yield of
    for one in made.values():
        one.close()


@pytest.fixture(scope="module")
def local(engine):
    return {digest: plain(done) for digest, done in through(engine("local")).items()}


@pytest.mark.parametrize("name", ENGINES)
def test_each_engine_gives_what_local_gives(name, engine, local):
    found = through(engine(name))
    assert {digest: plain(done) for digest, done in found.items()} == local
    assert [[*one.kept] for name in ("alone", "company") for one in found[name].models] == [[1, 2], [1], [1]]
    assert {(done.host, done.attempt) for done in found.values()} == {(platform.node(), 1)}


@pytest.mark.slow
def test_a_study_makes_the_same_models_whichever_engine_trains_and_a_second_one_trains_nothing(store):
    first = store.run("students", seeds=2)
    before = sorted(run.data.tags["kdops.model"] for run in store.children(first))
    again = store.run("students", seeds=2, engine="processes", workers="2")
    assert store.children(again) == []
    second = store.run("students", seeds=2, engine="processes", workers="2", fresh="true")
    # It refuses two digests of one and the same model.
    assert len(store.weights()) == len(store.children(second)) == len(store.children(first)) == 8
    assert measured(store, first) == measured(store, second)
    assert second.data.tags["kdops.engine"] == "processes, workers=2"
    made = {run.data.tags["kdops.model"]: run for run in store.children(second)}
    assert {run.data.tags["kdops.trained_on"].rpartition(", ")[2] for run in made.values()} == {"attempt 1"}
    # Versions follow the replicates, whichever worker was the first.
    order = [
        [(run.data.params["seed"], run.data.params["temperature"]) for run in runs]
        for runs in (sorted(store.children(study), key=version_of) for study in (first, second))
    ]
    assert order[0] == order[1]
    assert not set(before) & set(made)


def version_of(run):
    name, _, number = run.data.tags["kdops.model"].rpartition("/")
    return name, int(number)


def measured(place, study):
    """Return the metrics of each model of a study, without times."""
    names = ("val_accuracy", "test_accuracy", "test_nll", "train_loss", "source_agreement")
    return sorted([run.data.metrics.get(name, -1.0) for name in names] for run in place.children(study))


def test_the_trials_of_an_order_have_the_results_of_trials_trained_here():
    one = ORDERS[-1]
    plans = [
        TrialPlan(trial.recipe, group.temperatures[0], build_method(parse_method(trial.method)))
        for trial, group in zip(one.trials, one.groups, strict=True)
    ]
    inputs = PassInputs("student", IMAGES, Images(IMAGES.pixels[::2], IMAGES.labels[::2]), CLASSES, STATISTICS)
    first, other = Kept(torch.from_numpy(GIVEN)), Kept(torch.from_numpy(GIVEN))
    expected = sorted(train_trials(plans, 0, [first, first, other], inputs), key=lambda trial: trial.number)
    assert [trial.ended for trial in expected] == ["complete", "diverged", "complete"]
    found = perform(one, ARRAYS, lambda done, total: None).models
    assert [(repr(trial.history), trial.ended) for trial in found] == [
        (repr(trial.history), trial.ended) for trial in expected
    ]


def test_a_source_is_asked_about_the_rows_of_each_part():
    asked = next(one for one in ORDERS if one.asks)
    net = build(NET, (1, SIDE, SIDE), CLASSES, *STATISTICS)
    net.load_state_dict(STATE)
    expected = compute_logits([net.eval()], IMAGES.pixels, "cpu")[0]
    (found,) = perform(asked, ARRAYS, lambda done, total: None).models
    assert found.state.keys() == asked.rows.keys()
    torch.testing.assert_close(found.state["some images"], expected)
    torch.testing.assert_close(found.state["test images"], expected[1::2])


def test_networks_are_measured_beside_their_source(local):
    for one, (group, temperature) in zip(local["d"], ORDERS[0].members, strict=True):
        assert ("source_agreement" in one[2]) == (temperature != 0 or group.predictions)
    assert "source_agreement" not in local["labels"][0][2]


@pytest.mark.parametrize("one", ORDERS, ids=lambda one: one.digest)
@pytest.mark.parametrize("method", METHODS)
def test_an_order_is_text_and_back(one, method):
    one = replace(one, method=parse_method(method).full_text)
    assert Order.from_json(one.to_json()) == one
    assert parse_method(one.method).full_text == one.method


def test_kept_epochs_ascend_in_a_result_that_was_written():
    kept = {epoch: {"w": torch.full((2,), float(epoch))} for epoch in range(30)}
    done = Done("d", (TrainedModel({"w": torch.zeros(2)}, {}, {}, 1.0, kept=kept),), 1.0)
    (model,) = Done.from_bytes(done.to_bytes()).models
    assert [*model.kept] == [*range(30)]
    assert all((state["w"] == epoch).all() for epoch, state in model.kept.items())


def test_a_result_is_bytes_and_back():
    weights = {"a.b": torch.arange(6.0).view(2, 3).t(), "count": torch.tensor(3)}
    model = TrainedModel(weights, {"train_loss": (0.1 + 0.2, 1e-300), "loss_a": (math.nan, 1.0)}, {"x": 1 / 3}, 2.5)
    done = Done("d", (model, replace(model, seconds=1.0)), 1e9 + 0.1)
    again = Done.from_bytes(done.to_bytes())
    assert [digest_of(one.state) for one in again.models] == [digest_of(weights)] * 2
    assert repr(replace(again, models=tuple(replace(one, state={}) for one in again.models))) == repr(
        replace(done, models=tuple(replace(one, state={}) for one in done.models))
    )


def test_another_kdops_pytorch_or_arithmetic_is_refused_in_one_line():
    with pytest.raises(KdopsError, match=r"^this worker has PyTorch .*, the study has 1\.0$"):
        perform(order(torch="1.0"), ARRAYS, lambda done, total: None)
    with pytest.raises(KdopsError, match=r"^this worker has another kdops: .*, the study has abc$"):
        perform(order(code="abc"), ARRAYS, lambda done, total: None)
    with pytest.raises(KdopsError, match=r"^this worker computes with \d+ threads, the study with 77$"):
        perform(order(threads=77), ARRAYS, lambda done, total: None)
    with pytest.raises(KdopsError, match=r"^this worker computes in fp32 on cpu, the study in tf32$"):
        perform(order(arithmetic="tf32"), ARRAYS, lambda done, total: None)


@pytest.mark.parametrize("name", ENGINES)
def test_what_fails_on_a_worker_fails_as_itself(name, engine):
    broken = order(groups=(OrderGroup(5, (4.0,), SourceArrays("broken", "test logits")),))
    with pytest.raises(DivergenceError, match=r"student T=4 seed=5: .* epoch 1; lower learning_rate"):
        through(engine(name), [broken])


@pytest.mark.parametrize("name", ENGINES)
def test_orders_are_asked_for_as_there_is_room_and_closing_cancels(name, engine):
    asked = []
    for digest, array in ARRAYS.items():
        engine(name).put(digest, array)
    given = (asked.append(number) or order(digest=str(number)) for number in range(50))
    results = engine(name).run(given, lambda *told: None)
    assert next(results).digest in map(str, range(10))
    results.close()
    assert len(asked) < 10


def test_a_metric_of_both_parts_is_one_entry(monkeypatch):
    monkeypatch.setitem(METRICS, "count", Metric(lambda logits, labels: float(len(labels)), ("val", "test")))
    monkeypatch.setitem(METRICS, "classes", Metric(lambda logits, labels: float(logits.shape[1])))
    (first, *_) = perform(order(), ARRAYS, lambda done, total: None).models
    assert {name: first.metrics[name] for name in ("val_count", "test_count", "test_classes")} == {
        "val_count": len(ARRAYS["validation"]),
        "test_count": len(ARRAYS["test"]),
        "test_classes": CLASSES,
    }
    assert "val_classes" not in first.metrics
