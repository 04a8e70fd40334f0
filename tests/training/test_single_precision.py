"""Devices without double precision, as Apple's: no step of a training makes a number of it there."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.passes import train
from kdops.config.architectures import parse_architecture
from kdops.config.recipes import Recipe
from kdops.distillation.logits import LogitDistillation
from kdops.distillation.sources import Kept
from kdops.models.classifier import pixel_statistics
from kdops.training.evaluation import balanced_accuracy, macro_f1
from kdops.training.trainer import Group, PassInputs
from kdops.utils import hardware
from tests.toys import quarters

IMAGES, VALIDATION = quarters(24, 0, 8), quarters(12, 1, 8)
INPUTS = PassInputs("student", IMAGES, VALIDATION, 4, pixel_statistics(IMAGES.pixels))
METHODS = (LogitDistillation(alpha=0.5), LogitDistillation(alpha=0.2))


class NoDouble(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        for one in tree_leaves(found):
            assert not isinstance(one, torch.Tensor) or one.dtype != torch.float64, function
        return found


def trained(net):
    groups = [Group(seed, (0.0, 2.0), Kept(torch.ones(24, 4))) for seed in (0, 1)]
    recipe = Recipe(parse_architecture(net), 1, 16, 1e-2)
    return [one.state for one in train(recipe, groups, INPUTS, METHODS[0])]


@pytest.mark.parametrize("net", ["mlp(hidden=5)", "cnn(filters=2,layers=1,dropout=0)"])
def test_a_training_needs_no_double_precision_and_gives_the_same_weights_without(net, monkeypatch):
    double = trained(net)
    with pytest.raises(AssertionError), NoDouble():
        trained(net)
    monkeypatch.setattr(hardware, "WITHOUT_DOUBLE", ("cpu",))
    with NoDouble():
        single = trained(net)
    for one, other in zip(double, single, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_members_with_options_of_their_own_are_measured_without_double_precision(monkeypatch):
    monkeypatch.setattr(hardware, "WITHOUT_DOUBLE", ("cpu",))
    with NoDouble():
        assert LogitDistillation.stacked(METHODS, "cpu").alpha.dtype == torch.float32
        counts = torch.eye(4, dtype=torch.long)[None]
        assert balanced_accuracy(counts).tolist() == macro_f1(counts).tolist() == [1.0]
