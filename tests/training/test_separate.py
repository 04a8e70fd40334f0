"""Networks in one pass are each what they are alone."""

import pytest
import torch

from kdops.config.architectures import parse_architecture
from kdops.models.classifier import build, pixel_statistics
from kdops.training.separate import SeparateModels, _with_late_biases
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
