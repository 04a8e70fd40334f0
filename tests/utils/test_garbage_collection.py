"""Garbage collection is paused for a while, and then as it was."""

import gc

import pytest

from kdops.utils.garbage_collection import gc_paused


@pytest.fixture(autouse=True)
def on():
    gc.enable()
    yield
    gc.enable()


def test_within_nothing_is_collected_and_afterwards_it_is_again():
    with gc_paused():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_comes_back_after_a_failure():
    with pytest.raises(ValueError, match="no"), gc_paused():
        raise ValueError("no")
    assert gc.isenabled()


def test_who_has_it_off_keeps_it_off():
    gc.disable()
    with gc_paused():
        pass
    assert not gc.isenabled()
