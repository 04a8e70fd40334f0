"""A fleet of M equals M single trainings, written here as the plainest loop there is."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from benchmarks.passes import train
from kdops.config.architectures import parse_architecture
from kdops.config.recipes import Recipe
from kdops.distillation.logits import LogitDistillation
from kdops.distillation.sources import Kept
from kdops.errors import DivergenceError
from kdops.models.classifier import build, digest_of, pixel_statistics
from kdops.sweeps.model import COPY_SEEDS
from kdops.training.evaluation import compute_logits
from kdops.training.feeds import Feed
from kdops.training.groups import label_loss
from kdops.training.trainer import Group, Images, PassInputs, cut_passes
from kdops.utils.random import named_generator
from tests.toys import quarters

CLASSES = 4
MLP = Recipe(parse_architecture("mlp(hidden=6,depth=2)"), epochs=3, batch_size=16, learning_rate=1e-2)
TREE = Recipe(parse_architecture("tree(depth=3)"), epochs=2, batch_size=16, learning_rate=1e-2)
CNN = Recipe(parse_architecture("cnn(filters=4,layers=2,dropout=0.2/0.3)"), epochs=2, batch_size=16, learning_rate=1e-2)


IMAGES, VALIDATION = quarters(70, 0, 6), quarters(30, 1, 6)
STATISTICS = pixel_statistics(IMAGES.pixels)
INPUTS = PassInputs("student", IMAGES, VALIDATION, CLASSES, STATISTICS)
SOURCE = {seed: 3 * torch.randn(70, CLASSES, generator=named_generator("source", seed)) for seed in (0, 1)}


def name_of(value):
    """The text of a recipe's architecture, as the name of a test."""
    return str(value.architecture) if isinstance(value, Recipe) else None


def run(recipe, groups, loss=None, images=IMAGES, role="student"):
    return list(train(recipe, groups, replace(INPUTS, role=role, images=images), loss or LogitDistillation()))


def plain_loop(recipe, seed, temperature, source, alpha, t_squared, own_order=False):
    """Train one network with nothing shared: its own optimizer, schedule, batches and loss written out."""
    words = ("student", seed, f"{temperature:g}")
    net = build(recipe.architecture, (1, 6, 6), CLASSES, *STATISTICS, named_generator("init", *words))
    net = net.to(memory_format=torch.channels_last)
    for number, part in enumerate(p for p in net.modules() if hasattr(p, "stream")):
        part.stream = named_generator("dropout", *words, number)
    steps = recipe.epochs * math.ceil(70 / recipe.batch_size)
    optimizer = torch.optim.AdamW(net.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=recipe.learning_rate, total_steps=steps, cycle_momentum=False
    )
    order = named_generator("order", "student", seed, *((f"{temperature:g}",) if own_order else ()))
    for _ in range(recipe.epochs):
        for rows in torch.randperm(70, generator=order).split(recipe.batch_size):
            # Dropout is drawn in memory order, so the reference keeps images channels-last as training does.
            pixels = IMAGES.pixels[rows].contiguous(memory_format=torch.channels_last)
            z, y = net(pixels), IMAGES.labels[rows]
            if temperature == 0:
                loss = F.cross_entropy(z, y)
            else:
                soft = F.cross_entropy(z / temperature, torch.softmax(source[rows] / temperature, dim=1))
                weight = alpha * (temperature**2 if t_squared else 1)
                loss = weight * soft + (1 - alpha) * F.cross_entropy(z, y)
            optimizer.zero_grad()
            (loss + sum(net.own_terms().values())).sum().backward()
            optimizer.step()
            schedule.step()
    return net


@pytest.mark.parametrize(
    "recipe", [MLP, MLP.replace(architecture=parse_architecture("mlp(hidden=5)")), CNN, TREE], ids=name_of
)
@pytest.mark.parametrize(("alpha", "t_squared"), [(1.0, True), (0.3, False)])
@pytest.mark.parametrize("own_order", [False, True])
def test_a_fleet_equals_single_trainings_schedule_included(recipe, alpha, t_squared, own_order):
    groups = [Group(seed, (0.0, 1.0, 4.0), Kept(SOURCE[seed]), own_order) for seed in (0, 1)]
    fleet = run(recipe, groups, LogitDistillation(alpha, t_squared))
    assert [(one.seed, one.temperature) for one in fleet] == [(s, t) for s in (0, 1) for t in (0.0, 1.0, 4.0)]
    for one in fleet:
        alone = plain_loop(recipe, one.seed, one.temperature, SOURCE[one.seed], alpha, t_squared, own_order)
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(one.state[name], value, rtol=2e-4, atol=2e-5, msg=f"{one.temperature} {name}")


