"""Workers of the engine ``processes``: what they have, how they die, and what they refuse."""

import json
import os
import pickle
import sys
import time

import numpy as np
import pytest

from kdops.errors import DivergenceError, KdopsError, UsageError
from kdops.training import processes
from kdops.training.array_files import ArrayFiles, OpenedFiles
from kdops.training.engine import held_by
from kdops.training.order import Done
from kdops.training.processes import ProcessesEngine
from kdops.training.worker_errors import fields_of, restored
from kdops.training.worker_pool import _Ahead
from kdops.utils.hardware import process_threads
from tests.training.test_engine import order

# Real processes that speak as workers do, without PyTorch: they start in no time.
LIGHT = """
import json, os, signal, sys, time
folder = sys.argv[1]
for line in sys.stdin:
    given = json.loads(line)
    order = json.loads(given["order"])
    role, times = order["role"], order["recipe"]["epochs"]
    path = os.path.join(folder, order["digest"])
    with open(path, "a") as file:
        file.write("x")
    begun = os.path.getsize(path)
    if role == "dies" and begun <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    if role == "leaves" and begun <= times:
        sys.exit(3)
    if role == "waits":
        while len(os.listdir(folder)) < times:
            time.sleep(0.01)
        time.sleep(0.3)
    if role == "sleeps":
        signal.pause()
    with open(os.path.join(folder, "done"), "rb") as file:
        content = file.read()
    content = content.replace(b"DIGEST", order["digest"].encode().rjust(6, b"0"))
    told = json.dumps({"told": [1, 2]}) + "\\n"
    if role == "breaks" and begun <= times:
        sys.stdout.buffer.write(json.dumps({"bytes": len(content)}).encode() + b"\\n" + content[:-1])
        sys.stdout.buffer.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdout.buffer.write(told.encode() + json.dumps({"bytes": len(content)}).encode() + b"\\n" + content)
    sys.stdout.buffer.flush()
"""


@pytest.fixture
def light(tmp_path, monkeypatch):
    """Return a way to make an engine whose workers do not train."""
    (tmp_path / "done").write_bytes(Done("DIGEST", (), 1.0).to_bytes())
    monkeypatch.setattr(processes, "COMMAND", (sys.executable, "-S", "-c", LIGHT, str(tmp_path)))
    made = []

    def of(workers):
        made.append(ProcessesEngine(workers, "cpu"))
        return made[-1]

    yield of
    for engine in made:
        engine.close()


def an_order(number, role="works", times=0):
    made = order(digest=str(number), role=role)
    object.__setattr__(made.recipe, "epochs", times)
    return made


def test_a_worker_that_dies_costs_its_order_alone(light):
    ends = {2: "dies", 3: "leaves", 4: "breaks"}
    orders = [an_order(n, ends.get(n % 5, "works"), n % 3) for n in range(20)]
    done = {one.digest: one.attempt for one in light(3).run(iter(orders), lambda *told: None)}
    assert done == {f"{n:06}": 1 + (n % 3 if n % 5 in ends else 0) for n in range(20)}


@pytest.mark.parametrize(
    ("role", "why"),
    [
        ("dies", "was killed by SIGKILL, as the system does where memory runs out: use fewer workers"),
        ("leaves", "ended with exit code 3"),
    ],
)
def test_after_three_deaths_one_line_says_so(role, why, light, tmp_path):
    which = rf"{role} mlp\(hidden=5,.*\) seed=0 T=0 and 3 more"
    expected = f"^3 workers died while they trained {which}; the last one {why}"
    with pytest.raises(KdopsError, match=expected):
        list(light(1).run(iter([an_order(0), an_order(1, role, 99)]), lambda *told: None))
    assert (tmp_path / "1").read_text() == "xxx"


def test_no_order_is_asked_for_while_many_models_wait_for_an_earlier_one(light):
    each, asked = len(an_order(0).members), []
    before = held_by(2) // each

    def orders():
        for number in range(5 * before):
            asked.append(number)
            # There is a file of each that was begun, and one more.
            yield an_order(number, "waits" if number == 0 else "works", before + 2)

    found, most = [], 0
    for done in light(2).run(orders(), lambda *told: None):
        found.append(int(done.digest))
        if 0 not in found:
            most = len(asked)
    # The first, those that it holds up, and one that was made ready before they were done.
    assert most == 1 + before + 1
    assert sorted(found) == list(range(5 * before))


def test_many_workers_leave_more_behind_while_one_order_lasts():
    """With the bound of few workers, 100 would take 1.2 times as long; see tools/simulate_workers.py."""
    workers, each = 100, len(an_order(0).members)
    ahead, taken = _Ahead((an_order(number) for number in range(1000)), held_by(workers)), []
    while (order := ahead.take()) is not None:
        taken.append(order)
        if order.digest != "0":
            ahead.done(order)
    assert len(taken) - 1 == held_by(workers) / each == 4 * workers / each


