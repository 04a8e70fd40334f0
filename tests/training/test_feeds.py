"""Laws of augmentation, over AUGMENTATIONS: no student ever gets a source's outputs for another view than it sees."""

from dataclasses import replace

import pytest
import torch
from scipy.stats import beta as beta_distribution
from scipy.stats import kstest

from benchmarks.passes import train
from kdops.config.architectures import parse_architecture
from kdops.config.augmentation import AUGMENTATIONS, Augment
from kdops.config.recipes import Recipe
from kdops.data.views import OPERATIONS, Views
from kdops.distillation.logits import LogitDistillation
from kdops.distillation.objective import Objective
from kdops.distillation.shuffled import Shuffled
from kdops.distillation.sources import Asked, Kept, KeptViews
from kdops.models.classifier import pixel_statistics
from kdops.sweeps.model import COPY_SEEDS
from kdops.training.separate import SeparateModels
from kdops.training.stacked import StackedMLPs
from kdops.training.trainer import Group, PassInputs
from kdops.utils.random import named_generator
from tests.toys import quarters

SIDE, COUNT, CLASSES = 8, 24, 4
IMAGES, VALIDATION = quarters(COUNT, 0, SIDE), quarters(12, 1, SIDE)
INPUTS = PassInputs("student", IMAGES, VALIDATION, CLASSES, pixel_statistics(IMAGES.pixels))
ALL = torch.arange(COUNT)
LINEAR = torch.randn(SIDE * SIDE, CLASSES, generator=named_generator("source")) / 100
TEXTS = [*AUGMENTATIONS, "crop=2 flip=true cutout=3", "shift=3 rotate=30 jitter=0.4", "crop=2 mixup=1"]
every = pytest.mark.parametrize("text", TEXTS)


def view(text, number=0, replicate=0, pixels=IMAGES.pixels):
    views = Views(Augment().read(text), pixels, replicate)
    views.enter(number)
    return views


def source(pixels):
    return pixels.float().flatten(1) @ LINEAR


@every
def test_a_view_is_a_function_of_image_number_and_replicate_alone(text):
    whole = view(text).at(ALL)
    assert (whole.shape, whole.dtype) == (IMAGES.pixels.shape, torch.uint8)
    rows = torch.tensor([7, 3, 3, 19])
    assert torch.equal(view(text).at(rows), whole[rows])
    few = ALL[:8]
    others, shares = view(text).mixed(few)
    black = torch.zeros_like(IMAGES.pixels)
    needed = torch.cat([few, others])
    black[needed] = IMAGES.pixels[needed]
    assert torch.equal(view(text, pixels=black).at(few), whole[few])
    assert torch.equal(others, few) is ("mixup" not in text)
    assert bool((shares == 1).all()) is ("mixup" not in text)
    gone = view(text, 5)
    gone.enter(0)
    assert torch.equal(gone.at(ALL), whole)
    assert not torch.equal(view(text, 1).at(ALL), whole)
    assert not torch.equal(view(text, 0, 1).at(ALL), whole)
    assert not torch.equal(whole, IMAGES.pixels)


def test_each_augmentation_does_what_it_says():
    gradient = torch.arange(SIDE, dtype=torch.uint8).repeat(COUNT, 1, SIDE, 1) * 20 + 20
    crops = view("crop=2", pixels=gradient).at(ALL)
    assert (crops == 0).any()
    assert set(crops.unique().tolist()) <= {0, *gradient.unique().tolist()}
    shifted = view("shift=2", pixels=gradient).at(ALL)
    assert set(shifted.unique().tolist()) <= set(gradient.unique().tolist())
    flipped = view("flip", pixels=gradient).at(ALL)
    mirrored = (flipped == gradient.flip(3)).flatten(1).all(1)
    assert ((flipped == gradient).flatten(1).all(1) ^ mirrored).all()
    assert 0 < mirrored.sum() < COUNT
    cut = view("cutout=4", pixels=gradient).at(ALL) == 128
    assert cut.flatten(1).sum(1).min() >= 4
    assert cut.flatten(1).sum(1).max() == 16
    flat = torch.full((COUNT, 3, SIDE, SIDE), 100, dtype=torch.uint8)
    assert torch.equal(view("rotate=45", pixels=flat).at(ALL), flat)
    jittered = view("jitter=0.2", pixels=flat).at(ALL).float()
    assert 80 <= jittered.min() < 95
    assert 105 < jittered.max() <= 120
    assert torch.equal(jittered.amin((1, 2, 3)), jittered.amax((1, 2, 3)))
    assert {*OPERATIONS, "randaugment", "mixup"} == AUGMENTATIONS.keys()


@pytest.mark.parametrize("beta", [0.2, 1.0, 8.0])
def test_mixup_adds_two_images_by_a_share_that_is_beta_distributed(beta):
    """Zhang et al., 2018, equation (1): lambda x_i + (1 - lambda) x_j, of images that are augmented beforehand."""
    pixels = torch.randint(256, (4000, 1, 2, 2), generator=named_generator("pixels"), dtype=torch.uint8)
    rows = torch.arange(len(pixels))
    views, flips = (view(text, 3, pixels=pixels) for text in (f"flip mixup={beta}", "flip"))
    others, shares = views.mixed(rows)
    share, flipped = shares.view(-1, 1, 1, 1), flips.at(rows).float()
    exact = share * flipped + (1 - share) * flipped[others]
    assert (views.at(rows).float() - exact).abs().max() < 0.501
    assert torch.equal(others.sort().values, rows)
    assert kstest(shares.numpy(), beta_distribution(beta, beta).cdf).pvalue > 0.01
    views.enter(4)
    assert not torch.equal(views.mixed(rows)[0], others)


