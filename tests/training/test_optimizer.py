"""Every member of the optimizer is updated as torch's own AdamW with a one-cycle schedule would update it alone."""

import pytest
import torch

from kdops.training.optimizer import Optimizer
from kdops.training.schedule import rates_of
from kdops.training.update import Matrices
from kdops.utils.random import named_generator

RATES, DECAYS = (1e-3, 0.2, 3e-2), (0.0, 0.01, 0.5)
STEPS = 12
SCHEDULES = [rates_of("one-cycle", STEPS, rate) for rate in RATES]


def some(*shape, word=0):
    return torch.randn(*shape, generator=named_generator("values", word))


def with_gradient(values):
    values.grad = torch.zeros_like(values)
    return values


def members_of(sizes, pad=0):
    """Return members whose first tensor is some rows of one common to all, and whose second is one of a stack."""
    wide, stack = some(sum(sizes), 4, word=1), torch.zeros(len(sizes), max(sizes) + pad, 3)
    wide.grad, stack.grad = torch.zeros_like(wide), torch.zeros_like(stack)
    members = []
    for number, size in enumerate(sizes):
        start = sum(sizes[:number])
        stack[number, :size] = some(size, 3, word=("stack", number))
        views = [wide[start : start + size], stack[number]]
        for view, gradient in zip(views, (wide.grad[start : start + size], stack.grad[number]), strict=True):
            view.grad = gradient
        members.append(views)
    return wide, stack, members


def pull(members, sizes, step, numbers):
    """Write the gradients of one step; each member's depend on its number alone."""
    for number, size, views in zip(numbers, sizes, members, strict=True):
        views[0].grad.copy_(some(size, 4, word=("wide", number, step)))
        views[1].grad[:size] = some(size, 3, word=("later", number, step))


def alone(number, size, steps, total):
    """Train one member with torch's own optimizer and schedule."""
    _, _, members = members_of(SIZES)
    tensors = [members[number][0].clone(), members[number][1][:size].clone()]
    optimizer = torch.optim.AdamW(tensors, lr=RATES[number], weight_decay=DECAYS[number])
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=RATES[number], total_steps=total, cycle_momentum=False
    )
    for step in range(steps):
        tensors[0].grad = some(size, 4, word=("wide", number, step))
        tensors[1].grad = some(size, 3, word=("later", number, step))
        optimizer.step()
        schedule.step()
    return tensors


SIZES = (2, 5, 3)


