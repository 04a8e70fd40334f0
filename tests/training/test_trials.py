"""A trial trained among others gives what it gives alone, whatever becomes of the others."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from benchmarks.passes import train
from kdops.config.architectures import parse_architecture
from kdops.config.methods import METHODS, parse_method
from kdops.config.recipe_settings import SETTINGS
from kdops.config.recipes import Recipe
from kdops.data.views import Views
from kdops.distillation.logits import LogitDistillation
from kdops.distillation.method import build_method
from kdops.distillation.sources import Kept, KeptViews
from kdops.models.classifier import build, digest_of, pixel_statistics
from kdops.training.feeds import asked_of
from kdops.training.trainer import Group, PassInputs
from kdops.training.trials import ALIKE, TrialPlan, train_trials, trial_passes
from kdops.utils.random import named_generator
from tests.toys import quarters

CLASSES, COUNT, EPOCHS = 4, 50, 3
few = settings(max_examples=8, deadline=None)


IMAGES, VALIDATION = quarters(COUNT, 0, 4), quarters(30, 1, 4)
INPUTS = PassInputs("student", IMAGES, VALIDATION, CLASSES, pixel_statistics(IMAGES.pixels))
SOURCE = 3 * torch.randn(COUNT, CLASSES, generator=named_generator("source"))


def plan(hidden=6, depth=1, batch_size=16, rate=1e-2, temperature=2.0, alpha=0.5, t_squared=True, **others):
    dropout, epochs, decay = others.get("dropout", 0), others.get("epochs", EPOCHS), others.get("decay", 0.01)
    architecture = parse_architecture(f"mlp(hidden={hidden},depth={depth},dropout={dropout})")
    return TrialPlan(
        Recipe(architecture, epochs, batch_size, rate, decay), temperature, LogitDistillation(alpha, t_squared)
    )


MIXED = [
    plan(6, 1, 16, 1e-2, 2.0, 0.5, True),
    plan(9, 3, 16, 3e-2, 9.0, 1.0, False),
    plan(1, 2, 16, 1e-3, 1.0, 0.0, True),
    plan(5, 2, 23, 1e-2, 4.0, 0.7, True),
    plan(2, 1, 23, 2e-2, 0.5, 0.2, False),
    plan(7, 2, 16, 1e-2, 3.0, 0.9, True),
]


def run(plans, seed=0, images=IMAGES, **options):
    sources = [Kept(SOURCE)] * len(plans)
    told = list(train_trials(plans, seed, sources, replace(INPUTS, images=images), **options))
    assert sorted(one.number for one in told) == list(range(len(plans)))
    return {one.number: one for one in told}


def trained_alone(one, seed=0):
    (alone,) = train(one.recipe, [Group(seed, (one.temperature,), Kept(SOURCE))], INPUTS, one.method)
    return alone


def assert_equals_alone(result, one, seed=0):
    alone = trained_alone(one, seed)
    assert result.ended == "complete"
    assert list(result.state) == list(alone.state)
    # AdamW divides a gradient by its size: the last bits of one near zero are worth a part of a step.
    part = max(2e-5, 5e-3 * one.recipe.learning_rate)
    for name, value in alone.state.items():
        torch.testing.assert_close(result.state[name], value, rtol=2e-4, atol=part)
    assert result.train_loss == pytest.approx(alone.train_loss, rel=2e-4, abs=2e-5)
    assert result.val_accuracy == alone.val_accuracy


any_plan = st.builds(
    plan,
    hidden=st.integers(1, 9),
    depth=st.integers(1, 3),
    # 50 images: whole batches, a partial last one, one of a single image, and one batch larger than all of them.
    batch_size=st.sampled_from([10, 16, 49, 64]),
    rate=st.sampled_from([1e-3, 1e-2, 3e-2]),
    temperature=st.sampled_from([0.5, 1.0, 2.5, 20.0]),
    alpha=st.sampled_from([0.0, 0.3, 1.0]),
    t_squared=st.booleans(),
    dropout=st.sampled_from(["0", "0", "0.4"]),
    decay=st.sampled_from([0.0, 0.01, 0.3]),
)


@few
@given(st.lists(any_plan, min_size=1, max_size=6), st.integers(0, 3))
@example(MIXED, 0)
@example([plan(5, 2, dropout=0.5), plan(9, 3), plan(4, 1, dropout=0.2, temperature=7.0)], 1)
def test_a_trial_equals_its_training_alone(plans, seed):
    for number, result in run(plans, seed).items():
        assert_equals_alone(result, plans[number], seed)


def test_the_measures_are_those_of_the_weights_that_come_out():
    for number, result in run(MIXED).items():
        net = build(MIXED[number].recipe.architecture, (1, 4, 4), CLASSES, *INPUTS.statistics)
        net.load_state_dict(result.state)
        with torch.no_grad():
            logits = net.eval()(VALIDATION.pixels)
        assert len(result.train_loss) == EPOCHS
        assert result.val_accuracy[-1] == pytest.approx((logits.argmax(1) == VALIDATION.labels).float().mean().item())
        assert result.history["val_nll"][-1] == pytest.approx(
            F.cross_entropy(logits, VALIDATION.labels).item(), rel=1e-5
        )
        assert result.seconds > 0


def test_training_learns():
    (result,) = run([plan(epochs=30, alpha=0.0, rate=3e-2)]).values()
    assert result.train_loss[-1] < 0.5 * result.train_loss[0]
    assert result.history["val_nll"][-1] < 0.5 * result.history["val_nll"][0]
    assert result.val_accuracy[-1] > 0.9


def test_the_same_inputs_give_the_same_bits_and_leave_the_global_stream_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = run(MIXED)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)
    second = run(MIXED)
    for number, result in first.items():
        assert digest_of(result.state) == digest_of(second[number].state)
        assert result.history == second[number].history


@pytest.mark.parametrize("plans", [MIXED, [plan(23, 2, 49, temperature=1.0 + n) for n in range(7)]], ids=len)
def test_the_order_of_the_plans_changes_no_bit(plans):
    # 49 leaves a last batch of one image, whose product is a matrix by a vector: there a row's place does matter.
    first, places = run(plans), sorted(range(len(plans)), key=lambda number: number * 5 % 7)
    for place, result in run([plans[number] for number in places]).items():
        assert digest_of(result.state) == digest_of(first[places[place]].state)
        assert result.history == first[places[place]].history


def test_batch_sizes_are_trained_one_after_another_and_told_as_they_end():
    sources = [Kept(SOURCE)] * len(MIXED)
    told = train_trials(MIXED, 0, sources, INPUTS)
    assert [one.number for one in told] == [0, 1, 2, 5, 3, 4]


@pytest.mark.parametrize("dropped", [{1}, {0, 2}, {3, 4}, {0, 1, 2, 5}, set(range(6))], ids=str)
def test_what_is_dropped_changes_nothing_for_the_others(dropped):
    """The others' weights, losses and measures, whatever padding and moments had to move."""
    asked = []

    def after(epochs, epoch):
        asked.append((epoch, sorted(epochs)))
        assert all(0 <= one["val_accuracy"] <= 1 and math.isfinite(one["val_nll"]) for one in epochs.values())
        return [number for number in dropped if epoch == 1]

    results = run(MIXED, after_epoch=after)
    for number, result in results.items():
        if number in dropped:
            assert (result.ended, result.state, len(result.train_loss)) == ("pruned", {}, 1)
            assert result.train_loss[0] == pytest.approx(trained_alone(MIXED[number]).train_loss[0], rel=2e-4)
        else:
            assert_equals_alone(result, MIXED[number])
    expected = []
    for together in ({0, 1, 2, 5}, {3, 4}):
        expected += [(epoch, sorted(together if epoch == 1 else together - dropped)) for epoch in (1, 2, 3)]
    assert asked == [one for one in expected if one[1]]