def kept(text, count, replicate):
    views = view(text, 0, replicate)
    found = []
    for number in range(count):
        views.enter(number)
        found.append(source(views.at(ALL)))
    return KeptViews(torch.stack(found), views.key)


NETS = ("mlp(hidden=5)", "cnn(filters=2,layers=1,dropout=0)")


@every
@pytest.mark.parametrize(("net", "views"), [(NETS[0], "live"), (NETS[1], "2")])
def test_in_every_step_a_student_gets_the_sources_outputs_for_the_very_view_that_it_sees(text, net, views, monkeypatch):
    text, seen, given = Augment().read(text), [], []
    recipe = Recipe(parse_architecture(net), 3, 16, 1e-2, augment=text, views=views)
    for kind in (StackedMLPs, SeparateModels):

        def outputs(self, images, real=kind.outputs):
            seen.extend(images if self.training else ())
            return real(self, images)

        monkeypatch.setattr(kind, "outputs", outputs)
    terms = Objective.terms

    def watched(self, student, labels, source, *others):
        given.append(source.logits)
        return terms(self, student, labels, source, *others)

    monkeypatch.setattr(Objective, "terms", watched)
    # Replicates see other views, the copies of one the same; each has the outputs of its own.
    seeds = (0, 1, COPY_SEEDS)
    sources = [Asked(source) if views == "live" else kept(text, int(views), seed % COPY_SEEDS) for seed in seeds]
    groups = [Group(seed, (2.0,), own) for seed, own in zip(seeds, sources, strict=True)]
    list(train(recipe, groups, INPUTS, LogitDistillation()))
    assert len(seen) == len(seeds) * 3 * 2
    # One batch a member, step after step.
    for images, logits in zip(seen, [own for step in given for own in step], strict=True):
        torch.testing.assert_close(logits, source(images))
    numbers = {one.flatten(1).float().sum().item() for one in seen}
    assert len(numbers) > 3


def test_kept_outputs_of_as_many_views_as_epochs_teach_what_a_source_does_that_is_asked():
    text = Augment().read("shift=1 flip")
    recipe = Recipe(parse_architecture(NETS[0]), 3, 16, 1e-2, augment=text)
    (asked,) = train(recipe, [Group(0, (2.0,), Asked(source))], INPUTS, LogitDistillation())
    own = [Group(0, (2.0,), kept(text, 3, 0))]
    (found,) = train(recipe.replace(views="3"), own, INPUTS, LogitDistillation())
    for name, values in asked.state.items():
        torch.testing.assert_close(found.state[name], values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("text", ["crop=2", "crop=2 mixup=1"])
@pytest.mark.parametrize("views", ["2", "live"])
def test_a_shuffled_source_gives_the_outputs_for_the_same_view_of_the_other_image(text, views):
    text = Augment().read(text)
    recipe = Recipe(parse_architecture(NETS[0]), 2, 16, 1e-2, augment=text, views=views)
    method = Shuffled(method=LogitDistillation())
    rows = method.rows(IMAGES.labels, named_generator("rows", "student", 0))
    (found,) = train(recipe, [Group(0, (2.0,), Asked(source) if views == "live" else kept(text, 2, 0))], INPUTS, method)
    outputs = kept(text, 2, 0)
    moved = KeptViews(outputs.logits[:, rows], outputs.key)
    (other,) = train(recipe.replace(views="2"), [Group(0, (2.0,), moved)], INPUTS, LogitDistillation())
    for name, values in other.state.items():
        torch.testing.assert_close(found.state[name], values, rtol=1e-4, atol=1e-5)


PLAIN, CROPS, MIXED = Kept(source(IMAGES.pixels)), Augment().read("crop=2"), Augment().read("crop=2 mixup=1")


@pytest.mark.parametrize(
    ("augment", "given"),
    [
        (CROPS, PLAIN),
        (CROPS, kept(CROPS, 3, 0)),
        (CROPS, kept(CROPS, 2, 1)),
        (CROPS, kept("crop=3", 2, 0)),
        (MIXED, PLAIN),
        (MIXED, kept(CROPS, 2, 0)),
        (MIXED, kept("crop=2 mixup=0.5", 2, 0)),
        ("none", kept(CROPS, 2, 0)),
        ("none", Asked(source)),
    ],
    ids=[
        "the images",
        "more views",
        "another replicate",
        "other views",
        "unmixed images",
        "unmixed",
        "other shares",
        "views of plain images",
        "asked",
    ],
)
def test_outputs_of_another_view_are_refused(augment, given):
    recipe = Recipe(parse_architecture(NETS[0]), 2, 16, 1e-2, augment=augment, views="2")
    with pytest.raises(ValueError, match=r"^the source's outputs are "):
        list(train(recipe, [Group(0, (2.0,), given)], INPUTS, LogitDistillation()))


def test_hard_labels_see_the_views_that_distilled_students_see():
    recipe = Recipe(parse_architecture(NETS[0]), 2, 16, 1e-2, augment=CROPS, views="2")
    given = [[Group(0, temperatures, kept(CROPS, 2, 0))] for temperatures in ((0.0,), (0.0, 2.0))]
    alone, beside = (next(train(recipe, groups, INPUTS, LogitDistillation())) for groups in given)
    for name, values in alone.state.items():
        torch.testing.assert_close(beside.state[name], values, rtol=1e-4, atol=1e-5)
    plain = replace(recipe, augment="none")
    (other,) = train(plain, [Group(0, (0.0,))], INPUTS, LogitDistillation())
    assert not torch.equal(other.state["net.1.weight"], alone.state["net.1.weight"])
