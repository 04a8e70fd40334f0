"""A fleet gives what each of its networks gives."""

import pytest
import torch
from torch import nn

from kdops.config.architectures import FAMILIES, parse_architecture
from kdops.config.composed import Joined, Reused
from kdops.models.classifier import Classifier, build, digest_of
from kdops.models.taps import captured
from kdops.training.stacked import StackedMLPs, can_stack
from kdops.utils.imports import load_place
from kdops.utils.random import named_generator

SHAPE, CLASSES = (2, 5, 3), 6
MEAN, STD = torch.tensor([90.0, 120.0]), torch.tensor([40.0, 60.0])
SIZES = ((1,), (4,), (3, 1, 2))


def make(text, word):
    return build(parse_architecture(text), SHAPE, CLASSES, MEAN, STD, named_generator("init", word))


def groups_of(text, sizes):
    return [[make(text, (g, k)) for k in range(size)] for g, size in enumerate(sizes)]


def batches_for(sizes, count=7):
    stream = named_generator("images")
    return [torch.randint(0, 256, (count, *SHAPE), generator=stream).to(torch.uint8) for _ in sizes]


STACKED = ("mlp(hidden=4)", "mlp(hidden=4,depth=2)", "mlp(hidden=4,depth=3)", "tree(depth=1)", "tree(depth=3)")
"""Of each family that is stacked."""


def stacked(groups, text, taps=()):
    return load_place(parse_architecture(text).stacks)(groups, taps=taps)


def test_every_family_that_is_stacked_is_here():
    own = {name: family for name, family in FAMILIES.items() if not issubclass(family, Reused | Joined)}
    names = {name for name, family in own.items() if family.parse({}).stacks}
    assert names == {text.partition("(")[0] for text in STACKED}


