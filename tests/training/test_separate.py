"""Networks in one pass are each what they are alone."""

import math

import pytest
import torch

from kdops.config.architectures import Tree, parse_architecture
from kdops.config.methods import METHODS, parse_method
from kdops.config.recipes import Recipe
from kdops.distillation.method import build_method
from kdops.distillation.sources import Kept
from kdops.errors import UsageError
from kdops.models.classifier import build, pixel_statistics
from kdops.training.groups import Group, PassInputs
from kdops.training.separate import SeparateModels, _with_late_biases
from kdops.training.trainer import train_pass
from kdops.utils.random import named_generator
from tests.toys import quarters

IMAGES = quarters(40, 0, 8).pixels
STATISTICS = pixel_statistics(IMAGES)


def make(text, word):
    return build(parse_architecture(text), (1, 8, 8), 4, *STATISTICS, named_generator("net", word))


def copied(net):
    """Return the same network again."""
    other = make("cnn(filters=4,layers=2,dropout=0)", 0)
    other.load_state_dict(net.state_dict())
    return other


def test_logits_and_gradients_are_each_networks_own():
    nets = [make("cnn(filters=4,layers=2,dropout=0)", word) for word in range(3)]
    alone = [copied(net) for net in nets]
    fleet = SeparateModels([nets[:2], nets[2:]])
    batches = [IMAGES[:10], IMAGES[10:20]]
    logits = fleet.logits(batches)
    assert logits.shape == (3, 10, 4)
    fleet.backward(logits.square().sum())
    for net, other, own, batch in zip(nets, alone, logits, (batches[0], batches[0], batches[1]), strict=True):
        expected = other(batch)
        torch.testing.assert_close(own, expected)
        expected.square().sum().backward()
        for one, two in zip(net.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(one.grad, two.grad)


def test_states_and_tensors_are_those_of_its_networks():
    nets = [make("cnn(filters=4,layers=2,dropout=0.1)", word) for word in range(2)]
    fleet = SeparateModels([nets])
    own = [values.data_ptr() for net in nets for values in net.state_dict().values()]
    assert sorted(values.data_ptr() for values in fleet.tensors().values()) == sorted(own)
    for state, net in zip(fleet.states(), nets, strict=True):
        assert state.keys() == net.state_dict().keys()
        assert all(torch.equal(state[name], values) for name, values in net.state_dict().items())


@pytest.mark.parametrize("layers", [1, 2, 5])
@pytest.mark.parametrize("dropout", ["0", "0.2"])
def test_a_bias_added_after_pooling_is_the_same_bias(layers, dropout):
    # The deepest have layers whose images are one pixel, which are not pooled any more.
    net = make(f"cnn(filters=4,layers={layers},dropout={dropout})", 0).eval()
    late = _with_late_biases(net.net, net.normalized(IMAGES))
    torch.testing.assert_close(late, net(IMAGES), rtol=1e-5, atol=1e-6)
    wanted = [torch.autograd.grad(found.square().sum(), list(net.parameters())) for found in (late, net(IMAGES))]
    for one, two in zip(*wanted, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


def test_trees_in_one_pass_have_outputs_terms_and_gradients_of_their_own_to_the_bit():
    nets, alone = ([make("tree(depth=3)", word) for word in range(3)] for _ in range(2))
    found = SeparateModels([nets], taps=("embedding",)).outputs([IMAGES[:10]])
    (found.logits.square().sum() + sum(values.sum() for values in found.own.values())).backward()
    for place, (net, other) in enumerate(zip(nets, alone, strict=True)):
        own = SeparateModels([[other]], taps=("embedding",)).outputs([IMAGES[:10]])
        assert torch.equal(own.logits[0], found.logits[place])
        assert torch.equal(own.features["embedding"][0], found.features["embedding"][place])
        assert found.own.keys() == own.own.keys() == {"leaves", "balance"}
        assert all(torch.equal(values[0], found.own[name][place]) for name, values in own.own.items())
        (own.logits.square().sum() + sum(values.sum() for values in own.own.values())).backward()
        assert all(
            torch.equal(one.grad, two.grad) for one, two in zip(net.parameters(), other.parameters(), strict=True)
        )


@pytest.mark.parametrize("name", sorted({**METHODS}))
def test_a_tree_learns_by_every_method_of_logits_and_embeddings_and_stacked_as_alone(name, monkeypatch):
    method, images = build_method(parse_method(name)), quarters(12, 0, 8)
    recipe = Recipe(parse_architecture("tree(depth=2)"), epochs=1, batch_size=6, learning_rate=1e-2)
    source = Kept(torch.randn(12, 4), {"embedding": torch.randn(12, 5)})
    given = PassInputs("student", images, images, 4, STATISTICS), method
    if method.needs.more or not {*method.needs.student} <= {"embedding"}:
        if not method.needs.more:
            with pytest.raises(UsageError, match="the student has no such tap; it has embedding"):
                train_pass(recipe, [Group(0, (2.0,), source)], *given)
        return
    stacked = train_pass(recipe, [Group(0, (2.0, 5.0), source)], *given)
    monkeypatch.setattr(Tree, "stacks", "")
    for one in stacked:
        assert all(map(math.isfinite, one.train_loss))
        assert {"term leaves", "term balance"} <= one.history.keys() or {"leaves", "balance"} <= one.terms.keys()
        (alone,) = train_pass(recipe, [Group(0, (one.temperature,), source)], *given)
        for name, values in alone.state.items():
            torch.testing.assert_close(one.state[name], values, rtol=2e-4, atol=2e-5)
