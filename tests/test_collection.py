"""The collector is still for a while, and what was there by then it never looks at."""

import gc

import pytest

from kdops.collection import collector_still


@pytest.fixture(autouse=True)
def on():
    gc.enable()
    yield
    gc.unfreeze()
    gc.enable()


def test_within_nothing_is_collected_and_afterwards_it_is_again():
    with collector_still():
        assert not gc.isenabled()
        kept = [[] for _ in range(5000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= len(kept)
    later = []
    later.append(later)
    assert any(one is later for one in gc.get_objects())
    assert not any(one is kept for one in gc.get_objects())


def test_it_comes_back_after_a_failure():
    with pytest.raises(ValueError, match="no"), collector_still():
        raise ValueError("no")
    assert gc.isenabled()


def test_who_has_it_off_keeps_it_off():
    gc.disable()
    with collector_still():
        pass
    assert not gc.isenabled()
