"""Within an epoch nothing waits for a graphics processor: no value of a tensor is asked for.

Each such question empties the queue of what is still to be computed. The CPU answers at once, but it is asked all the
same, so that this can be seen without a graphics processor.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.passes import train
from kdops.config.architectures import parse_architecture
from kdops.config.recipes import Recipe
from kdops.distillation.logits import LogitDistillation
from kdops.distillation.sources import Kept
from kdops.models.classifier import pixel_statistics
from kdops.training.trainer import Group, PassInputs
from kdops.training.training_pass import TrainingPass
from kdops.training.trials import TrialPlan, train_trials
from tests.toys import quarters

IMAGES, VALIDATION, CLASSES = quarters(48, 0, 8), quarters(16, 1, 8), 4
INPUTS = PassInputs("student", IMAGES, VALIDATION, CLASSES, pixel_statistics(IMAGES.pixels))
SOURCE = torch.randn(48, CLASSES, generator=torch.Generator().manual_seed(0))

QUESTIONS = (
    *("_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select"),
    *("unique", "_unique", "repeat_interleave", "bincount"),
)
"""The operations whose result, or its shape, the program must know before it can go on."""


class Asked(TorchDispatchMode):
    """Collect the questions."""

    def __init__(self):
        super().__init__()
        self.questions, self.operations = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.operations += 1
        name = func.overloadpacket.__name__
        # By a mask is by the places where it is true, and there may be any number of them.
        masked = name in ("index", "index_put", "index_put_") and any(
            one is not None and one.dtype == torch.bool for one in args[1]
        )
        if name.startswith(QUESTIONS) or masked:
            self.questions.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def epochs(monkeypatch):
    """Collect what every epoch asked, of whole sweeps and of the trials of a search."""
    found = []
    real = TrainingPass._train_epoch

    def watched(self, *given):
        with Asked() as asked, monkeypatch.context() as patched:
            # These are no operations: on the CPU they read the memory itself.
            for name in ("tolist", "numpy", "cpu"):
                way = getattr(torch.Tensor, name)
                patched.setattr(torch.Tensor, name, lambda t, n=name, way=way: asked.questions.append(n) or way(t))
            told = real(self, *given)
        # The losses, once all is done.
        assert asked.questions.pop() == "tolist"
        found.append(asked)
        return told

    monkeypatch.setattr(TrainingPass, "_train_epoch", watched)
    return found


def recipe(text):
    return Recipe(parse_architecture(text), 2, 16, 1e-2)


def test_a_question_is_seen():
    with Asked() as asked:
        bool(torch.ones(3).any())
        torch.ones(3)[torch.ones(3) > 0]
    assert asked.questions == ["_local_scalar_dense", "index"]


@pytest.mark.parametrize(
    "text", ["mlp(hidden=4)", "mlp(hidden=4,depth=2,dropout=0.2)", "cnn(filters=4,layers=2,dropout=0.2)"]
)
@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize("temperatures", [(0.0,), (1.0, 4.0), (0.0, 4.0)], ids=str)
def test_an_epoch_of_a_sweep_asks_nothing(epochs, text, alpha, temperatures):
    groups = [Group(seed, temperatures, Kept(SOURCE)) for seed in (0, 1)]
    list(train(recipe(text), groups, INPUTS, LogitDistillation(alpha)))
    assert all(asked.operations > 50 and asked.questions == [] for asked in epochs)
    assert epochs


def test_an_epoch_of_a_search_asks_nothing(epochs):
    plans = [
        TrialPlan(recipe(f"mlp(hidden={width})"), 4.0, LogitDistillation(alpha))
        for width, alpha in ((4, 0.5), (9, 1.0))
    ]
    list(train_trials(plans, 0, [Kept(SOURCE)] * 2, INPUTS))
    assert [asked.questions for asked in epochs] == [[], []]
