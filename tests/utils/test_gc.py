"""The collector is still for a while, and what was there by then it never looks at where that is asked for."""

import gc

import pytest

from kdops.utils.gc import gc_paused


@pytest.fixture(autouse=True)
def on():
    gc.enable()
    yield
    gc.unfreeze()
    gc.enable()


@pytest.mark.parametrize("freeze", [False, True])
def test_within_nothing_is_collected_and_afterwards_it_is_again(freeze):
    before = gc.get_freeze_count()
    with gc_paused(freeze):
        assert not gc.isenabled()
        kept = [[] for _ in range(5000)]
    assert gc.isenabled()
    assert (gc.get_freeze_count() >= before + len(kept)) is freeze
    later = []
    later.append(later)
    assert any(one is later for one in gc.get_objects())
    assert any(one is kept for one in gc.get_objects()) is not freeze


def test_it_comes_back_after_a_failure():
    with pytest.raises(ValueError, match="no"), gc_paused():
        raise ValueError("no")
    assert gc.isenabled()


def test_who_has_it_off_keeps_it_off():
    gc.disable()
    with gc_paused():
        pass
    assert not gc.isenabled()
