"""Entropy maps against what is known exactly, and knowledge points of maps that are written down."""

import pytest
import torch
from torch import nn

from kdops.config.architectures import parse_architecture
from kdops.config.knowledge import KnowledgeProbe
from kdops.errors import UsageError
from kdops.models.classifier import Classifier, build
from kdops.probing.knowledge import HIGHEST, LOWEST, OF_ONE, EntropyMaps, entropy_maps, knowledge_points
from kdops.utils.random import named_generator

GRID, SIDE, FEATURES = 4, 8, 30
INSIDE = torch.zeros(3, GRID, GRID, dtype=torch.bool)
INSIDE[:, 1:3, 1:3] = True
IMAGES = torch.randint(0, 256, (3, 2, SIDE, SIDE), generator=named_generator("images"), dtype=torch.uint8)
PROBE = KnowledgeProbe(grid=GRID)


def linear(scales):
    """Return a network with a linear layer before its last one; each patch has its own scale ``[GRID, GRID]``."""
    stream = named_generator("linear")
    layer = nn.Linear(2 * SIDE**2, FEATURES)
    spread = scales.repeat_interleave(SIDE // GRID, 0).repeat_interleave(SIDE // GRID, 1).expand(2, SIDE, SIDE)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=stream) * spread.reshape(1, -1))
    return Classifier(nn.Sequential(nn.Flatten(), layer, nn.Linear(FEATURES, 3)), torch.zeros(2), torch.ones(2)).eval()


def sensitivity(net):
    """Return the sum of the squared weights of each patch ``[GRID, GRID]``: by what its noise changes the features."""
    squares = net.net[1].weight.detach().square().sum(0).reshape(2, GRID, SIDE // GRID, GRID, SIDE // GRID)
    return squares.sum(dim=(0, 2, 4))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_of_a_linear_network_the_entropies_are_the_closed_form_whatever_the_scale(scale):
    net = linear(scale * torch.randn(GRID, GRID, generator=named_generator("scales")).exp())
    found = entropy_maps(net, IMAGES, INSIDE, PROBE).entropies
    logs = sensitivity(net).log()
    # The sum of a_i sigma_i^2 is least, at a given mean of log sigma_i, where all of its terms are equal.
    expected = PROBE.entropy - (logs - logs.mean()) / 2
    assert (found - expected).abs().max() < 0.15
    assert (found - expected).abs().mean() < 0.05
    assert found.mean(dim=(1, 2)) == pytest.approx(torch.full((3,), PROBE.entropy), abs=1e-4)


def test_a_patch_that_nothing_depends_on_takes_all_noise_that_there_is_and_the_others_share_the_rest():
    scales = torch.ones(GRID, GRID)
    scales[0, 0] = 0
    found = entropy_maps(linear(scales), IMAGES, INSIDE, PROBE).entropies
    assert found[:, 0, 0] == pytest.approx(torch.full((3,), HIGHEST + OF_ONE), abs=0.05)
    rest = (PROBE.entropy * GRID**2 - HIGHEST - OF_ONE) / (GRID**2 - 1)
    others = found.flatten(1)[:, 1:]
    assert others == pytest.approx(torch.full_like(others, rest), abs=0.2)
    assert bool((found >= LOWEST + OF_ONE).all())


def test_images_whose_features_never_change_are_counted_and_left_out():
    found = entropy_maps(linear(torch.zeros(GRID, GRID)), IMAGES, INSIDE, PROBE)
    assert found.entropies.isnan().all()
    assert not found.points.any()
    assert found.metrics() == {"knowledge_images": 0, "knowledge_unmoved": 3}


@pytest.mark.parametrize("net", ["mlp(hidden=9)", "cnn(filters=4,layers=2)"])
def test_an_image_has_the_same_map_alone_as_among_others(net, monkeypatch):
    statistics = torch.full((2,), 120.0), torch.full((2,), 60.0)
    network = build(parse_architecture(net), (2, SIDE, SIDE), 3, *statistics, named_generator(net)).eval()
    probe = KnowledgeProbe(grid=GRID, noises=4, steps=10)
    together = entropy_maps(network, IMAGES, INSIDE, probe).entropies
    monkeypatch.setattr("kdops.probing.knowledge.MOST_VALUES", 1)
    assert entropy_maps(network, IMAGES, INSIDE, probe).entropies == pytest.approx(together, abs=1e-3)
    assert all(values.grad is None for values in network.parameters())


def test_points_take_less_noise_than_the_image_s_own_background():
    entropies = torch.full((2, GRID, GRID), -2.0)
    entropies[:, 1, 1] = -2.5  # of the foreground
    entropies[1] -= 5  # all of an image alike: no patch stands out for it
    entropies[1, 0, 0] -= 1.1  # of the background, which moves its mean by a tenth too
    found = EntropyMaps(entropies, INSIDE[:2], PROBE)
    assert found.points.nonzero().tolist() == [[0, 1, 1], [1, 0, 0], [1, 1, 1]]
    assert found.metrics() == {
        "knowledge_images": 2,
        "knowledge_unmoved": 0,
        "knowledge_points": pytest.approx(2 / 8),
        "knowledge_points_background": pytest.approx(1 / 24),
        "knowledge_ratio": pytest.approx(2 / 3),
        "knowledge_contrast": pytest.approx(0.5 / 4 - 1.1 / 24),
    }
    assert not knowledge_points(entropies, INSIDE[:2], 1.2).any()
    # An image without a background has nothing that it could stand out from.
    assert not EntropyMaps(entropies, torch.ones_like(INSIDE[:2]), PROBE).measured.any()


def test_what_cannot_be_mapped_is_refused():
    net = linear(torch.ones(GRID, GRID))
    with pytest.raises(UsageError, match="grid=9: must be at most 8, the pixels on a side"):
        entropy_maps(net, IMAGES, INSIDE, KnowledgeProbe(grid=9))
    with pytest.raises(UsageError, match="stage1: the model has no such tap; it has embedding"):
        entropy_maps(net, IMAGES, INSIDE, KnowledgeProbe(layer="stage1"))