def test_who_is_padded_further_once_the_widest_is_gone_goes_on_unharmed():
    # Beside 40 a net of 20 is padded no further, beside 27 alone it is: its moments move into more padding.
    plans = [plan(hidden=hidden, depth=depth) for hidden, depth in ((40, 1), (27, 2), (19, 3), (15, 2), (9, 3))]
    results = run(plans, after_epoch=lambda epochs, epoch: [0] if epoch == 1 else [])
    for number in (1, 2, 3, 4):
        assert_equals_alone(results[number], plans[number])


def test_a_pruned_trial_is_told_at_once():
    seen = []
    sources = [Kept(SOURCE)] * len(MIXED)
    arriving = train_trials(MIXED, 0, sources, INPUTS, after_epoch=lambda epochs, epoch: seen.append(epoch) or {2})
    assert next(arriving).number == 2
    assert seen == [1]


def test_after_the_last_epoch_nothing_is_pruned():
    results = run(MIXED, after_epoch=lambda epochs, epoch: set(epochs) if epoch == EPOCHS else ())
    assert {result.ended for result in results.values()} == {"complete"}
    assert all(result.state for result in results.values())


@pytest.mark.parametrize("last", [False, True])
def test_a_trial_that_diverges_is_dropped_and_harms_no_other(last):
    # One step is enough; in a single step in all it shows in what is measured after the epoch.
    wild = plan(8, 3, 16, rate=1e30, epochs=1 if last else EPOCHS)
    plans = [plan(6, 1, epochs=wild.recipe.epochs), wild, plan(9, 3, epochs=wild.recipe.epochs, alpha=1.0)]
    asked = []
    results = run(plans, after_epoch=lambda epochs, epoch: asked.append(sorted(epochs)) or ())
    assert (results[1].ended, results[1].state, len(results[1].train_loss)) == ("diverged", {}, 1)
    assert not math.isfinite(results[1].train_loss[0] + results[1].history["val_nll"][0])
    for number in (0, 2):
        assert_equals_alone(results[number], plans[number])
    assert asked == [[0, 2]] * wild.recipe.epochs


