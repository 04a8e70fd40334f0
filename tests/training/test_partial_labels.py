"""Labels that only some images have: the loss of these is what it is without the others."""

import math
from dataclasses import replace

import pytest
import torch

from benchmarks.passes import train
from kdops.config.architectures import parse_architecture
from kdops.config.methods import METHODS, parse_method
from kdops.config.recipes import Recipe
from kdops.distillation.labels import MixedLabelLoss
from kdops.distillation.method import build_method
from kdops.distillation.sources import Kept
from kdops.models.classifier import build, pixel_statistics
from kdops.models.head import head_of
from kdops.models.taps import features_of
from kdops.training.groups import UNLABELED, Group, PassInputs, label_loss
from kdops.utils.random import named_generator
from tests.toys import quarters

CLASSES, COUNT = 4, 40
RECIPE = Recipe(parse_architecture("mlp"), 1, 16, 1e-2)
CNN = parse_architecture("cnn(filters=4,layers=3,dropout=0)")
IMAGES = quarters(COUNT, 0, 8)


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


def test_an_image_that_is_mixed_with_one_without_a_label_is_learned_by_its_own_share():
    labels, others = torch.tensor([[0, UNLABELED, 1]]), torch.tensor([[UNLABELED, 2, 3]])
    shares, logits = torch.tensor([[0.75, 0.25, 0.5]]), torch.randn(1, 3, CLASSES, generator=named_generator("mixed"))
    loss = label_loss([RECIPE], [torch.tensor([0, 1, 2, UNLABELED])], CLASSES)
    found = MixedLabelLoss(loss, others, shares)(logits, labels)
    logs, weight = logits.log_softmax(dim=-1)[0], 4 / 3
    expected = [0.75 * logs[0, 0], 0.75 * logs[1, 2], 0.5 * (logs[2, 1] + logs[2, 3])]
    torch.testing.assert_close(found[0], -weight * torch.stack(expected))


@pytest.mark.parametrize("name", [name for name, spec in METHODS.items() if not spec.reads_labels])
def test_every_method_that_reads_no_labels_is_learned_where_some_have_none(name):
    labels = torch.where(torch.arange(COUNT) % 2 == 0, UNLABELED, IMAGES.labels)
    images = replace(IMAGES, labels=labels)
    inputs = PassInputs("student", images, quarters(20, 1, 8), CLASSES, pixel_statistics(IMAGES.pixels))
    source = build(CNN, inputs.shape, CLASSES, *inputs.statistics, named_generator("source")).eval()
    chosen = parse_method(name)
    method = build_method(chosen)
    with torch.no_grad():
        features = features_of(source, IMAGES.pixels, method.needs.source)
        kept = Kept(source(IMAGES.pixels), {tap: method.reduced(own) for tap, own in features.items()})
    head = head_of(source).state_dict() if method.needs.head else {}
    recipe = RECIPE.replace(architecture=chosen.deployed(CNN, CNN), epochs=2)
    (one,) = train(recipe, [Group(0, (2.0,), kept, head=head)], inputs, method)
    assert all(map(math.isfinite, one.train_loss))
