"""The engine ``ray``, with a cluster of its own on this machine; skipped where Ray is not installed."""

import os
import signal
import sys
import time

import psutil
import pytest

pytest.importorskip("ray")

import ray

from kdops.errors import DivergenceError, KdopsError
from kdops.training import worker_pool
from kdops.training.engine import build_engine
from kdops.training.order import Done, OrderGroup, SourceArrays
from kdops.training.ray import room_for
from tests.training.test_engine import GROUPS, ORDERS, order, plain, through


@pytest.fixture(scope="module")
def engine():
    """Return an engine with a cluster and two workers; a process has one at a time."""
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
        patch.setenv("KDOPS_LAUNCHER", "host/1/2/3")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        made = build_engine("ray", 2)
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before
    yield made
    made.close()
    assert not ray.is_initialized()


@pytest.fixture(scope="module")
def local():
    return {digest: plain(done) for digest, done in through(build_engine("local")).items()}


@pytest.mark.parametrize(
    ("machines", "threads", "share", "room"),
    [
        ([{"CPU": 3.0}, {"CPU": 3.0}], 2, 0, 2),
        ([{"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0}], 1, 0.5, 4),
        ([{"CPU": 2.0, "GPU": 4.0}], 1, 1, 2),
        ([{"CPU": 4.0}], 8, 0, 0),
        ([{"CPU": 9.0, "GPU": 1.0}], 1, 1 / 3, 3),
    ],
)
def test_a_worker_needs_its_room_on_one_machine(machines, threads, share, room):
    assert room_for(machines, threads, share) == room


def test_it_gives_what_local_gives(engine, local):
    for _ in range(2):
        found = through(engine)
        assert {digest: plain(done) for digest, done in found.items()} == local
        assert {done.attempt for done in found.values()} == {1}


def ask(worker, function):
    """Return what a function returns in the actor of a worker."""
    return ray.get(worker.handle.__ray_call__.remote(function))


def facts(actor):
    return {
        "environment": [name for name in os.environ if name.startswith(("MLFLOW_", "KDOPS_LAUNCHER"))],
        "mlflow": "mlflow" in sys.modules,
        "nice": os.nice(0),
        "process": os.getpid(),
    }


def test_an_actor_has_nothing_of_mlflow(engine):
    through(engine)
    found = ask(engine._workers[0], facts)
    assert found == {"environment": [], "mlflow": False, "nice": os.nice(0), "process": found["process"]}


def test_a_killed_actor_costs_its_order_alone(engine, local):
    through(engine)
    long = order("cnn(filters=32,layers=2)", (OrderGroup(3, (0.0,), SourceArrays()),), "long")
    object.__setattr__(long.recipe, "epochs", 300)
    victim = psutil.Process(ask(engine._workers[0], facts)["process"])
    seen = []

    def report(digest, done, total):
        if digest == "long" and 0 < done < total and not seen:
            seen.append(done)
            victim.kill()

    found = {done.digest: done for done in engine.run(iter([long, *ORDERS]), report)}
    assert seen
    assert {digest: done.attempt for digest, done in found.items()} == {**dict.fromkeys(local, 1), "long": 2}
    assert {digest: plain(done) for digest, done in found.items() if digest != "long"} == local


def test_what_fails_on_an_actor_fails_as_itself(engine):
    broken = order(groups=(OrderGroup(5, (4.0,), SourceArrays("broken", "test logits")),))
    with pytest.raises(DivergenceError, match=r"student T=4 seed=5: .* epoch 1; lower learning_rate"):
        through(engine, [broken])
    with pytest.raises(KdopsError, match=r"^this worker computes with \d+ threads, the study with 77$"):
        through(engine, [order(threads=77)])


def test_closing_ends_what_is_trained(engine):
    through(engine)
    processes = [psutil.Process(ask(worker, facts)["process"]) for worker in engine._workers]
    long = order("cnn(filters=32,layers=2)", (GROUPS[0],), "long")
    object.__setattr__(long.recipe, "epochs", 10_000)
    results = engine.run(iter([order(), long]), lambda *told: None)
    assert next(results).digest == "d"
    ((busy, other),) = [
        (one, processes[1 - place]) for place, one in enumerate(processes) if engine._workers[place].order is not None
    ]
    results.close()
    busy.wait(20)
    assert other.is_running()
    assert [one.digest for one in engine.run(iter([order()]), lambda *told: None)] == ["d"]


def fake(actor):
    def perform(order, arrays, progress):
        progress(1, 2)
        return Done(order.digest, (), 1.0)

    worker_pool.perform = perform


def test_a_thousand_orders_cost_the_driver_a_few_milliseconds_each(engine):
    through(engine)
    for worker in engine._workers:
        ask(worker, fake)
    orders = [order(digest=str(number)) for number in range(1000)]
    began = time.process_time()
    assert len(list(engine.run(iter(orders), lambda *told: None))) == len(orders)
    assert (time.process_time() - began) / len(orders) < 0.005
