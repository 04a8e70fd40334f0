"""Labels that only some images have: the loss of these is what it is without the others."""

import pytest
import torch

from kdops.config.architectures import parse_architecture
from kdops.config.recipes import Recipe
from kdops.data.unlabeled import UNLABELED
from kdops.training.groups import label_loss
from kdops.utils.random import named_generator

CLASSES, COUNT = 4, 40
RECIPE = Recipe(parse_architecture("mlp"), 1, 16, 1e-2)


@pytest.mark.parametrize(
    "given", [{}, {"class_weights": "balanced"}, {"label_smoothing": 0.2}, {"train_temperature": 2.0}], ids=str
)
def test_the_mean_over_all_images_is_that_over_those_with_a_label(given):
    stream = named_generator("labels")
    labels = torch.randint(0, CLASSES, (COUNT,), generator=stream).sort().values
    labels[::3] = UNLABELED
    known, recipes = labels >= 0, [RECIPE.replace(**given), RECIPE]
    logits = torch.randn(2, COUNT, CLASSES, generator=stream, requires_grad=True)
    partial = label_loss(recipes, [labels] * 2, CLASSES)(logits, labels.expand(2, -1))
    alone = label_loss(recipes, [labels[known]] * 2, CLASSES)(logits[:, known], labels[known].expand(2, -1))
    torch.testing.assert_close(partial.mean(dim=1), alone.mean(dim=1))
    (gradient,) = torch.autograd.grad(partial.sum(), logits)
    assert not gradient[:, ~known].any()
    assert gradient[:, known].abs().sum() > 0
    one = label_loss(recipes, [labels] * 2, CLASSES).of(slice(1, 2))(logits[1:], labels.expand(1, -1))
    assert torch.equal(one[0], partial[1])