@pytest.mark.parametrize("text", STACKED)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_logits_terms_and_gradients_are_each_networks_own(text, sizes):
    groups, batches = groups_of(text, sizes), batches_for(sizes)
    fleet, members = stacked(groups, text, ("embedding",)), [net for group in groups for net in group]
    found = fleet.outputs(batches)
    inputs = [batch for group, batch in zip(groups, batches, strict=True) for _ in group]
    own, losses = [], []
    # Weighted apart, so that a member that took another's gradient would show.
    weights = torch.randn(found.logits.shape, generator=named_generator("weights"))
    for place, (net, batch) in enumerate(zip(members, inputs, strict=True)):
        with captured(net, ("embedding",)) as features:
            own.append(net(batch))
        terms = net.own_terms()
        torch.testing.assert_close(found.features["embedding"][place], features["embedding"], rtol=1e-5, atol=1e-6)
        assert found.own.keys() == terms.keys()
        for name, values in terms.items():
            torch.testing.assert_close(found.own[name][place], values[0], rtol=1e-5, atol=1e-6)
        losses.append((own[-1] * weights[place]).sum() + (place + 1) * sum(terms.values()))
    torch.testing.assert_close(found.logits, torch.stack(own), rtol=1e-5, atol=1e-6)
    place = torch.arange(1, 1 + len(members))
    fleet.backward((found.logits * weights).sum() + sum((place * values).sum() for values in found.own.values()))
    sum(losses).sum().backward()
    with torch.no_grad():
        for leaf in fleet.parts()[0]:
            leaf.copy_(leaf.grad)
    for gradients, net in zip(fleet.states(), members, strict=True):
        for name, parameter in net.named_parameters():
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-5)
        for name, values in net.named_buffers():
            torch.testing.assert_close(gradients[name], values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("text", STACKED)
def test_nothing_but_weights_changes_while_networks_are_measured(text):
    groups, batches = groups_of(text, (2, 1)), batches_for((2, 1))
    fleet = stacked(groups, text)
    fleet.training = False
    found, members = fleet.logits(batches), [net.eval() for group in groups for net in group]
    own = [net(batch) for net, batch in zip(members, (batches[0], *batches), strict=True)]
    torch.testing.assert_close(found, torch.stack(own), rtol=1e-5, atol=1e-6)
    assert [digest_of(state) for state in fleet.states()] == [digest_of(net.state_dict()) for net in members]


@pytest.mark.parametrize(
    "text", ["mlp(hidden=4)", "mlp(hidden=4,depth=3,dropout=0.2)", "cnn(filters=4)", "tree(depth=2)"]
)
def test_an_architecture_knows_whether_its_networks_are_plain_dense_chains(text):
    assert parse_architecture(text).is_dense == can_stack(make(text, 0))


def test_trees_too_deep_to_gain_by_it_are_not_stacked():
    assert parse_architecture("tree(depth=10)").stacks
    assert not parse_architecture("tree(depth=11)").stacks


def test_the_first_layers_gradient_has_one_place_in_memory():
    fleet, batches = StackedMLPs(groups_of("mlp(hidden=4,depth=2)", (2, 1))), batches_for((2, 1))
    places, found = [], []
    for factor in (1.0, 3.0):
        fleet.backward(factor * fleet.logits(batches).sum())
        places.append([leaf.grad.data_ptr() for leaf in (*fleet.wide_weights, *fleet.wide_biases)])
        found.append([leaf.grad.clone() for leaf in fleet.parts()[0]])
    assert places[0] == places[1]
    # Replaced in every step, not added up.
    torch.testing.assert_close(found[1], [3 * values for values in found[0]])


@pytest.mark.parametrize("text", [*STACKED, "mlp(hidden=4,depth=3,dropout=0.3)"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_states_are_the_very_weights_it_was_made_from(text, sizes):
    groups = groups_of(text, sizes)
    members = [net for group in groups for net in group]
    states = stacked(groups, text).states()
    assert [list(state) for state in states] == [list(net.state_dict()) for net in members]
    assert [digest_of(state) for state in states] == [digest_of(net.state_dict()) for net in members]
    assert len({digest_of(state) for state in states}) == sum(sizes)


@pytest.mark.parametrize("text", STACKED)
def test_a_fleet_shares_no_memory_with_its_networks_nor_its_states_with_it(text):
    groups = groups_of(text, (2,))
    before = [digest_of(net.state_dict()) for net in groups[0]]
    fleet = stacked(groups, text)
    states = fleet.states()
    with torch.no_grad():
        for leaf in fleet.parts()[0]:
            leaf.add_(1.0)
    assert [digest_of(net.state_dict()) for net in groups[0]] == before == [digest_of(state) for state in states]
    assert [digest_of(state) for state in fleet.states()] != before
    for state in states:
        for value in state.values():
            assert not value.requires_grad
            value.zero_()
    assert [digest_of(net.state_dict()) for net in groups[0]] == before
    assert fleet.std.all()


def test_dropout_is_off_outside_training_and_is_each_networks_own_within():
    groups, batches = groups_of("mlp(hidden=40,depth=2,dropout=0.5)", (2, 1)), batches_for((2, 1))
    members = [net for group in groups for net in group]
    inputs = [batches[0], batches[0], batches[1]]

    def wind():
        for number, net in enumerate(members):
            for place, part in enumerate(p for p in net.modules() if hasattr(p, "stream")):
                part.stream = named_generator("dropout", number, place)

    fleet = StackedMLPs(groups)
    wind()
    dropped = fleet.logits(batches)
    wind()
    own = torch.stack([net.train()(batch) for net, batch in zip(members, inputs, strict=True)])
    torch.testing.assert_close(dropped, own, rtol=1e-5, atol=1e-6)
    fleet.training = False
    quiet = fleet.logits(batches)  # the networks themselves are still training
    still = torch.stack([net.eval()(batch) for net, batch in zip(members, inputs, strict=True)])
    torch.testing.assert_close(quiet, still, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(dropped, still, atol=1e-2)


def test_dense_chains_can_be_stacked_and_others_cannot():
    assert can_stack(make("mlp(hidden=4)", 0))
    assert can_stack(make("mlp(hidden=4,depth=3,dropout=0.2)", 0))
    assert not can_stack(make("cnn(filters=4)", 0))
    for other in (nn.Tanh(), nn.BatchNorm1d(4), nn.LayerNorm(4)):
        layers = nn.Sequential(nn.Flatten(), nn.Linear(30, 4), other, nn.Linear(4, CLASSES))
        assert not can_stack(Classifier(layers, MEAN, STD))