def test_dropout_in_a_dense_fleet_is_each_members_own():
    recipe = MLP.replace(architecture=parse_architecture("mlp(hidden=6,depth=2,dropout=0.4)"))
    fleet = run(recipe, [Group(0, (0.0, 2.0), Kept(SOURCE[0]))])
    for one in fleet:
        alone = plain_loop(recipe, 0, one.temperature, SOURCE[0], 1.0, True)
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(one.state[name], value, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("recipe", [MLP, CNN, TREE], ids=name_of)
def test_a_replicate_is_the_same_to_the_bit_whichever_others_are_trained(recipe):
    alone = run(recipe, [Group(1, (1.0, 4.0), Kept(SOURCE[1]))])
    together = run(recipe, [Group(seed, (1.0, 4.0), Kept(SOURCE[seed])) for seed in (0, 1)])[2:]
    assert [digest_of(one.state) for one in alone] == [digest_of(one.state) for one in together]
    assert [one.train_loss for one in alone] == [one.train_loss for one in together]


def test_a_pass_is_a_replicate_with_its_copies_or_a_network_that_cannot_be_stacked():
    groups = [Group(seed, (0.0, 4.0)) for seed in (1, 0, COPY_SEEDS, COPY_SEEDS + 1)]
    replicates = [[group.seed for group in part] for part in cut_passes(groups, True, 1)]
    assert replicates == [[1, COPY_SEEDS + 1], [0, COPY_SEEDS]]
    alone = [[(one.seed, *one.temperatures) for one in part] for part in cut_passes(groups[:2], False, 1)]
    assert alone == [[(1, 0.0)], [(1, 4.0)], [(0, 0.0)], [(0, 4.0)]]
    # Hard labels have other phases than a method of two.
    kinds = [[(one.seed, *one.temperatures) for one in part] for part in cut_passes(groups[:2], False, 8)]
    assert kinds == [[(1, 0.0), (0, 0.0)], [(1, 4.0), (0, 4.0)]]


@pytest.mark.parametrize("recipe", [MLP, CNN, TREE], ids=name_of)
def test_the_same_inputs_give_the_same_bits_and_leave_the_global_stream_alone(recipe):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = run(recipe, [Group(0, (0.0, 3.0), Kept(SOURCE[0]))])
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)
    second = run(recipe, [Group(0, (0.0, 3.0), Kept(SOURCE[0]))])
    assert [digest_of(one.state) for one in first] == [digest_of(one.state) for one in second]


def test_members_differ_in_their_initialization():
    recipe = MLP.replace(epochs=1, learning_rate=1e-12)
    members = run(recipe, [Group(seed, (0.0, 1.0, 2.0), Kept(SOURCE[seed])) for seed in (0, 1)])
    assert len({digest_of(one.state) for one in members}) == 6
    weights = torch.stack([one.state["net.1.weight"] for one in members]).flatten(1)
    assert (torch.corrcoef(weights) - torch.eye(6)).abs().max() < 0.5


@pytest.mark.parametrize("own", [False, True])
def test_batches_are_shared_within_a_seed_unless_they_are_own_and_never_across_seeds(own):
    seen = []

    class Recording(LogitDistillation):
        def terms(self, step, modules):
            seen.append(step.labels.clone())
            return super().terms(step, modules)

    run(MLP, [Group(seed, (1.0, 4.0), Kept(SOURCE[seed]), own) for seed in (0, 1)], Recording())
    steps = len(seen) // 2
    # Two members of seed 0, then two of seed 1.
    (a, b), (c, d) = (torch.cat(seen[place : place + steps], dim=1) for place in (0, steps))
    assert torch.equal(a, b) is torch.equal(c, d) is (not own)
    assert not torch.equal(a, c)
    assert not torch.equal(b, d)
    # Whatever the order, every epoch shows every image once.
    for labels in (a, b, c, d):
        for epoch in labels.split(70):
            assert torch.equal(epoch.sort().values, IMAGES.labels.sort().values)


