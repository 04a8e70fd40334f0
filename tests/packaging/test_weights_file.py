"""A trained network from a file of weights: what it gives, and what is refused."""

import os
import pickle
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kdops.config.sources import WeightsFile, parse_source
from kdops.data import dataset as datasets
from kdops.data.arrays import Arrays
from kdops.data.dataset import Dataset
from kdops.errors import UsageError
from kdops.packaging.external import load_weights
from kdops.packaging.weights_file import build_network
from kdops.utils.random import named_generator

HERE = "tests.packaging.test_weights_file"
ANSWERS = {
    "plain": lambda logits: logits,
    "an_object": lambda logits: SimpleNamespace(logits=logits),
    "a_dictionary": lambda logits: {"logits": logits, "loss": None},
    "probabilities": lambda logits: logits.softmax(1),
}


class Net(nn.Module):
    def __init__(self, inputs, classes, answer="plain"):
        super().__init__()
        self.body, self.head = nn.Linear(inputs, 6), nn.Linear(6, classes)
        self.answer = answer

    def forward(self, x):
        return ANSWERS[self.answer](self.head(self.body(x.flatten(1)).relu()))


def plain(channels, height, width, classes):
    return Net(channels * height * width, classes)


def an_object(channels, height, width, classes):
    return Net(channels * height * width, classes, "an_object")


def a_dictionary(channels, height, width, classes):
    return Net(channels * height * width, classes, "a_dictionary")


def probabilities(channels, height, width, classes):
    return Net(channels * height * width, classes, "probabilities")


def three(channels, height, width, classes):
    return Net(channels * height * width, 3)


DIGITS = datasets.load("digits")
IMAGES = torch.from_numpy(np.array(DIGITS.images[:5]))


def given(path, network=f"{HERE}:plain", normalize="unit") -> WeightsFile:
    found = parse_source(str(path), network, normalize)
    assert isinstance(found, WeightsFile)
    return found


@pytest.fixture
def net():
    torch.manual_seed(1)
    return Net(64, 10)


@pytest.mark.parametrize("answer", ANSWERS)
def test_whatever_a_network_gives_it_is_taken_for_the_same_logits(net, answer, tmp_path):
    torch.save(net.state_dict(), tmp_path / "net.pt")
    found = load_weights(given(tmp_path / "net.pt", f"{HERE}:{answer}"), DIGITS)
    torch.testing.assert_close(found(IMAGES).softmax(1), net(IMAGES.float() / 255).softmax(1))
    assert not any(values.requires_grad for values in found.parameters())


WRITTEN = {
    "weights.safetensors": lambda state, path: save_file(state, path),
    "checkpoint.pth": lambda state, path: torch.save({"epoch": 3, "state_dict": state}, path),
    "wrapped.pt": lambda state, path: torch.save({f"_orig_mod.module.{k}": v for k, v in state.items()}, path),
    "half.pt": lambda state, path: torch.save({k: v.double() for k, v in state.items()}, path),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_whatever_way_weights_are_written_they_are_the_same_network(net, name, tmp_path):
    WRITTEN[name](net.state_dict(), tmp_path / name)
    assert torch.equal(load_weights(given(tmp_path / name), DIGITS)(IMAGES), net(IMAGES.float() / 255))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("none", lambda x: x),
        ("unit", lambda x: x / 255),
        ("0.5/0.25", lambda x: (x / 255 - 0.5) / 0.25),
        ("data", lambda x: (x - SEEN.mean()) / SEEN.std(correction=0)),
    ],
)
def test_a_network_is_given_what_it_was_trained_to_see(net, text, wanted, tmp_path):
    torch.save(net.state_dict(), tmp_path / "net.pt")
    found = load_weights(given(tmp_path / "net.pt", normalize=text), DIGITS)
    torch.testing.assert_close(found(IMAGES), net(wanted(IMAGES.double()).float()), rtol=1e-4, atol=1e-4)


SEEN = torch.from_numpy(np.array(DIGITS.images[~DIGITS.test])).double()


def color(side):
    stream = np.random.default_rng(0)
    images = stream.integers(0, 256, (6, 3, side, side), dtype=np.uint8)
    labels = np.arange(6) % 3
    arrays = Arrays.of(images, labels, np.full(6, -1), np.arange(6) > 3, ("a", "b", "c"))
    return Dataset(name="color", notes="", **vars(arrays))


