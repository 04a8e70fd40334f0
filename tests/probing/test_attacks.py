"""Attacks against what is known exactly, linear classifiers, and laws over the table of attacks."""

import pytest
import torch
from torch import nn

from kdops.config.architectures import parse_architecture
from kdops.config.attacks import ATTACKS, parse_attacks
from kdops.data.dataset import load
from kdops.errors import KdopsError, UsageError
from kdops.models.classifier import Classifier, build
from kdops.probing.attack import attack_networks, input_gradients
from kdops.probing.cw0 import cw0
from kdops.probing.cw2 import cw2, euclidean, largest
from kdops.probing.cwinf import cwinf
from kdops.probing.victims import Goal, Victims
from kdops.utils.random import named_generator

CLASSES, SIDE = 4, 8
SCALES = (0.1, 10.0)
"""Logits of any size are attacked alike: a net trained at T = 100 has logits of a hundred times the usual size."""


def linear(scale, seed):
    """Return a linear classifier whose class 0 is far ahead on gray images."""
    layer, stream = nn.Linear(SIDE**2, CLASSES), named_generator("linear", seed)
    with torch.no_grad():
        layer.weight.copy_(scale * torch.randn(layer.weight.shape, generator=stream))
        layer.bias.copy_(scale * torch.tensor([60.0, 0, 0, 0]))
    return Classifier(nn.Sequential(nn.Flatten(), layer), torch.tensor([120.0]), torch.tensor([60.0])).eval()


def gray():
    return torch.full((1, 1, 1, SIDE, SIDE), 128 / 255)


def slopes(net):
    """Return by how much class 0 is ahead of each other class, and the slope of that by values in [0, 1]."""
    weight = net.net[1].weight.detach() * 255 / 60
    logits = Victims([net]).logits(gray())[0, 0].detach()
    return logits[0] - logits[1:], weight[0] - weight[1:]


def least(net, measure):
    ahead, slope = slopes(net)
    return min(measure(a, w) for a, w in zip(ahead, slope, strict=True))


def greedy(ahead, slope):
    """Return how many values must go to their end of the box, those that gain most first."""
    gains = torch.where(slope > 0, slope * 128 / 255, -slope * 127 / 255).sort(descending=True).values.cumsum(0)
    return int((gains < ahead).sum()) + 1


@pytest.mark.parametrize("scale", SCALES)
def test_on_a_linear_classifier_the_least_distances_are_reached(scale):
    net = linear(scale, seed=3)
    victims, goal = Victims([net]), Goal(torch.tensor([0]))
    change = cw2(victims, gray(), goal, iterations=100, searches=5) - gray()
    assert euclidean(change).item() == pytest.approx(least(net, lambda a, w: (a / w.norm()).item()), rel=0.01)
    change = cwinf(victims, gray(), goal, iterations=50) - gray()
    assert largest(change).item() == pytest.approx(least(net, lambda a, w: (a / w.abs().sum()).item()), rel=0.01)
    change = cw0(victims, gray(), goal, iterations=50) - gray()
    assert int((change != 0).sum()) == least(net, greedy)


def test_targets_are_reached_though_other_classes_are_nearer():
    net = linear(1.0, seed=3)
    ahead, slope = slopes(net)
    targets = torch.arange(1, CLASSES)
    images = gray().expand(1, CLASSES - 1, 1, SIDE, SIDE)
    changed = cw2(Victims([net]), images, Goal(torch.zeros_like(targets), targets), iterations=60, searches=3)
    assert Victims([net]).classes(changed)[0].tolist() == targets.tolist()
    # Another class may be ahead on the way, so the distance to the boundary with class 0 is only a lower bound.
    assert (euclidean(changed - images)[0] >= 0.999 * ahead / slope.norm(dim=1)).all()


@pytest.fixture(scope="module")
def digits():
    data = load("digits")
    images = torch.from_numpy(data.images[:600])
    return images, torch.from_numpy(data.labels[:600])


def trained(digits, seed, temperature=1.0, depth=1):
    """Return a net that has learned digits at a temperature."""
    images, labels = digits
    net = build(
        parse_architecture(f"mlp(hidden=32,depth={depth})"),
        tuple(images.shape[1:]),
        10,
        torch.tensor([80.0]),
        torch.tensor([90.0]),
        named_generator("net", seed),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(80):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images) / temperature, labels).backward()
        optimizer.step()
    return net.eval()


@pytest.fixture(scope="module")
def nets(digits):
    return [trained(digits, seed) for seed in (0, 1)]


def test_an_undefended_net_is_broken_on_all_of_its_images(digits, nets):
    images, labels = digits[0][:200], digits[1][:200].clone()
    labels[:5] = (labels[:5] + 1) % 10
    (found,) = attack_networks(nets[:1], images, labels, *parse_attacks("cw2(iterations=60,searches=4)"))
    assert found.success == 1
    assert (found.images, found.wrong_before) == (195, 5), "those that were wrong before are counted, not attacked"
    assert found.unchanged == 0
    assert found.l2 < 2
    assert 0.5 < found.success_rounded <= 1
    assert not torch.equal(found.before, found.after)
    assert (found.classes[:, 0] != found.classes[:, 1]).all()
    answers = nets[0](found.after).argmax(dim=1)
    assert torch.equal(answers, found.classes[:, 1]), "what is shown is what the model gives for the stored image"