def test_where_all_diverge_the_next_batch_size_is_trained_all_the_same():
    plans = [plan(8, 3, 16, rate=1e30), plan(5, 2, 23)]
    asked = []
    results = run(plans, after_epoch=lambda epochs, epoch: asked.append(sorted(epochs)) or ())
    assert results[0].ended == "diverged"
    assert_equals_alone(results[1], plans[1])
    assert asked == [[1]] * EPOCHS


def test_a_weight_that_breaks_in_the_very_last_step_is_no_complete_trial():
    """The loss of the last epoch was still finite; what is kept would not be."""
    results = run([plan(8, 3, 64, rate=1e30, epochs=1), plan(8, 3, 64, epochs=1)])
    assert math.isfinite(results[0].train_loss[0])
    assert (results[0].ended, results[1].ended) == ("diverged", "complete")


@pytest.mark.parametrize("dropped", [set(), {0, 3}, set(range(6))], ids=str)
def test_progress_counts_every_image_of_every_trial_and_what_is_left_out(dropped):
    told = []
    run(MIXED, after_epoch=lambda epochs, epoch: dropped, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (len(MIXED) * COUNT * EPOCHS,) * 2
    assert told == sorted(told)
    assert {total for _, total in told} == {told[-1][1]}


def test_seconds_add_up_to_no_more_than_it_took():
    import time

    started = time.perf_counter()
    results = run(MIXED, after_epoch=lambda epochs, epoch: {0})
    assert 0 < sum(result.seconds for result in results.values()) <= time.perf_counter() - started
    assert results[0].seconds < results[1].seconds


def test_no_trials_give_nothing():
    assert run([]) == {}


@pytest.mark.parametrize(
    ("plans", "message"),
    [([plan(epochs=2), plan(epochs=3)], "number of epochs"), ([plan(temperature=0.0)], "above zero")],
)
def test_what_cannot_be_trained_together_is_refused(plans, message):
    with pytest.raises(ValueError, match=message):
        run(plans)


def test_trials_of_all_methods_are_trained_beside_each_other_and_equal_their_training_alone():
    """Methods of logits share a pass whatever their options; one that needs features has a pass of its own."""
    texts = [*METHODS, "fitnet(at=embedding)", "logits(alpha=0.9)", "dkd(beta=2)"]
    chosen = [one for one in map(parse_method, texts) if not one.deploys_more]
    methods = [build_method(one) for one in chosen if set(one.student_taps) <= {"embedding"}]
    plans = [TrialPlan(plan(hidden=4 + n % 3).recipe, 2.0, method) for n, method in enumerate(methods)]
    logits = Kept(SOURCE)
    kept = Kept(SOURCE, {"embedding": torch.randn(COUNT, 3, generator=named_generator("embedding"))})
    sources = [kept if method.needs.source else logits for method in methods]
    results = list(train_trials(plans, 0, sources, INPUTS))
    assert sorted(one.number for one in results) == list(range(len(plans)))
    for one in results:
        own, source = plans[one.number], sources[one.number]
        (alone,) = train(own.recipe, [Group(0, (2.0,), source)], INPUTS, own.method)
        assert one.train_loss == pytest.approx(alone.train_loss, rel=2e-4, abs=2e-5)
        in_own_pass = own.method.needs.student or own.method.has_modules
        assert not in_own_pass or digest_of(one.state) == digest_of(alone.state)


CNNS = [
    replace(plan(temperature=t, alpha=a), recipe=replace(plan().recipe, architecture=parse_architecture(text)))
    for text, t, a in (("cnn(filters=3,layers=2)", 2.0, 0.5), ("cnn(filters=5,layers=1,dropout=0)", 9.0, 1.0))
]


def test_convolutional_trials_have_the_bits_that_they_have_alone_and_may_be_pruned():
    results = run(CNNS)
    for number, result in results.items():
        assert digest_of(result.state) == digest_of(trained_alone(CNNS[number]).state)
    pruned = run(CNNS, after_epoch=lambda epochs, epoch: [1] if epoch == 1 else [])
    assert (pruned[1].ended, len(pruned[1].train_loss)) == ("pruned", 1)
    assert digest_of(pruned[0].state) == digest_of(results[0].state)


@pytest.mark.parametrize(("augment", "views"), [("shift=1", "live"), ("shift=1 mixup=1", "2")])
def test_augmented_trials_equal_their_training_alone_beside_others(augment, views):
    seen = {"augment": augment, "views": views}
    plans = [*MIXED[:3], *(replace(one, recipe=replace(one.recipe, **seen)) for one in (*MIXED, *CNNS))]
    net = build(parse_architecture("mlp(hidden=5)"), (1, 4, 4), CLASSES, *INPUTS.statistics, named_generator("own"))
    net.eval()
    source = asked_of(net)
    if views != "live":
        own = Views(augment, IMAGES.pixels, 0)
        found = []
        for view in range(int(views)):
            own.enter(view)
            found.append(source.compute(own.at(torch.arange(COUNT))))
        source = KeptViews(torch.stack(found), own.key)
    sources = [Kept(SOURCE)] * 3 + [source] * (len(plans) - 3)
    for one in train_trials(plans, 0, sources, INPUTS):
        own = plans[one.number]
        (alone,) = train(own.recipe, [Group(0, (own.temperature,), sources[one.number])], INPUTS, own.method)
        assert one.train_loss == pytest.approx(alone.train_loss, rel=2e-4, abs=2e-5)
        assert own.recipe.architecture.is_dense or digest_of(one.state) == digest_of(alone.state)


def test_settings_that_a_pass_has_for_all_its_members_are_never_mixed():
    """A later setting of recipes is either one of each member's own, or in the list."""
    own = {"epochs", "learning_rate", "weight_decay", "schedule", "label_smoothing", "train_temperature", "init"}
    assert set(SETTINGS) == own | set(ALIKE)
    for name in ALIKE:
        others = {"batch_size": 23, "optimizer": "sgd", "normalize": "unit", "augment": "shift=1", "views": "2"}
        changed = replace(MIXED[0].recipe, **{name: others.get(name, "balanced")})
        plans = [MIXED[0], replace(MIXED[0], recipe=changed)]
        assert len(trial_passes(plans, [Kept(SOURCE)] * 2)) == 2