def test_a_network_of_torchvision_is_taken_as_it_is_with_the_normalization_of_imagenet(tmp_path):
    from torchvision.models import shufflenet_v2_x0_5

    data, theirs = color(40), shufflenet_v2_x0_5(num_classes=3).eval()
    torch.save(theirs.state_dict(), tmp_path / "net.pth")
    found = load_weights(given(tmp_path / "net.pth", "torchvision:shufflenet_v2_x0_5", "imagenet"), data)
    images = torch.from_numpy(data.images)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(found(images), theirs((images / 255 - mean) / std), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("auxiliary", [True, False])
def test_outputs_that_only_help_training_may_be_in_the_file_or_not(auxiliary):
    from torchvision.models import googlenet

    net = googlenet(num_classes=3, aux_logits=auxiliary, init_weights=False)
    weights = {f"module.{name}": own for name, own in net.state_dict().items()}
    found = build_network(given("net.pt", "torchvision:googlenet"), color(8), weights)
    assert torch.equal(found.state_dict()["fc.weight"], net.fc.weight)


def test_a_resnet_that_kdops_trained_for_small_images_is_recognized(tmp_path):
    from kdops.config.architectures import parse_architecture
    from kdops.models.classifier import build

    data, one = color(8), torch.ones(3)
    own = build(parse_architecture("torchvision:resnet18"), data.shape, 3, one, one, named_generator("x")).eval()
    torch.save(own.net.state_dict(), tmp_path / "net.pt")
    found = load_weights(given(tmp_path / "net.pt", "torchvision:resnet18", "none"), data)
    images = torch.from_numpy(data.images)
    torch.testing.assert_close(found(images), own.net(images.float()), rtol=1e-4, atol=1e-4)


class Payload:
    def __reduce__(self):
        return os.mkdir, ("was-run",)


def without(state, name):
    return {key: values for key, values in state.items() if key != name}


REFUSED = {
    "whole.pt": (lambda net, path: torch.save(net, path), f"{HERE}:plain", "holds more than weights"),
    "payload.pt": (
        lambda net, path: path.write_bytes(pickle.dumps(Payload())),
        f"{HERE}:plain",
        "holds more than weights",
    ),
    "noise.safetensors": (
        lambda net, path: path.write_bytes(b"noise" * 9),
        f"{HERE}:plain",
        "is no file of .safetensors, or a dam",
    ),
    "noise.pt": (lambda net, path: path.write_bytes(b"e" * 99), f"{HERE}:plain", "is no file of PyTorch, or a damaged"),
    "numbers.pt": (lambda net, path: torch.save({1: torch.ones(1)}, path), f"{HERE}:plain", "holds no weights by name"),
    "own.pt": (
        lambda net, path: torch.save({"mean": torch.ones(1), "std": torch.ones(1), **net.state_dict()}, path),
        f"{HERE}:plain",
        "is of a model of kdops, with its normalization",
    ),
    "list.pt": (lambda net, path: torch.save([1, 2], path), f"{HERE}:plain", "holds no weights by name"),
    "lacking.pt": (
        lambda net, path: torch.save(without(net.state_dict(), "head.bias"), path),
        f"{HERE}:plain",
        "lacks head.bias of",
    ),
    "more.pt": (
        lambda net, path: torch.save({**net.state_dict(), "tail": torch.ones(1)}, path),
        f"{HERE}:plain",
        "has tail, not",
    ),
    "classes.pt": (
        lambda net, path: torch.save(Net(64, 3).state_dict(), path),
        f"{HERE}:plain",
        "has head.weight [3, 6], and tests.packaging.test_weights_file:plain has [10, 6]",
    ),
    "three.pt": (lambda net, path: torch.save(Net(64, 3).state_dict(), path), f"{HERE}:three", "not float32 [2, 3]"),
    "net.pt": (lambda net, path: torch.save(net.state_dict(), path), f"{HERE}:absent", "has no function absent"),
    "absent.pt": (lambda net, path: None, f"{HERE}:plain", "there is no such file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_such_network_is_refused_in_one_line_and_nothing_is_run(net, name, tmp_path, monkeypatch):
    write, network, told = REFUSED[name]
    monkeypatch.chdir(tmp_path)
    write(net, tmp_path / name)
    with pytest.raises(UsageError, match=rf"^source(_model)?=.*{re.escape(told)}") as caught:
        load_weights(given(tmp_path / name, network), DIGITS)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    ("text", "network", "normalize", "told"),
    [
        ("net.pt", "", "data", "name the network with source_model"),
        ("outputs.npz", "m:f", "data", ".npz holds outputs alone"),
        ("outputs.npz", "", "unit", "stored outputs need none"),
        ("models:/a/1", "m:f", "data", "source is no .safetensors, .pt or .pth"),
        ("net.pt", "m:f", "0.5/0", "must be one of data, none, unit, imagenet, or MEAN/STD"),
        ("net.pt", "m:f", "0.5,0.5/0.1", "must be one of data"),
        ("net.pt", "nothing", "data", "unknown architecture"),
    ],
)
def test_options_that_do_not_go_together_are_refused(text, network, normalize, told):
    with pytest.raises(UsageError, match=re.escape(told)):
        parse_source(text, network, normalize)


def test_means_for_other_channels_are_refused(net, tmp_path):
    torch.save(net.state_dict(), tmp_path / "net.pt")
    with pytest.raises(UsageError, match="has 3 means, and the images of digits have 1 channels"):
        load_weights(given(tmp_path / "net.pt", normalize="imagenet"), DIGITS)