QUICK = {"pgd": "pgd(iterations=3)", "cw0": "cw0(iterations=8)", "cw2": "cw2(iterations=8,searches=2)"}
QUICK |= {"cwinf": "cwinf(iterations=5)"}


@pytest.mark.parametrize("target", ["any", "random"])
@pytest.mark.parametrize("name", ATTACKS)
def test_nets_that_are_attacked_together_are_attacked_as_each_alone(name, target, digits, nets):
    text = QUICK.get(name, name)
    (attack,) = parse_attacks(f"{text[:-1]},target={target})" if "(" in text else f"{text}(target={target})")
    images, labels = digits[0][:12], digits[1][:12].clone()
    labels[0] = (labels[0] + 1) % 10  # wrong before: it reaches the goal as it is, and must not hold up the others
    together = attack_networks(nets, images, labels, attack)
    for net, found in zip(nets, together, strict=True):
        (alone,) = attack_networks([net], images, labels, attack)
        assert found.success == pytest.approx(alone.success, abs=0.1), "the order of sums may tip a last bit"
        assert found.images == alone.images <= 11
        assert found.after.dtype == torch.uint8
        assert set(found.metrics("x")) >= {"attack_x_success", "attack_x_success_rounded", "attack_x_wrong_before"}
        assert found.l0 > 0 or found.success == 0


def test_steps_stay_within_their_bounds(digits, nets):
    images, labels = digits[0][:20], digits[1][:20]
    for text in ("fgsm(epsilon=0.2)", "pgd(epsilon=0.2)"):
        (found,) = attack_networks(nets[:1], images, labels, *parse_attacks(text))
        assert 0 < found.linf <= 0.2 + 1e-6
        assert found.success > 0
    (found,) = attack_networks(nets[:1], images, labels, *parse_attacks("jsma(share=0.1)"))
    assert 0 < found.l0 <= 6


def test_saturated_outputs_stop_what_follows_the_softmax_and_only_that(digits, nets):
    """Logits of a hundred times their size are the same classifier, so no attack may find it safer."""
    images, labels = digits[0][:60], digits[1][:60]
    sharp = [Classifier(nn.Sequential(*nets[0].net, Times(1000.0)), nets[0].mean, nets[0].std).eval()]

    def success(net, text):
        return attack_networks(net, images, labels, *parse_attacks(text))[0]

    assert success(sharp, "fgsm(epsilon=0.3)").unchanged > 0.9
    assert success(sharp, "jsma").unchanged > 0.9
    assert (input_gradients(sharp, images) == 0).double().mean() > 0.9
    for text in ("fgsm(epsilon=0.3{})", "jsma(share=0.3{})"):
        plain = success(nets[:1], text.format("")).success
        assert plain > 0.5
        assert success(sharp, text.format(",temperature=1000")).success == pytest.approx(plain, abs=0.05)
    for text in ("pgd(epsilon=0.3,iterations=10)", "cw2(iterations=60,searches=4)", "cwinf(iterations=15)"):
        plain, own = success(nets[:1], text), success(sharp, text)
        assert plain.success > 0.9
        assert own.success == pytest.approx(plain.success, abs=0.05)
        assert own.l2 == pytest.approx(plain.l2, rel=0.1)


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


@pytest.mark.parametrize("name", ATTACKS)
def test_a_net_that_gives_probabilities_is_refused_and_does_not_look_safe(name, digits, nets):
    softened = Classifier(nn.Sequential(*nets[0].net, nn.Softmax(dim=1)), nets[0].mean, nets[0].std).eval()
    with pytest.raises(KdopsError, match="gives probabilities, not logits"):
        attack_networks([softened], digits[0][:4], digits[1][:4], *parse_attacks(name))


def test_a_net_without_gradient_is_refused(digits):
    images, labels = digits
    tree = build(
        parse_architecture("tree(depth=2)"), (1, 8, 8), 10, torch.zeros(1), torch.ones(1), named_generator("t")
    )
    with pytest.raises(KdopsError, match="has no gradient by its pixels"):
        attack_networks([tree.eval()], images[:4], labels[:4], *parse_attacks("fgsm"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs|must be"),
        ("carlini", "must be one of fgsm"),
        ("fgsm(epsilon=0)", "epsilon must be a number above 0"),
        ("fgsm,fgsm(epsilon=0.2)", "has fgsm twice"),
        ("cw2(target=3)", "target must be"),
    ],
)
def test_what_is_no_attack_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        parse_attacks(text)


def test_the_text_of_an_attack_has_all_of_its_options():
    for name in ATTACKS:
        (attack,) = parse_attacks(name)
        assert parse_attacks(str(attack)) == (attack,)
        assert all(f"{option}=" in str(attack) for option in ATTACKS[name].options)
