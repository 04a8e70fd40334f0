"""Hidden units that no image activates are counted, in dense and in convolutional networks."""

import pytest
import torch
from torch import nn

from kdops.config.architectures import parse_architecture
from kdops.models.classifier import Classifier, ExternalClassifier, build
from kdops.training.activity import measure_units
from kdops.utils.random import named_generator

MEAN, STD = torch.tensor([100.0]), torch.tensor([50.0])
IMAGES = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def network(text):
    return build(parse_architecture(text), (1, 8, 8), 10, MEAN, STD, named_generator("activity", 0)).eval()


@pytest.mark.parametrize(
    ("text", "units", "silenced"), [("mlp(hidden=8,depth=2)", 16, 3), ("cnn(filters=4,layers=2)", 8, 2)]
)
def test_units_that_no_image_activates_are_counted(text, units, silenced):
    net = network(text)
    assert measure_units(net, IMAGES) == {"dead_units": 0.0}
    first = next(layer for layer in net.net.modules() if isinstance(layer, nn.Linear | nn.Conv2d))
    with torch.no_grad():
        first.bias[:silenced] = -1e6
        # The later layer is kept alive whatever reaches it.
        later = [one for one in net.net.modules() if isinstance(one, nn.Linear | nn.Conv2d)][1]
        later.bias.fill_(1e6)
    assert measure_units(net, IMAGES, block=7) == {"dead_units": silenced / units}
    assert not any(module._forward_hooks for module in net.modules())


def test_one_image_is_enough_to_activate_a_unit():
    net = network("mlp(hidden=2,depth=1)")
    with torch.no_grad():
        net.net[1].weight.fill_(0.0)
        net.net[1].weight[0, 0] = 1.0
        net.net[1].bias.copy_(torch.tensor([-1.0, -1.0]))
    images = torch.zeros(30, 1, 8, 8, dtype=torch.uint8)
    assert measure_units(net, images, block=4) == {"dead_units": 1.0}
    images[29, 0, 0, 0] = 255
    assert measure_units(net, images, block=4) == {"dead_units": 0.5}


def test_networks_of_others_and_those_without_units_are_left_out():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.ReLU(), nn.Linear(3, 10))
    assert measure_units(ExternalClassifier(net, MEAN, STD).eval(), IMAGES) == {}
    assert measure_units(Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), MEAN, STD).eval(), IMAGES) == {}