def test_every_member_is_updated_as_by_torch_alone_schedule_included():
    wide, stack, members = members_of(SIZES)
    before = wide.clone()
    optimizer = Optimizer(members, SCHEDULES, DECAYS)
    for step in range(STEPS):
        pull(members, SIZES, step, range(3))
        optimizer.set_rate(step)
        optimizer.step()
    assert not torch.equal(wide, before)
    for number, size in enumerate(SIZES):
        expected = alone(number, size, STEPS, STEPS)
        start = sum(SIZES[:number])
        torch.testing.assert_close(wide[start : start + size], expected[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(stack[number, :size], expected[1], rtol=1e-5, atol=1e-6)
        assert torch.equal(stack[number, size:], torch.zeros_like(stack[number, size:]))


@pytest.mark.parametrize("chosen", [[0, 1, 2], [2], [2, 0], [0]], ids=str)
def test_members_that_are_kept_go_on_as_if_nothing_was_dropped(chosen):
    """Their moments and their step go with them, also where the padding becomes narrower."""
    _, _, members = members_of(SIZES, pad=2)
    optimizer = Optimizer(members, SCHEDULES, DECAYS)
    for step in range(STEPS):
        if step == 5:
            width = max(SIZES[number] for number in chosen)
            members = [[members[n][0].clone(), members[n][1][:width].clone()] for n in chosen]
            for views in members:
                for view in views:
                    with_gradient(view)
            optimizer.keep(chosen, members)
        numbers = chosen if step >= 5 else range(3)
        pull(members, [SIZES[n] for n in numbers], step, numbers)
        optimizer.set_rate(step)
        optimizer.step()
    for number, (first, later) in zip(chosen, members, strict=True):
        expected = alone(number, SIZES[number], STEPS, STEPS)
        torch.testing.assert_close(first, expected[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(later[: SIZES[number]], expected[1], rtol=1e-5, atol=1e-6)


def test_one_part_is_updated_as_by_torchs_fused_kernel_to_the_bit_and_goes_on_from_its_state():
    """What has no gradient in a step is left as it is, also before it ever had one."""
    ours = [some(4, 3, word=n) for n in range(3)]
    theirs = [one.clone().requires_grad_() for one in ours]
    reference = torch.optim.AdamW(theirs, lr=0.1, weight_decay=0.2, fused=True)
    schedule = rates_of("one-cycle", STEPS, 0.1)
    optimizer = Optimizer([ours], [schedule], [0.2])
    for step, rate in enumerate(schedule):
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            has_gradient = step % (number + 1) == number
            one.grad = some(4, 3, word=("g", number, step)) if has_gradient else None
            other.grad = one.grad
        reference.param_groups[0]["lr"] = rate
        reference.step()
        if step == 5:
            state = {name: values.clone() for name, values in optimizer.state().items()}
            optimizer = Optimizer([ours], [schedule], [0.2])
            optimizer.load(state)
        optimizer.set_rate(step)
        optimizer.step()
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def stepped(optimizer, tensors, steps, word):
    """Make some steps; the gradients depend on the step and the number of the tensor alone."""
    for step in steps:
        for number, one in enumerate(tensors):
            one.grad = torch.zeros_like(one)
            shape = one.shape if word == "own" else word[number]
            one.grad[tuple(map(slice, shape))] = some(*shape, word=("muon", number, step))
        optimizer.set_rate(step)
        optimizer.step()


def test_each_matrix_of_a_tensor_is_updated_as_torchs_own_muon_updates_it_alone():
    """Torch's makes its update orthogonal in bfloat16, of eight bits, and at the rate that AdamW has."""
    filters = some(6, 2, 3, 3, word="filters").contiguous(memory_format=torch.channels_last)
    ours = [some(3 * 4, 7, word="wide"), some(3, 8, 5, word="stack"), filters, some(9, word="bias")]
    matrices = {0: Matrices(3, 4, 7), 1: Matrices(3, 8, 5, leading=2), 2: Matrices(1, 6, 18)}

    def apart(values):
        each = [*values[0].split(4), *values[1], values[2].flatten(1)]
        return [one.clone() for one in each], values[3].clone()

    alone, bias = apart(ours)
    before = [one.clone() for one in alone]
    theirs = torch.optim.Muon(alone, lr=0.1, weight_decay=0.2, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    beside = torch.optim.AdamW([bias], lr=0.1, weight_decay=0.2)
    optimizer = Optimizer([ours], [[0.1] * 4], [0.2], None, "muon(momentum=0.9)", [matrices])
    for step in range(4):
        stepped(optimizer, ours, [step], "own")
        gradients, bias.grad = apart([one.grad for one in ours])
        for one, gradient in zip(alone, gradients, strict=True):
            one.grad = gradient
        theirs.step()
        beside.step()
    found, own_bias = apart(ours)
    for one, expected, first in zip(found, alone, before, strict=True):
        assert (one - expected).norm() < 0.02 * (expected - first).norm()
    torch.testing.assert_close(own_bias, bias)


def test_padding_changes_nothing_of_muon_also_where_it_is_cut_off_later():
    sizes, wide = [(5, 3), (5,)], [(7, 7), (7,)]
    plain, padded = ([some(*size, word=("start", n)) for n, size in enumerate(sizes)] for _ in range(2))
    padded = [torch.nn.functional.pad(padded[0], (0, 4, 0, 2)), torch.nn.functional.pad(padded[1], (0, 2))]
    assert [tuple(one.shape) for one in padded] == wide
    given = [[0.1] * 6], [0.2], None, "muon", [{0: Matrices(1, 5, 3)}]
    expected, found = Optimizer([plain], *given), Optimizer([padded], *given)
    stepped(expected, plain, range(6), sizes)
    stepped(found, padded, range(3), sizes)
    cut = [padded[0][:5, :3].clone(), padded[1][:5].clone()]
    assert padded[0].count_nonzero() == 15
    found.keep([0], [cut])
    stepped(found, cut, range(3, 6), sizes)
    for one, other in zip(cut, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
