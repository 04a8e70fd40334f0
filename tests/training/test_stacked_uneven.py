"""A fleet of unequal networks gives what each of them gives, and its padding stays zero."""

import pytest
import torch

import kdops.training.stacked
from kdops.config.architectures import parse_architecture
from kdops.models.classifier import build, digest_of
from kdops.training.optimizer import Optimizer
from kdops.training.stacked_uneven import PaddedMLPs
from kdops.utils.random import named_generator

SHAPE, CLASSES = (2, 5, 3), 6
MEAN, STD = torch.tensor([90.0, 120.0]), torch.tensor([40.0, 60.0])
# (hidden, depth): one alone, equal ones, one stack of several depths, several stacks, all in no order.
MIXES = (
    [(4, 1)],
    [(1, 3)],
    [(4, 2)] * 3,
    [(5, 1), (4, 3), (6, 2), (4, 1), (5, 3)],
    [(2, 2), (9, 1), (1, 1), (30, 3), (3, 3), (9, 2), (1, 2)],
)
mixes = pytest.mark.parametrize("mix", MIXES, ids=str)


def make(hidden, depth, word, dropout="0", mean=MEAN):
    text = f"mlp(hidden={hidden},depth={depth},dropout={dropout})"
    return build(parse_architecture(text), SHAPE, CLASSES, mean, STD, named_generator("init", word))


def nets_of(mix, dropout="0"):
    return [make(hidden, depth, word, dropout) for word, (hidden, depth) in enumerate(mix)]


def some_images(count=7):
    return torch.randint(0, 256, (count, *SHAPE), generator=named_generator("images")).to(torch.uint8)


def some_gradients(fleet, images, seed=0):
    logits = fleet.logits([images])
    # Weighted apart, so that a member that took another's gradient would show.
    weights = torch.randn(logits.shape, generator=named_generator("weights", seed))
    fleet.backward((logits * weights).sum())
    return logits, weights


def padding_of(fleet, mix):
    """Return all values of a fleet, and all their gradients, that no network has."""
    found = []
    for (hidden, _), parts in zip(mix, fleet.parts(), strict=True):
        for number, part in enumerate(parts):
            own = [min(length, hidden) for length in part.shape]
            if number == 0:
                own = [hidden, part.shape[1]]
            elif number >= len(parts) - 2:
                own[0] = CLASSES
            beyond = torch.ones_like(part, dtype=torch.bool)
            beyond[tuple(map(slice, own))] = False
            found += [part[beyond], part.grad[beyond]]
    return torch.cat(found)


@mixes
def test_logits_and_gradients_are_each_networks_own(mix):
    nets, images = nets_of(mix), some_images()
    fleet = PaddedMLPs(nets)
    some_gradients(fleet, images[:3])  # what an earlier batch left must not show
    logits, weights = some_gradients(fleet, images, seed=1)
    own = [net(images) for net in nets]
    torch.testing.assert_close(logits, torch.stack(own), rtol=1e-5, atol=1e-6)
    sum((one * weight).sum() for one, weight in zip(own, weights, strict=True)).backward()
    with torch.no_grad():
        for leaf in fleet.leaves():
            leaf.copy_(leaf.grad)
    for gradients, net in zip(fleet.states(), nets, strict=True):
        for name, parameter in net.named_parameters():
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-5)


@mixes
def test_padding_stays_zero_and_is_never_more_than_the_width_itself(mix):
    fleet, images = PaddedMLPs(nets_of(mix)), some_images()
    optimizer = Optimizer(fleet.parts(), [[0.1]] * len(mix), [0.5] * len(mix))
    for seed in range(3):
        some_gradients(fleet, images, seed)
        optimizer.step()
    padding = padding_of(fleet, mix)
    assert torch.equal(padding, torch.zeros_like(padding))
    assert (padding.numel() > 0) is (len({hidden for hidden, _ in mix}) > 1)
    for (hidden, _), parts in zip(mix, fleet.parts(), strict=True):
        assert hidden <= parts[-2].shape[1] <= 2 * hidden


@mixes
def test_states_are_the_very_weights_it_was_made_from(mix):
    nets = nets_of(mix, dropout="0.3")
    states = PaddedMLPs(nets).states()
    assert [list(state) for state in states] == [list(net.state_dict()) for net in nets]
    assert [digest_of(state) for state in states] == [digest_of(net.state_dict()) for net in nets]
    assert len({digest_of(state) for state in states}) == len(mix)