@pytest.mark.parametrize("recipe", [MLP, CNN, TREE], ids=name_of)
def test_hard_labels_ignore_the_source_and_alpha(recipe):
    without = run(recipe, [Group(0, (0.0,))])
    with_source = run(recipe, [Group(0, (0.0,), Kept(SOURCE[0]))], LogitDistillation(alpha=0.5))
    assert digest_of(without[0].state) == digest_of(with_source[0].state)
    # Beside a distilled one too, whatever that learns and from which source.
    beside = [run(recipe, [Group(0, (0.0, 2.0), Kept(SOURCE[s]))], LogitDistillation(1 - s / 2)) for s in (0, 1)]
    assert len({digest_of(own[0].state) for own in beside}) == 1
    assert len({digest_of(own[1].state) for own in beside}) == 2


OTHER_LABELS = {seed: torch.randint(0, CLASSES, (70,), generator=named_generator("labels", seed)) for seed in (0, 1)}


def weights(trained):
    return {(one.seed, one.temperature): digest_of(one.state) for one in trained}


WEIGHTED = MLP.replace(class_weights="balanced")


@pytest.mark.parametrize("recipe", [MLP, CNN, WEIGHTED], ids=["mlp", "cnn", "weighted"])
def test_other_labels_of_a_group_are_those_of_other_images(recipe):
    labeled = Images(IMAGES.pixels, OTHER_LABELS[0])
    given = run(recipe, [Group(0, (0.0, 2.0), Kept(SOURCE[0]), labels=OTHER_LABELS[0])], LogitDistillation(0.6))
    other = run(recipe, [Group(0, (0.0, 2.0), Kept(SOURCE[0]))], LogitDistillation(0.6), images=labeled)
    assert weights(given) == weights(other)
    assert [one.train_loss for one in given] == [one.train_loss for one in other]
    # Validation has its own labels all the same.
    assert [one.val_accuracy for one in given] == [one.val_accuracy for one in other]
    assert weights(given) != weights(run(recipe, [Group(0, (0.0, 2.0), Kept(SOURCE[0]))], LogitDistillation(0.6)))


def test_balanced_classes_weigh_alike_among_the_labels_that_a_member_learns():
    group = Group(0, (0.0,), Kept(SOURCE[0]), labels=OTHER_LABELS[0].clamp_max(2), bootstrap=True)
    feed = Feed("student", group, LogitDistillation(), IMAGES.labels, has_source=False)
    passed = feed.labels[feed.shuffled(70)]
    assert torch.equal(passed.sort().values, feed.learned.sort().values)
    plain = Feed("student", Group(0, (0.0,)), LogitDistillation(), IMAGES.labels, has_source=False)
    loss = label_loss([WEIGHTED] * 2, [feed.learned, plain.learned], CLASSES)
    labels = torch.stack([passed, IMAGES.labels])
    for own, each in zip(labels, loss(torch.zeros(2, 70, CLASSES), labels) / math.log(CLASSES), strict=True):
        total = torch.zeros(CLASSES).index_add_(0, own, each)
        there = own.unique()
        torch.testing.assert_close(total[there], torch.full((len(there),), 70 / len(there)))


def test_other_labels_move_hard_labels_alone_where_nothing_else_learns_labels():
    plain = weights(run(MLP, [Group(0, (0.0, 2.0), Kept(SOURCE[0]))]))
    other = weights(run(MLP, [Group(0, (0.0, 2.0), Kept(SOURCE[0]), labels=OTHER_LABELS[0])]))
    assert other[0, 2.0] == plain[0, 2.0]
    assert other[0, 0.0] != plain[0, 0.0]


def test_the_images_own_labels_given_as_others_change_nothing():
    plain = run(MLP, [Group(seed, (0.0, 2.0), Kept(SOURCE[seed])) for seed in (0, 1)])
    given = run(MLP, [Group(seed, (0.0, 2.0), Kept(SOURCE[seed]), labels=IMAGES.labels) for seed in (0, 1)])
    assert weights(given) == weights(plain)


