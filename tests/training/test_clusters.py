"""The engines ``ray`` and ``dask``, with clusters of their own on this machine; each is skipped where it is missing."""

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager

import psutil
import pytest

from kdops.config.engines import ENGINES
from kdops.errors import DivergenceError, KdopsError
from kdops.training import actors, worker_pool
from kdops.training.engine import build_engine
from kdops.training.order import Done, OrderGroup, SourceArrays
from tests.training.test_engine import GROUPS, ORDERS, order, plain, through


@pytest.fixture(scope="module", params=["ray", "dask"])
def name(request):
    pytest.importorskip(ENGINES[request.param].package)
    return request.param


@pytest.fixture(scope="module")
def engine(name):
    """Return an engine with a cluster and two workers; a process has one of Ray's at a time."""
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    others = psutil.Process().children(recursive=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
        patch.setenv("KDOPS_LAUNCHER", "host/1/2/3")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        made = build_engine(name, 2)
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before
    yield made
    own = set(psutil.Process().children(recursive=True)) - set(others)
    made.close()
    _, left = psutil.wait_procs(own, 20)
    assert left == []


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
def test_a_worker_of_ray_needs_its_room_on_one_machine(machines, threads, share, room):
    pytest.importorskip("ray")
    from kdops.training.ray import room_for

    assert room_for(machines, threads, share) == room


def test_it_gives_what_local_gives(engine, local):
    for _ in range(2):
        found = through(engine)
        assert {digest: plain(done) for digest, done in found.items()} == local
        assert {done.attempt for done in found.values()} == {1}


def ask(worker, function):
    """Return what a function returns in the process of a worker."""
    if hasattr(worker.handle, "__ray_call__"):
        import ray

        return ray.get(worker.handle.__ray_call__.remote(lambda actor: function()))
    return worker._client.run(function, workers=[worker.handle.address])[worker.handle.address]


def facts():
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


def long_order(epochs, groups):
    made = order("cnn(filters=32,layers=2)", groups, "long")
    object.__setattr__(made.recipe, "epochs", epochs)
    return made


def test_a_killed_actor_costs_its_order_alone(engine, local):
    through(engine)
    long = long_order(60, (OrderGroup(3, (0.0,), SourceArrays()),))
    victim = psutil.Process(ask(engine._workers[0], facts)["process"])
    seen = []

    def report(digest, done, total, note=""):
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


def trains():
    return any(thread.name == "order" for thread in threading.enumerate())


def test_closing_ends_what_is_trained(engine):
    through(engine)
    processes = [psutil.Process(ask(worker, facts)["process"]) for worker in engine._workers]
    results = engine.run(iter([order(), long_order(10_000, (GROUPS[0],))]), lambda *told: None)
    assert next(results).digest == "d"
    ((place, busy),) = [(place, one) for place, one in enumerate(engine._workers) if one.order is not None]
    address = getattr(busy.handle, "address", "")
    results.close()
    if address:
        # The process is the cluster's.
        begun = time.monotonic()
        while busy._client.run(trains, workers=[address])[address]:
            assert time.monotonic() - begun < 200
            time.sleep(0.1)
    else:
        processes[place].wait(200)
    assert processes[1 - place].is_running()
    assert [one.digest for one in engine.run(iter([order()]), lambda *told: None)] == ["d"]


@contextmanager
def occupied(engine, places=2):
    """Take the room of some workers in a cluster; yield what leaves it again."""
    for worker in engine._workers:
        worker.end()
    if not hasattr(free := getattr(engine._workers[0], "_places", None), "take"):
        import ray

        share = places / len(engine._workers)
        blocker = ray.remote(num_cpus=share * ray.cluster_resources()["CPU"])(actors.Actor).remote()
        ray.get(blocker.ready.remote())
        yield lambda: ray.kill(blocker)
        return
    taken = [free.take() for _ in range(places)]
    assert "" not in taken
    yield lambda: [free.leave(one) for one in taken]


def test_a_busy_cluster_is_waited_for_and_one_line_says_so(engine, local, monkeypatch):
    monkeypatch.setattr(actors, "WAIT_SECONDS", 0.5)
    through(engine)
    notes = []
    with occupied(engine) as leave:

        def report(digest, done, total, note=""):
            if note:
                notes.append(note)
                leave()

        assert [plain(done) for done in engine.run(iter([order()]), report)] == [local["d"]]
    assert set(notes) == {"waiting for room in the cluster: a worker has not begun for 0.5 s"}


def test_an_order_goes_to_a_worker_with_room_where_another_finds_none(engine, local, monkeypatch):
    monkeypatch.setattr(actors, "WAIT_SECONDS", 0.5)
    through(engine)
    with occupied(engine, 1) as leave:
        found = through(engine)
        leave()
    assert {digest: plain(done) for digest, done in found.items()} == local
    assert {done.attempt for done in found.values()} == {1}


def fake():
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
