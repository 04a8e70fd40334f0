"""Networks: counted as they are, initialized as PyTorch would, and normalized inside."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kdops.config.architectures import FAMILIES, parse_architecture
from kdops.models.classifier import Classifier, Dropout, build, digest_of, pixel_statistics
from kdops.utils.random import named_generator

ARCHITECTURES = (
    *FAMILIES,
    "mlp(hidden=1)",
    "mlp(hidden=8,depth=2,dropout=0.2)",
    "mlp(hidden=5,depth=4)",
    "cnn(filters=4)",
    "cnn(filters=3,layers=1,dropout=0)",
    "cnn(filters=2,layers=5,dropout=0.5)",
)
SHAPES = ((1, 8, 8), (3, 32, 32), (2, 7, 5), (1, 1, 9), (3, 1, 1))


def make(text, shape=(1, 8, 8), classes=10, stream=0, mean=None, std=None):
    channels = shape[0]
    mean = torch.full((channels,), 100.0) if mean is None else mean
    std = torch.full((channels,), 50.0) if std is None else std
    return build(parse_architecture(text), shape, classes, mean, std, named_generator("init", stream))


def some_images(count, shape, seed=0):
    return torch.randint(0, 256, (count, *shape), generator=named_generator("images", seed)).to(torch.uint8)


def trainable(net):
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("text", ARCHITECTURES)
def test_parameters_and_operations_are_counted_as_torch_counts_them(text, shape):
    net, architecture, images = make(text, shape, classes=11), parse_architecture(text), some_images(3, shape)
    # As in training: a tree that predicts by its likeliest leaf multiplies less.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        logits = net(images)
    assert logits.shape == (3, 11)
    assert logits.dtype == torch.float32
    assert architecture.parameters(shape, 11) == trainable(net)
    assert architecture.flops(shape, 11) == counter.get_total_flops() / 3


@pytest.mark.parametrize(
    ("text", "count"), [("cnn(filters=128,layers=3,dropout=0.1/0.2/0.3)", 386_859), ("mlp(hidden=50,depth=1)", 155_843)]
)
def test_the_papers_networks_have_the_known_sizes(text, count):
    assert parse_architecture(text).parameters((3, 32, 32), 43) == count == trainable(make(text, (3, 32, 32), 43))


def test_pooling_before_relu_gives_what_relu_before_pooling_gives():
    net, images = make("cnn(filters=6,layers=3,dropout=0)", (2, 9, 12)).eval(), some_images(5, (2, 9, 12))
    parts = list(net.net)
    places = [n for n, part in enumerate(parts) if isinstance(part, nn.MaxPool2d)]
    assert len(places) == 3
    for n in places:
        assert isinstance(parts[n + 1], nn.ReLU)
        parts[n], parts[n + 1] = parts[n + 1], parts[n]
    assert torch.equal(net(images), Classifier(nn.Sequential(*parts), net.mean, net.std)(images))


@pytest.mark.parametrize("text", ["mlp(hidden=8)", "cnn(filters=4)"])
def test_normalization_is_inside_so_that_shift_and_scale_of_the_pixels_cancel(text):
    shape, images = (2, 6, 6), some_images(5, (2, 6, 6)) // 4
    mean, std = torch.tensor([20.0, 40.0]), torch.tensor([10.0, 30.0])
    plain = make(text, shape, mean=mean, std=std).eval()
    moved = make(text, shape, mean=3 * mean + 7, std=3 * std).eval()
    torch.testing.assert_close(plain(images), moved(3 * images + 7), rtol=1e-4, atol=1e-5)
    assert torch.equal(plain(images), plain.net((images.float() - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)))
    assert {"mean", "std"} <= set(plain.state_dict())


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 255), st.integers(0, 255))
def test_pixel_statistics_are_numpys(count, channels, low, high):
    low, high = sorted((low, high))
    images = torch.randint(low, high + 1, (count, channels, 5, 3), generator=named_generator(low, high)).to(torch.uint8)
    mean, std = pixel_statistics(images)
    exact = images.numpy().astype(np.float64)
    np.testing.assert_allclose(mean.numpy(), exact.mean((0, 2, 3)), rtol=1e-6)
    spread = exact.std((0, 2, 3))
    np.testing.assert_allclose(std.numpy(), np.where(spread > 0, spread, 1.0), rtol=1e-5)


@pytest.mark.parametrize("value", [0, 3, 255])
def test_a_channel_that_never_changes_stays_finite(value):
    images = some_images(4, (2, 8, 8))
    images[:, 1] = value
    mean, std = pixel_statistics(images)
    assert (mean[1], std[1]) == (value, 1)
    net = make("mlp(hidden=4)", (2, 8, 8), mean=mean, std=std)
    assert net(images).isfinite().all()


@pytest.mark.parametrize("text", ARCHITECTURES)
def test_a_stream_decides_the_weights(text):
    first, again, other = (digest_of(make(text, (1, 6, 6), stream=s).state_dict()) for s in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("text", ARCHITECTURES)
def test_weights_that_nobody_set_are_no_numbers(text):
    mean, std = torch.zeros(1), torch.ones(1)
    net = build(parse_architecture(text), (1, 8, 8), 10, mean, std)
    assert all(values.isnan().all() for values in net.parameters())
    assert not any(values.isnan().any() for values in make(text, (1, 8, 8)).parameters())


@pytest.mark.parametrize("text", ["mlp(hidden=60,depth=2)", "cnn(filters=40,layers=2,dropout=0)"])
def test_building_leaves_the_global_random_state_alone(text):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    net = make(text)
    net.train()(some_images(2, (1, 8, 8)))
    build(parse_architecture(text), (1, 8, 8), 10, torch.ones(1), torch.ones(1))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("text", ["mlp(hidden=200,depth=2)", "cnn(filters=60,layers=2,dropout=0)"])
def test_initial_weights_are_distributed_as_pytorchs_own(text):
    found = [p for p in make(text, (3, 16, 16)).modules() if isinstance(p, nn.Linear | nn.Conv2d)]
    assert len(found) == 3
    for layer in found:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            own = type(layer)(*_arguments(layer))
        bound = 1 / math.sqrt(layer.weight[0].numel())
        for ours, theirs in ((layer.weight, own.weight), (layer.bias, own.bias)):
            assert ours.shape == theirs.shape
            assert max(ours.abs().max(), theirs.abs().max()) <= bound
            assert ours.unique().numel() > 0.9 * ours.numel()
        # A uniform law over [-bound, bound] has the deviation bound / √3; the weights suffice to see it.
        for weight in (layer.weight, own.weight):
            deviations = 4 / math.sqrt(weight.numel())
            assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=deviations)
            assert abs(weight.mean().item()) < deviations * bound
        assert layer.weight.abs().max() > 0.98 * bound


def _arguments(layer):
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return layer.in_channels, layer.out_channels, layer.kernel_size


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_expectation(rate):
    part = Dropout(rate)
    part.stream = named_generator("dropout", rate)
    found = part(torch.full((200_000,), 3.0))
    assert found.unique().tolist() == [0.0, pytest.approx(3 / (1 - rate))]
    kept = (found > 0).double().mean().item()
    assert kept == pytest.approx(1 - rate, abs=5 * math.sqrt(rate * (1 - rate) / 200_000))
    assert found.mean().item() == pytest.approx(3.0, rel=5 * math.sqrt(rate / (1 - rate) / 200_000))


def test_dropout_is_the_identity_in_eval_and_at_rate_zero():
    x = torch.randn(100, generator=named_generator("x"))
    assert Dropout(0.9).eval()(x) is x
    assert Dropout(0.0).train()(x) is x


def test_dropout_is_reproduced_by_its_generator_and_draws_anew_each_time():
    x = torch.ones(1000)

    def drawn(*words):
        part = Dropout(0.5)
        part.stream = named_generator(*words)
        return part(x), part(x)

    first, second = drawn("a")
    again, other = drawn("a")[0], drawn("b")[0]
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


def a_state():
    return {"a": torch.arange(6, dtype=torch.float32).view(2, 3), "b": torch.tensor([0.0, math.nan, math.inf])}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["a", "b"]), st.integers(0, 2), st.integers(0, 31))
def test_a_digest_sees_every_bit(name, place, bit):
    state = a_state()
    bits = state[name].view(-1).view(torch.int32)
    bits[place] ^= -(2**31) if bit == 31 else 2**bit
    assert digest_of(state) != digest_of(a_state())


def test_a_digest_sees_names_shapes_and_kinds_but_neither_key_nor_memory_order():
    state = a_state()
    assert digest_of(dict(reversed(state.items()))) == digest_of(state)
    assert digest_of({**state, "a": state["a"].t().contiguous().t()}) == digest_of(state)
    changed = [
        {"a": state["a"], "c": state["b"]},
        {"a": state["b"], "b": state["a"]},
        {"a": state["a"]},
        {**state, "c": torch.zeros(0)},
        {**state, "a": state["a"].view(3, 2)},
        {**state, "a": state["a"].view(torch.int32)},
        {**state, "a": state["a"].double()},
    ]
    digests = {digest_of(other) for other in (state, *changed)}
    assert len(digests) == len(changed) + 1
