"""The rates of all steps are known beforehand, and are torch's own."""

import pytest
import torch

from kdops.training.schedule import rates_of

STEPS = pytest.mark.parametrize("steps", [1, 2, 3, 10, 57])


def torchs(steps, rate):
    """Return the rate of each step as torch's schedule sets it."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps, cycle_momentum=False)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@STEPS
@pytest.mark.parametrize("rate", [1e-4, 0.02, 3.0])
def test_the_rates_are_those_of_torchs_schedule_to_the_last_bit(steps, rate):
    assert list(rates_of("one-cycle", steps, rate)) == torchs(steps, rate)


@STEPS
def test_the_rates_are_proportional_to_the_highest(steps):
    assert [0.02 * factor for factor in rates_of("one-cycle", steps)] == pytest.approx(torchs(steps, 0.02), rel=1e-9)
    assert steps < 10 or max(rates_of("one-cycle", steps)) > 0.9