def test_closing_ends_the_workers(light):
    engine = light(2)
    results = engine.run(iter([an_order(0), an_order(1, "sleeps"), an_order(2, "sleeps")]), lambda *told: None)
    next(results)
    (busy,) = [worker.handle for worker in engine._workers if worker.order is not None]
    results.close()
    assert busy.poll() is not None
    # It goes on with others, also where one died that had nothing to do.
    for number in (7, 8):
        assert [one.digest for one in engine.run(iter([an_order(number)]), lambda *told: None)] == [f"{number:06}"]
        idle = engine._workers[0].handle
        idle.kill()
        idle.wait()


def test_the_engine_costs_a_few_milliseconds_an_order(light):
    count = 1000
    orders = [an_order(number) for number in range(count)]
    list((engine := light(2)).run(iter(orders[:10]), lambda *told: None))
    began = time.process_time()
    assert len(list(engine.run(iter(orders), lambda *told: None))) == count
    assert (time.process_time() - began) / count < 0.005


# A worker of the real thing that reports what it finds around it before it trains.
PROBE = """
import json, os, sys
from kdops.errors import UsageError
from kdops.training import processes, worker_pool
real = worker_pool.perform
def perform(order, arrays, progress):
    done = real(order, arrays, progress)
    import torch
    facts = {
        "environment": sorted(name for name in os.environ if name.startswith(("MLFLOW_", "KDOPS_LAUNCHER"))),
        "mlflow": "mlflow" in sys.modules,
        "main": getattr(sys.modules["__main__"], "__file__", ""),
        "gpus": torch.cuda.device_count(),
        "threads": torch.get_num_threads(),
    }
    raise UsageError("facts", json.dumps(facts), "none")
worker_pool.perform = perform
print("a library prints")
processes.serve(answers)
"""


@pytest.fixture(scope="module")
def arrays():
    from tests.training.test_engine import ARRAYS

    return ARRAYS


def test_a_worker_has_nothing_of_mlflow_and_no_main_module(arrays, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    monkeypatch.setenv("KDOPS_LAUNCHER", "host/1/2/3")
    monkeypatch.setattr(processes, "COMMAND", (sys.executable, "-P", "-c", processes.ANSWERS + PROBE))
    engine = ProcessesEngine(1, "cpu")
    for digest, array in arrays.items():
        engine.put(digest, array)
    with pytest.raises(UsageError, match="facts=") as caught:
        list(engine.run(iter([order()]), lambda *told: None))
    facts = json.loads(caught.value.value)
    assert facts == {"environment": [], "mlflow": False, "main": "", "gpus": 0, "threads": process_threads()}
    process = engine._workers[0].handle
    folders = [path for path, _ in engine._arrays.files.values()]
    assert process.poll() is None
    # A worker whose study is gone ends by itself.
    process.stdin.close()
    assert process.wait(200) == 0
    engine.close()
    assert not any(map(os.path.exists, folders))


def test_other_data_are_refused_and_decoded_images_are_opened_where_they_lie(tmp_path):
    kept, opened = ArrayFiles(), OpenedFiles()
    kept.put("a", np.arange(6).reshape(2, 3))
    kept.put("none", np.empty((0, 2), dtype=np.int64))
    np.save(tmp_path / "images.npy", np.zeros((4, 1, 2, 2), np.uint8))
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    kept.put("images", images)
    kept.put("part", images[1:])
    opened.files = kept.files
    assert kept.files["images"] == (str(tmp_path / "images.npy"), "")
    assert kept.files["part"][0] != kept.files["images"][0]
    assert [opened[name].shape for name in ("a", "none", "images", "part")] == [
        (2, 3),
        (0, 2),
        (4, 1, 2, 2),
        (3, 1, 2, 2),
    ]
    np.save(kept.files["a"][0], np.zeros((2, 3), dtype=np.int64))
    other = OpenedFiles()
    other.files = kept.files
    with pytest.raises(
        KdopsError, match=r"^this worker has other data: .* has the digest \w{12}, that of the study \w"
    ):
        other["a"]
    kept.close()
    assert not os.path.exists(opened.files.get("a", ("gone",))[0])


@pytest.mark.parametrize(
    "error",
    [UsageError("alpha", 3, "at most 1"), DivergenceError("T=1"), KdopsError("x"), OSError(28, "No space left", "f")],
)
def test_errors_cross_as_themselves(error):
    for again in (restored(*json.loads(json.dumps(fields_of(error)))), pickle.loads(pickle.dumps(error))):
        assert type(again) is type(error)
        assert str(again) == str(error)


def test_a_fault_has_the_traceback_of_the_worker():
    try:
        _ = {}["here"]
    except KeyError as error:
        again = restored(*fields_of(error))
    assert isinstance(again, RuntimeError)
    assert str(again) == "KeyError: 'here'"
    assert "in test_a_fault_has_the_traceback_of_the_worker" in again.__notes__[0]
