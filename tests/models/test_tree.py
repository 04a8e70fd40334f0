"""Soft decision trees: values of the paper's equations by hand, and numbers that stay finite."""

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from kdops.config.architectures import parse_architecture
from kdops.models.classifier import build
from kdops.models.tree import SoftTree
from kdops.utils.random import named_generator

SHAPE, CLASSES = (1, 2, 3), 4
IMAGES = torch.randint(0, 256, (7, *SHAPE), generator=named_generator("images"), dtype=torch.uint8)


def tree_of(text, scale=1.0):
    net = build(
        parse_architecture(text),
        SHAPE,
        CLASSES,
        torch.full((1,), 100.0),
        torch.full((1,), 50.0),
        named_generator("tree"),
    )
    with torch.no_grad():
        for values in net.parameters():
            values.mul_(scale)
    return net


def by_hand(net, depth, beta=1.0):
    """Every leaf's path probability ``[N, leaves]``, its distribution, and for each inner node what reaches it."""
    tree, inputs = net.net, net.normalized(IMAGES).flatten(1).double()
    gates = torch.sigmoid(beta * (inputs @ tree.filters.weight.double().t() + tree.filters.bias.double()))
    reached, paths = {0: torch.ones(len(IMAGES), dtype=torch.float64)}, []
    for turns in itertools.product((0, 1), repeat=depth):
        node, probability = 0, torch.ones(len(IMAGES), dtype=torch.float64)
        for turn in turns:
            reached[node] = probability
            probability = probability * (gates[:, node] if turn else 1 - gates[:, node])
            node = 2 * node + 1 + turn
        paths.append(probability)
    return torch.stack(paths, dim=1), tree.leaves.weight.double().softmax(dim=0).t(), gates, reached


@pytest.mark.parametrize(("depth", "beta"), [(1, 1.0), (3, 1.0), (3, 0.5)])
def test_the_logits_and_the_term_of_the_leaves_are_the_loss_of_the_paper(depth, beta):
    net = tree_of(f"tree(depth={depth},beta={beta})", 3.0).train()
    paths, leaves, *_ = by_hand(net, depth, beta)
    assert paths.sum(dim=1).tolist() == pytest.approx([1.0] * len(IMAGES))
    targets = torch.rand(len(IMAGES), CLASSES, generator=named_generator("targets"), dtype=torch.float64)
    for wanted in (targets.softmax(dim=1), F.one_hot(targets.argmax(dim=1), CLASSES).double()):
        paper = -(paths * (wanted @ leaves.log().t())).sum(dim=1).mean()
        logits, own = net(IMAGES), net.own_terms()
        assert (F.cross_entropy(logits, wanted.float()) + own["leaves"]).item() == pytest.approx(paper.item(), rel=1e-5)


def test_a_prediction_is_the_likeliest_leaf_or_the_mixture_of_all():
    leaf, mixture = (tree_of(f"tree(depth=3,predict={kind})", 5.0).eval() for kind in ("leaf", "mixture"))
    paths, leaves, *_ = by_hand(leaf, 3)
    torch.testing.assert_close(leaf(IMAGES).exp().double(), leaves[paths.argmax(dim=1)], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(mixture(IMAGES).exp().double(), paths @ leaves, rtol=1e-4, atol=1e-6)


def test_the_penalty_is_the_papers_with_means_over_more_batches_the_deeper_a_node_is():
    net = tree_of("tree(depth=2,penalty=0.5)", 3.0).train()
    *_, gates, reached = by_hand(net, 2)
    mean = {
        node: torch.stack([(one * (1 - gates[:, node])).mean(), (one * gates[:, node]).mean()])
        for node, one in reached.items()
    }
    running = {node: torch.zeros(2, dtype=torch.float64) for node in mean}
    for _ in range(2):
        wanted = 0.0
        for node, latest in mean.items():
            level = int(math.log2(node + 1))
            running[node] += (latest - running[node]) / 2**level
            share = running[node][1] / running[node].sum()
            wanted -= 0.5 / 2**level * 0.5 * (share.log() + (1 - share).log())
        net(IMAGES)
        assert net.own_terms()["balance"].item() == pytest.approx(wanted.item(), rel=1e-5)
    assert net.own_terms() == {}


@pytest.mark.parametrize("scale", [1e-6, 1e2, 1e6])
@pytest.mark.parametrize("text", ["tree(depth=1)", "tree(depth=8)", "tree(depth=4,predict=mixture,beta=100)"])
def test_saturated_nodes_leave_all_numbers_finite(text, scale):
    net = tree_of(text, scale).train()
    (net(IMAGES).sum() + sum(net.own_terms().values())).backward()
    assert all(values.grad.isfinite().all() for values in net.parameters())
    assert net.eval()(IMAGES).isfinite().all()


def test_parameters_are_counted_as_they_are():
    for text in ("tree(depth=1)", "tree(depth=4)"):
        counted = parse_architecture(text).parameters(SHAPE, CLASSES)
        assert counted == sum(values.numel() for values in tree_of(text).parameters())


def test_only_training_adds_terms_to_the_loss():
    net = tree_of("tree(depth=2)").eval()
    net(IMAGES)
    assert net.own_terms() == {}
    assert isinstance(net.net, SoftTree)
    assert not net.net.shares.any()