def test_a_fleet_shares_no_memory_with_its_networks_nor_its_states_with_it():
    nets = nets_of(MIXES[-1])
    before = [digest_of(net.state_dict()) for net in nets]
    fleet = PaddedMLPs(nets)
    states = fleet.states()
    with torch.no_grad():
        for leaf in fleet.leaves():
            leaf.add_(1.0)
    assert [digest_of(net.state_dict()) for net in nets] == before == [digest_of(state) for state in states]
    assert all(digest_of(state) not in before for state in fleet.states())
    for state in states:
        for value in state.values():
            assert not value.requires_grad
            value.zero_()
    assert all(net.net[1].weight.any() and net.std.all() for net in nets)
    assert fleet.std.all()


@mixes
def test_members_are_all_of_the_parameters(mix):
    """An optimizer that updates the members updates the fleet, each value once."""
    fleet = PaddedMLPs(nets_of(mix))
    for parts in fleet.parts():
        for part in parts:
            assert part.is_contiguous()
            part.add_(1.0)
            part.grad.add_(2.0)
    before = PaddedMLPs(nets_of(mix))
    for leaf, old in zip(fleet.leaves(), before.leaves(), strict=True):
        assert torch.equal(leaf, old + 1.0)
        assert torch.equal(leaf.grad, torch.full_like(leaf, 2.0))


@pytest.mark.parametrize("rates", [("0.5",) * 5, ("0", "0.5", "0", "0.3", "0")], ids=str)
def test_dropout_is_off_outside_training_and_is_each_networks_own_within(rates):
    mix = [(40, 1), (21, 3), (40, 2), (3, 2), (30, 3)]
    nets = [make(*one, word, rate) for word, (one, rate) in enumerate(zip(mix, rates, strict=True))]
    images = some_images()

    def wind():
        for number, net in enumerate(nets):
            for place, part in enumerate(p for p in net.modules() if hasattr(p, "stream")):
                part.stream = named_generator("dropout", number, place)

    fleet = PaddedMLPs(nets)
    wind()
    dropped, weights = some_gradients(fleet, images)
    wind()
    own = torch.stack([net.train()(images) for net in nets])
    torch.testing.assert_close(dropped, own, rtol=1e-5, atol=1e-6)
    (own * weights).sum().backward()
    for parts, net in zip(fleet.parts(), nets, strict=True):
        torch.testing.assert_close(parts[0].grad, net.net[1].weight.grad, rtol=1e-4, atol=1e-5)
    fleet.training = False
    quiet = fleet.logits([images])  # the networks themselves are still training
    still = torch.stack([net.eval()(images) for net in nets])
    torch.testing.assert_close(quiet, still, rtol=1e-5, atol=1e-6)
    assert [not torch.equal(a, b) for a, b in zip(own, still, strict=True)] == [rate != "0" for rate in rates]


@pytest.mark.parametrize("kept", [[0, 1, 2, 3, 4, 5, 6], [3], [0, 2, 6], [6, 1, 4], [1, 2, 3, 4, 5]], ids=str)
def test_what_is_kept_goes_on_as_it_was_and_takes_no_more_room_than_a_fleet_of_its_own(kept):
    mix = MIXES[-1]
    nets, images = nets_of(mix, dropout="0.4"), some_images()
    fleet, alone = PaddedMLPs(nets), PaddedMLPs([nets[place] for place in kept])
    before = fleet.states()
    fleet.keep(kept)
    assert [digest_of(state) for state in fleet.states()] == [digest_of(before[place]) for place in kept]
    assert [leaf.shape for leaf in fleet.leaves()] == [leaf.shape for leaf in alone.leaves()]
    for engine in (fleet, alone):
        engine.training = False
        some_gradients(engine, images)
    assert torch.equal(fleet.logits([images]), alone.logits([images]))
    for own, other in zip(fleet.leaves(), alone.leaves(), strict=True):
        assert torch.equal(own.grad, other.grad)
    assert [drops[0].rate for drops in fleet.dropouts] == [0.4] * len(kept)
    assert [len(drops) for drops in fleet.dropouts] == [mix[place][1] for place in kept]


def test_prepared_images_give_the_same_logits(monkeypatch):
    fleet, images = PaddedMLPs(nets_of(MIXES[-1])), some_images(300)
    prepared = fleet.prepared(images)
    assert prepared.shape == (300, 30)
    assert fleet.prepared(prepared) is prepared
    with torch.no_grad():
        assert torch.equal(fleet.logits([prepared[5:9]]), fleet.logits([images[5:9]]))
        assert torch.equal(fleet.logits([images[5:9].float()]), fleet.logits([images[5:9]]))
    monkeypatch.setattr(kdops.training.stacked, "PREPARED_BYTES", 300 * 30 * 4 - 1)
    assert fleet.prepared(images) is images


def test_networks_that_normalize_differently_do_not_mix():
    with pytest.raises(ValueError, match="mean and deviation"):
        PaddedMLPs([make(4, 1, 0), make(4, 1, 1, mean=MEAN + 1)])
