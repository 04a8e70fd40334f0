"""The engine ``dask`` with a cluster that is there; skipped where Dask is not installed."""

import pytest

pytest.importorskip("distributed")

from distributed import LocalCluster

from kdops.errors import KdopsError
from kdops.training import dask
from kdops.training.engine import build_engine
from kdops.utils.hardware import process_threads
from tests.training.test_engine import plain, through


@pytest.fixture(scope="module")
def scheduler():
    """Return a Dask cluster that is there, with two workers."""
    with pytest.MonkeyPatch.context() as patch:
        # Dask's own default is one.
        patch.setenv("OMP_NUM_THREADS", str(process_threads()))
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
            yield cluster


def test_a_cluster_that_is_there_is_used_and_left_as_it_was(scheduler):
    with pytest.raises(KdopsError, match=r"^workers=3: the cluster at tcp://\S+ has 2; start more workers$"):
        build_engine(f"dask:{scheduler.scheduler_address}", 3)
    engine = build_engine(f"dask:{scheduler.scheduler_address}")
    assert engine.workers == 2
    assert {digest: plain(done) for digest, done in through(engine).items()} == {
        digest: plain(done) for digest, done in through(build_engine("local")).items()
    }
    engine.close()
    assert len(scheduler.scheduler.workers) == 2
    assert scheduler.scheduler.tasks == {}


def test_a_scheduler_that_does_not_answer_is_named_in_one_line(monkeypatch):
    monkeypatch.setattr(dask, "CONNECT_SECONDS", 0.5)
    with pytest.raises(KdopsError, match=r"^engine=dask:tcp://127.0.0.1:9 finds no cluster: .+$"):
        build_engine("dask:tcp://127.0.0.1:9")
