"""Taps: which values of a network have a name, and that reading them leaves nothing on it."""

import pytest
import torch
from torch import nn

from kdops.config.architectures import FAMILIES, parse_architecture
from kdops.errors import UsageError
from kdops.models.classifier import ExternalClassifier, build
from kdops.models.taps import captured, check_taps, features_of
from kdops.utils.random import named_generator

STATISTICS = (torch.tensor([128.0]), torch.tensor([64.0]))
IMAGES = torch.randint(0, 256, (3, 1, 8, 8), generator=named_generator("images")).to(torch.uint8)


def network(text):
    return build(parse_architecture(text), (1, 8, 8), 4, *STATISTICS, named_generator("net"))


@pytest.mark.parametrize("text", [*FAMILIES, "mlp(hidden=5,depth=2)", "cnn(filters=4,layers=2)", "joined(at=logits)"])
def test_the_taps_that_an_architecture_names_are_those_of_its_network(text):
    architecture, net = parse_architecture(text), network(text)
    taps = architecture.taps()
    check_taps(net, taps, "student")
    found = features_of(net, IMAGES, taps)
    assert set(found) == set(taps)
    with pytest.raises(UsageError) as caught:
        check_taps(net, ("stage9",), "student")
    shown = [tap for tap in taps if "." not in tap]
    assert str(caught.value) == f"method=stage9: the student has no such tap; it has {', '.join(shown)}"


def test_a_stage_is_after_its_activation_and_the_embedding_before_the_last_layer():
    net = network("cnn(filters=4,layers=2,dropout=0)").eval()
    found = features_of(net, IMAGES, ("stage1", "stage1.before", "stage2", "embedding"))
    torch.testing.assert_close(found["stage1.before"].relu(), found["stage1"])
    assert (found["stage1.before"] < 0).any()
    assert found["stage1"].shape == (3, 4, 4, 4)
    assert found["stage2"].shape == (3, 4, 2, 2)
    torch.testing.assert_close(found["embedding"], found["stage2"].flatten(1))
    assert (found["stage1"] >= 0).all()
    torch.testing.assert_close(net.net[-1](found["embedding"]), net(IMAGES))


def test_modules_of_an_external_network_are_taps_by_their_path():
    body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU())
    net = ExternalClassifier(nn.Sequential(body, nn.Flatten(), nn.Linear(108, 4)), *STATISTICS)
    found = features_of(net, IMAGES, ("0", "0.0", "embedding"))
    assert found["0"].shape == (3, 3, 6, 6)
    torch.testing.assert_close(found["0.0"].relu(), found["0"])
    assert found["embedding"].shape == (3, 108)
    with pytest.raises(UsageError, match=r"it has embedding, 0, 1, 2 and any module by its path$"):
        check_taps(net, ("layer3",), "source")


def test_what_later_modules_of_others_write_in_place_does_not_reach_a_tap():
    chain = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(108, 4))
    found = features_of(ExternalClassifier(chain, *STATISTICS), IMAGES, ("0", "1", "2"))
    assert found["1"].min() < 0
    torch.testing.assert_close(found["1"].relu(), found["2"])


def test_reading_features_changes_nothing():
    net = network("cnn(filters=4,layers=2,dropout=0.5)").train()
    before = {name: values.clone() for name, values in net.state_dict().items()}
    features_of(net, IMAGES, ("stage1",))
    assert net.training
    assert all(torch.equal(before[name], values) for name, values in net.state_dict().items())
    with pytest.raises(RuntimeError), captured(net, ("stage1",)):
        raise RuntimeError
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())
