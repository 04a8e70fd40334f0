"""The most memory that is in use within a block."""

import math

import pytest
import torch

from kdops.utils.peak_memory import RESET, PeakMemory

MANY = 40_000_000


@pytest.mark.skipif(not RESET.exists(), reason="the system does not say it")
def test_what_was_given_back_within_the_block_counts_and_what_was_before_it_does_not():
    held = torch.ones(MANY // 4)
    with PeakMemory("cpu") as much:
        torch.ones(MANY // 2).sum()
    with PeakMemory("cpu") as little:
        held.sum()
    assert 0.9 * 2 * MANY < much.found < 4 * MANY
    assert little.found < MANY / 2


def test_where_the_system_says_nothing_it_is_not_known(monkeypatch, tmp_path):
    monkeypatch.setattr("kdops.utils.peak_memory.RESET", tmp_path / "no" / "none")
    with PeakMemory("cpu") as peak:
        pass
    assert math.isnan(peak.found)