@pytest.mark.parametrize("own_order", [False, True])
@pytest.mark.parametrize("recipe", [MLP, CNN, TREE], ids=name_of)
def test_each_group_learns_its_own_labels(recipe, own_order):
    groups = [Group(seed, (0.0, 2.0), Kept(SOURCE[seed]), own_order, OTHER_LABELS[seed]) for seed in (0, 1)]
    together = weights(run(recipe, groups))
    swapped = [Group(seed, (0.0, 2.0), Kept(SOURCE[seed]), own_order, OTHER_LABELS[1 - seed]) for seed in (0, 1)]
    for seed in (0, 1):
        labels = [OTHER_LABELS[0], None] if seed == 0 else [None, OTHER_LABELS[1]]
        half = weights(run(recipe, [Group(s, (0.0, 2.0), Kept(SOURCE[s]), own_order, labels[s]) for s in (0, 1)]))
        assert {key: half[key] for key in half if key[0] == seed} == {k: together[k] for k in together if k[0] == seed}
        assert half[1 - seed, 0.0] != together[1 - seed, 0.0]
    assert weights(run(recipe, swapped))[0, 0.0] != together[0, 0.0]


def test_the_history_has_every_epoch_and_training_learns():
    recipe = MLP.replace(epochs=30)
    (one,) = run(recipe, [Group(0, (0.0,))])
    assert len(one.train_loss) == len(one.val_accuracy) == 30
    assert one.train_loss[-1] < 0.5 * one.train_loss[0]
    assert one.val_accuracy[-1] > 0.9
    net = build(recipe.architecture, (1, 6, 6), CLASSES, *STATISTICS)
    net.load_state_dict(one.state)
    measured = (compute_logits([net.eval()], VALIDATION.pixels)[0].argmax(1) == VALIDATION.labels).float().mean()
    assert one.val_accuracy[-1] == pytest.approx(measured.item())


@pytest.mark.parametrize("recipe", [MLP, CNN, TREE], ids=name_of)
def test_a_loss_that_stops_being_finite_names_the_member(recipe):
    broken = SOURCE[1].clone()
    broken[3] = math.nan
    groups = [Group(0, (1.0, 2.0), Kept(SOURCE[0])), Group(1, (0.0, 2.0), Kept(broken))]
    with pytest.raises(DivergenceError, match=r"student T=2 seed=1: .* epoch 1; lower learning_rate"):
        run(recipe, groups)


def test_convolutional_members_come_one_by_one_so_that_each_can_be_kept():
    broken = SOURCE[1].clone()
    broken[:] = math.inf
    groups = [Group(0, (1.0,), Kept(SOURCE[0])), Group(1, (1.0,), Kept(broken))]
    arriving = train(CNN, groups, INPUTS, LogitDistillation())
    assert next(arriving).seed == 0
    with pytest.raises(DivergenceError):
        next(arriving)


def test_progress_counts_every_image_of_every_member():
    told = []
    list(
        train(
            MLP,
            [Group(0, (1.0, 2.0), Kept(SOURCE[0]))],
            INPUTS,
            LogitDistillation(),
            progress=lambda done, total: told.append((done, total)),
        )
    )
    assert told[-1] == (2 * 70 * 3, 2 * 70 * 3)
    assert told == sorted(told)


@pytest.mark.parametrize("recipe", [MLP, CNN], ids=name_of)
def test_kept_outputs_carry_no_dropout_and_no_trace_of_training(recipe):
    """What a source gives is computed in ``eval()``: the same each time, and it leaves the source unchanged."""
    architecture = parse_architecture(str(recipe.architecture).replace("dropout=0)", "dropout=0.5)"))
    net = build(architecture, (1, 6, 6), CLASSES, *STATISTICS, named_generator("init", 1))
    for part in (p for p in net.modules() if hasattr(p, "stream")):
        assert part.rate > 0
        part.stream = named_generator("dropout", 1)
    before = digest_of(net.state_dict())
    net.train()
    kept = compute_logits([net], IMAGES.pixels)
    assert not kept.requires_grad
    assert torch.equal(kept, compute_logits([net], IMAGES.pixels))
    torch.testing.assert_close(kept[0], net.eval()(IMAGES.pixels), rtol=1e-5, atol=1e-5)
    net.train()
    assert not torch.allclose(kept[0], net(IMAGES.pixels), atol=1e-3)
    assert digest_of(net.state_dict()) == before
