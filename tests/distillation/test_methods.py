"""Laws of every distillation method: a new line of METHODS inherits them all."""

import itertools
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from benchmarks.passes import train
from kdops.config.architectures import parse_architecture
from kdops.config.composed import Network, alone
from kdops.config.method_kinds import ModifierSpec
from kdops.config.method_specs import ChosenMethod, Inner
from kdops.config.methods import METHODS, parse_method
from kdops.config.options import Choice, Flag, Integer, Real, Several, Text
from kdops.config.recipes import Recipe
from kdops.config.settings import Settings
from kdops.distillation.adapters import merged
from kdops.distillation.method import LabelsOnly, Method, Outputs, Shapes, Step, build_method
from kdops.distillation.objective import Objective
from kdops.distillation.sources import Kept, Live
from kdops.errors import UsageError
from kdops.models.classifier import build, pixel_statistics
from kdops.models.head import head_of
from kdops.models.taps import captured, features_of
from kdops.training.checkpoint import Checkpoints
from kdops.training.separate import SeparateModels
from kdops.training.trainer import Group, PassInputs
from kdops.utils.random import named_generator
from tests.distillation.cases import (
    leaves,
    method_of,
    modules_of,
    outputs,
    reduced,
    some_labels,
    some_rows,
    tensors,
    terms_of,
    values,
)
from tests.toys import quarters

CLASSES, COUNT, EPOCHS = 4, 50, 4
IMAGES, VALIDATION = quarters(COUNT, 0, 4), quarters(30, 1, 4)
INPUTS = PassInputs("student", IMAGES, VALIDATION, CLASSES, pixel_statistics(IMAGES.pixels))

every_method = pytest.mark.parametrize("name", METHODS)
few = settings(max_examples=12, deadline=None)


# The table and the classes


@every_method
def test_the_table_says_what_the_class_is(name):
    spec, method = METHODS[name], method_of(name)
    assert isinstance(method, Method)
    assert method.is_stacked is spec.is_stacked
    assert method.has_modules is spec.has_modules
    assert method.needs.more is parse_method(name).deploys_more
    assert parse_method(name).student_taps == method.needs.student or method.needs.more
    assert parse_method(name).source_taps == method.needs.source or method.needs.more
    assert spec.phases == len(method.phases())
    assert set(method.needs.student) <= {"embedding"} or not spec.is_stacked
    built = {o: build_method(one) if isinstance(one, ChosenMethod) else one for o, one in spec.defaults().items()}
    assert built == {option: getattr(method, option) for option in spec.options}
    assert sum(phase.share for phase in method.phases()) == pytest.approx(1)
    surnames = [word.strip(",") for word in spec.reference.split() if word.strip(",").istitle()]
    assert surnames[0] in type(method).__doc__, "the docstring cites the paper"


@every_method
def test_the_page_of_methods_has_it(name):
    page = Path(__file__).parents[2].joinpath("docs/reference/methods.md").read_text(encoding="utf-8")
    assert f"\n## {name}\n" in page
    assert f"| `{name}` |" in page


def option_values(option):
    if isinstance(option, Real):
        inside = st.floats(option.low, option.high, exclude_min=option.open_low, exclude_max=option.open_high)
        return inside.map(lambda value: value + 0.0)
    if isinstance(option, Integer):
        return st.integers(option.low, option.high)
    if isinstance(option, Inner):
        return st.sampled_from([parse_method(text) for text in ("logits", "dkd(beta=2)", "rkd", "fitnet(at=stage1)")])
    if isinstance(option, Network):
        return st.sampled_from([parse_architecture(text) for text in ("cnn(layers=2)", "mlp(hidden=7)")])
    if isinstance(option, Several):
        return st.lists(option_values(option.one), min_size=option.fewest, max_size=3).map(tuple)
    if isinstance(option, Choice):
        return st.sampled_from(sorted(option.words))
    return st.booleans() if isinstance(option, Flag) else st.sampled_from(["", "stage1", "layer3.0"])


@every_method
@few
@given(st.data())
def test_the_canonical_text_reads_back(name, data):
    spec = METHODS[name]
    chosen = replace(
        parse_method(name), options={o: data.draw(option_values(kind)) for o, kind in spec.options.items()}
    )
    assert parse_method(str(chosen)) == parse_method(chosen.full_text) == chosen
    assert str(parse_method(str(chosen))) == str(chosen)
    assert str(parse_method(name)) == name


@pytest.mark.parametrize(("name", "option"), [(n, o) for n, spec in METHODS.items() for o in spec.options])
def test_the_bounds_of_an_option_refuse(name, option):
    kind = METHODS[name].options[option]
    wrong = (
        "a b"
        if isinstance(getattr(kind, "one", kind), Text)
        else "yes"
        if isinstance(kind, Flag)
        else str(getattr(getattr(kind, "one", kind), "high", 0) + 1)
    )
    with pytest.raises(UsageError, match=rf"^method=.*option {option} must be"):
        parse_method(f"{name}({option}={wrong})")


# The loss


@every_method
def test_only_methods_that_say_so_read_the_label_of_each_image(name):
    method = method_of(name)
    own, source = outputs(method, 1), outputs(method, 2, side="source")

    def read(labels):
        rows = method.rows(labels[0].clamp_min(0), named_generator("rows", "law"))
        found = [terms_of(method, own, source, labels, phase=phase) for phase in phases_of(name)]
        return [rows, *(term for terms in found for key, term in terms.items() if key != "labels")]

    def same(labels):
        return all(torch.equal(a, b) for a, b in zip(read(some_labels()), read(labels), strict=True))

    others = (some_labels() + 1 + some_labels() % 2) % 5
    assert same(others) is not METHODS[name].reads_labels
    if not METHODS[name].reads_labels:
        assert same(torch.full_like(others, 0))


@every_method
def test_equal_outputs_give_no_gradient(name):
    method = method_of(name)
    if not method.vanishes:
        pytest.skip("the method does not promise it")
    own = leaves(outputs(method, 1))
    source = own.map(lambda one: one.detach().clone())
    features = {tap: reduced(method, source.features[tap]) for tap in method.needs.source}
    source = replace(source, features=features)
    terms = terms_of(method, own, source, some_labels())
    total = sum(term.sum() for term_name, term in terms.items() if term_name != "labels")
    for gradient in torch.autograd.grad(total, tensors(own), allow_unused=True):
        assert gradient is None or gradient.abs().max() < 1e-6


def phases_of(name):
    return range(len(method_of(name).phases()))


@pytest.mark.parametrize(("name", "phase"), [(name, phase) for name in METHODS for phase in phases_of(name)])
def test_the_student_gets_a_gradient(name, phase):
    method = method_of(name)
    own, source = leaves(outputs(method, 1)), outputs(method, 2, side="source")
    terms = terms_of(method, own, source, some_labels(), phase=phase)
    sum(term.sum() for term in terms.values()).backward()
    assert any(one.grad is not None and one.grad.abs().max() > 0 for one in tensors(own))
    assert all(term.shape == (2,) for term in terms.values())


@pytest.mark.parametrize(("name", "phase"), [(name, phase) for name in METHODS for phase in phases_of(name)])
def test_members_together_are_each_alone(name, phase):
    method, labels = method_of(name), some_labels(3)
    own, source = leaves(outputs(method, 1, 3)), outputs(method, 2, 3, side="source")
    modules, ts = modules_of(method, 3), (0.7, 4.0, 20.0)
    together = terms_of(method, own, source, labels, ts, phase, modules)
    whole = torch.autograd.grad(sum(t.sum() for t in together.values()), tensors(own), allow_unused=True)
    for m in range(3):
        one = slice(m, m + 1)
        part = own.map(lambda values, one=one: values[one].detach().clone().requires_grad_())
        beside = source.map(lambda values, one=one: values[one])
        alone = terms_of(method, part, beside, labels[one], ts[one], phase, modules[one])
        assert list(alone) == list(together)
        for term in alone:
            torch.testing.assert_close(alone[term], together[term][one])
        gradients = torch.autograd.grad(sum(t.sum() for t in alone.values()), tensors(part), allow_unused=True)
        for mine, all_ in zip(gradients, whole, strict=True):
            assert (mine is None) is (all_ is None)
            if mine is not None:
                torch.testing.assert_close(mine, all_[one])


@pytest.mark.parametrize(("name", "phase"), [(name, phase) for name in METHODS for phase in phases_of(name)])
def test_the_order_of_a_batch_changes_nothing(name, phase):
    method, labels = method_of(name), some_labels()
    own, source = outputs(method, 1), outputs(method, 2, side="source")
    order, modules = torch.randperm(6, generator=named_generator("order")), modules_of(method, 2)
    first = terms_of(method, own, source, labels, phase=phase, modules=modules)
    moved = [one.map(lambda values: values[:, order]) for one in (own, source)]
    second = terms_of(method, *moved, labels[:, order], phase=phase, modules=modules, rows=some_rows()[:, order])
    for term in first:
        torch.testing.assert_close(first[term], second[term])


@pytest.mark.parametrize(("name", "phase"), [(name, phase) for name in METHODS for phase in phases_of(name)])
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(("spread", "of_source"), list(itertools.product([0.0, 1e4], [0.0, 1e4])))
def test_losses_and_gradients_are_finite(name, phase, classes, spread, of_source):
    method, single = method_of(name), torch.float32
    own = leaves(outputs(method, 1, classes=classes, spread=spread, dtype=single))
    source = outputs(method, 2, classes=classes, spread=of_source, side="source", dtype=single)
    modules = [one.float() for one in modules_of(method, 2, classes)]
    terms = terms_of(method, own, source, some_labels(classes=classes), phase=phase, modules=modules)
    assert all(term.isfinite().all() for term in terms.values())
    total = sum(term.sum() for term in terms.values())
    for gradient in torch.autograd.grad(total, tensors(own), allow_unused=True):
        assert gradient is None or gradient.isfinite().all()


@every_method
@pytest.mark.parametrize("broken", [0.0, 3.0, float("nan")])
def test_hard_members_learn_labels_alone_to_the_bit(name, broken):
    method = method_of(name)
    if not method.is_stacked:
        pytest.skip("its hard members are trained in a pass of their own")
    labels, ts = some_labels(), torch.tensor([0.0, 4.0])
    own = leaves(outputs(method, 1, dtype=torch.float32))
    source = outputs(method, 2, side="source", dtype=torch.float32)
    # Whatever the source of a hard member gives, also nothing that is a number.
    source = source.map(lambda one: torch.cat([torch.full_like(one[:1], broken), one[1:]]))
    modules = [one.float() for one in modules_of(method, 2)]
    found = Objective(method, ts, [merged(modules)] if modules else [])(own, labels, source, some_rows())
    plain = leaves(own.map(torch.Tensor.detach))
    expected = Objective(LabelsOnly(), torch.zeros(2))(plain, labels, None)
    assert torch.equal(found[0], expected[0])
    found.sum().backward()
    expected.sum().backward()
    assert torch.equal(own.logits.grad[0], plain.logits.grad[0])
    assert all(one.grad is None or not one.grad[0].any() for one in own.features.values())


@every_method
def test_options_that_differ_by_member_are_each_ones_own(name):
    spec = METHODS[name]
    numbers = {option: kind for option, kind in spec.options.items() if isinstance(kind, Real)}
    first = method_of(name)
    if not first.is_stacked or not numbers:
        pytest.skip("its members are computed one by one")
    second = replace(first, **{o: (k.low + k.default) / 2 for o, k in numbers.items()})
    own, source, labels = outputs(first, 1), outputs(first, 2, side="source"), some_labels()
    stacked = type(first).stacked([first, second], "cpu")
    together = terms_of(stacked, own, source, labels)
    for m, one in enumerate((first, second)):
        alone = terms_of(one, own, source, labels)
        for term in together:
            expected = alone[term][m] if term in alone else torch.zeros(())
            torch.testing.assert_close(together[term][m], expected, check_dtype=False, rtol=1e-5, atol=1e-7)


# Training


def recipe(text="mlp(hidden=6)", epochs=EPOCHS):
    return Recipe(parse_architecture(text), epochs, 16, 1e-2)


SOURCE = "cnn(filters=5,layers=3,dropout=0)"


def network(text=SOURCE, *words):
    return build(parse_architecture(text), (1, 4, 4), CLASSES, *INPUTS.statistics, named_generator("source", *words))


@cache
def source_network():
    return network()


def source_of(method, live=False):
    net = source_network()
    with torch.no_grad():
        logits = 3 * net.eval()(IMAGES.pixels)

    def features(rows):
        found = features_of(net, IMAGES.pixels[rows], method.needs.source)
        return {tap: method.reduced(own) for tap, own in found.items()}

    return Live(logits, features) if live else Kept(logits, features(torch.arange(COUNT)))


def student_for(name):
    """What is trained as the student: with some methods more than it."""
    text = "cnn(filters=4,layers=3,dropout=0.1)" if not METHODS[name].is_stacked else "mlp(hidden=6,dropout=0.1)"
    return str(parse_method(name).deployed(parse_architecture(text), parse_architecture(SOURCE)))


def run(method, text, temperatures=(0.0, 4.0), live=False, **options):
    # Replicates that are not stacked have nothing to do with each other.
    seeds = (0, 1) if method.is_stacked and text.startswith("mlp") else (0,)
    head = head_of(source_network()).state_dict() if method.needs.head else {}
    groups = [Group(seed, temperatures, source_of(method, live), head=head) for seed in seeds]
    return list(train(recipe(text), groups, INPUTS, method, **options))


@cache
def trained(name, text, temperatures=(4.0,)):
    """A training that several laws look at; networks that are not stacked are the same whatever is beside them."""
    if not METHODS[name].is_stacked and 0.0 not in temperatures:
        return [one for one in trained(name, text, (0.0, *temperatures)) if one.temperature]
    return run(method_of(name), text, temperatures)


@every_method
def test_hard_members_of_a_training_are_the_same_whatever_the_method(name):
    text = student_for(name)
    plain = [one for one in trained("logits", text, (0.0, 4.0)) if one.temperature == 0]
    found = [one for one in trained(name, text, (0.0, 4.0)) if one.temperature == 0]
    for mine, other in zip(found, plain, strict=True):
        assert all(torch.equal(mine.state[key], other.state[key]) for key in other.state)
        assert mine.train_loss == other.train_loss


@every_method
def test_the_divergence_from_the_source_is_measured_as_the_student_is_stored(name):
    source = source_of(method_of(name))
    logits = source.logits[method_of(name).rows(IMAGES.labels, named_generator("rows", "student", 0))]
    members = [one for one in trained(name, student_for(name), (0.0, 4.0)) if one.seed == 0]
    hard, soft = sorted(members, key=lambda one: one.temperature)
    net = build(parse_architecture(student_for(name)), (1, 4, 4), CLASSES, *INPUTS.statistics)
    net.load_state_dict(soft.state)
    with torch.no_grad():
        logs = [(one / 4).log_softmax(-1) for one in (net.eval()(IMAGES.pixels), logits)]
    assert hard.train_kl == ()
    assert soft.train_kl[-1] == pytest.approx(F.kl_div(*logs, reduction="batchmean", log_target=True).item(), rel=1e-3)


class CutError(Exception):
    """The training is cut off here."""


def moments_of(name):
    """After which epochs a training is cut off: all, where a method has more than one phase, or the embedding."""
    has_phases = len(method_of(name).phases()) > 1
    return [1, 2, 3] if has_phases or METHODS[name].taps == ("embedding",) else [2]


@pytest.mark.parametrize(("name", "epoch"), [(name, epoch) for name in METHODS for epoch in moments_of(name)])
def test_a_training_that_was_cut_off_gives_what_one_that_never_was_gives(name, epoch, tmp_path, monkeypatch):
    monkeypatch.setattr("kdops.training.checkpoint.FIRST_SECONDS", 0.0)
    monkeypatch.setattr("kdops.training.checkpoint.SHARE", 1e9)
    method, text, ts = method_of(name), student_for(name), (4.0,)
    whole, checkpoints, members = trained(name, text), Checkpoints(tmp_path), 2

    def progress(done, total):
        if done > epoch * COUNT * (members if METHODS[name].is_stacked else 1):
            raise CutError

    def of(number):
        return checkpoints.of(str(number))

    with pytest.raises(CutError):
        run(method, text, ts, progress=progress, checkpoint_of=of)
    assert list(tmp_path.iterdir())
    again = run(method, text, ts, checkpoint_of=of)
    for mine, other in zip(again, whole, strict=True):
        assert all(torch.equal(mine.state[key], other.state[key]) for key in other.state)
        assert mine.train_loss == other.train_loss
        assert mine.train_kl == other.train_kl
        assert repr(mine.terms) == repr(other.terms)


@every_method
def test_each_term_is_a_metric_of_every_epoch_and_they_sum_to_the_loss(name):
    for one in trained(name, student_for(name)):
        assert all(len(values) == EPOCHS for values in one.terms.values())
        assert one.history["train_loss"] == one.train_loss
        for epoch in range(EPOCHS) if one.terms else ():
            here = [values[epoch] for values in one.terms.values() if values[epoch] == values[epoch]]
            assert sum(here) == pytest.approx(one.train_loss[epoch], rel=1e-4)
        assert len(one.train_kl) == EPOCHS
        assert set(one.history) - {"train_loss", "train_kl", "val_accuracy"} == {f"loss_{term}" for term in one.terms}


@every_method
def test_what_is_trained_beside_a_student_is_counted(name):
    method, source = method_of(name), source_of(method_of(name))
    net = network(student_for(name))
    features = features_of(net, IMAGES.pixels[:1], method.needs.student)
    student = Shapes(CLASSES, {tap: tuple(own.shape[1:]) for tap, own in features.items()})
    own = method.modules(student, source.shapes) if method.has_modules else torch.nn.Module()
    method.prepare(own, source, IMAGES.labels)
    kept = [*own.parameters(), *own.buffers()]
    for one in trained(name, student_for(name)):
        assert one.beside == sum(values.numel() for values in own.parameters())
        assert one.beside_bytes == sum(values.nbytes for values in kept)


@every_method
def test_what_is_stored_is_the_students_own(name):
    for one in trained(name, student_for(name)):
        net = build(parse_architecture(student_for(name)), (1, 4, 4), CLASSES, *INPUTS.statistics)
        net.load_state_dict(one.state)


@every_method
def test_a_live_source_teaches_what_a_kept_one_teaches_and_gets_no_gradient(name):
    method, text = method_of(name), student_for(name)
    if not method.needs.source:
        pytest.skip("it has no features")
    for mine, other in zip(run(method, text, (4.0,), live=True), trained(name, text), strict=True):
        assert mine.train_loss == pytest.approx(other.train_loss, rel=1e-3)
    assert all(own.requires_grad and own.grad is None for own in source_network().parameters())


@every_method
def test_a_network_without_the_tap_is_refused_with_those_it_has(name):
    method = method_of(name)
    if method.needs.more:
        pytest.skip("what it trains has all taps; which students it refuses stands below")
    if not method.needs.student:
        pytest.skip("it needs logits alone")
    if METHODS[name].taps == ("embedding",):
        pytest.skip("every network of kdops has an embedding")
    with pytest.raises(UsageError, match=r"has no such tap; it has embedding$"):
        run(method, "mlp(hidden=6)", (4.0,))
    told = rf"^method={name}: the student mlp\(.*\) has no tap stage[12](\.before)?; it has embedding$"
    with pytest.raises(UsageError, match=told):
        Settings.parse("students", method=name)


@every_method
def test_a_measuring_pass_leaves_no_features_behind(name):
    method = method_of(name)
    net = network(student_for(name))
    engine = SeparateModels([[net]], taps=method.needs.student)
    before = engine.outputs([IMAGES.pixels])
    assert set(before.features) == set(method.needs.student)
    engine.training = False
    engine.logits([IMAGES.pixels])
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())
    with captured(net, ()) as found:
        net(IMAGES.pixels)
    assert found == {}


def test_fitnet_learns_the_layer_first_and_drops_the_regressor():
    method = method_of("fitnet")
    shapes = Shapes(5, {"stage2": (5, 4, 4)}), Shapes(5, {"stage2": (7, 2, 2)})
    regressor = method.modules(*shapes)
    assert regressor(torch.zeros(3, 5, 4, 4)).shape == (3, 7, 2, 2)
    step = Step(
        Outputs(values(1, 1, 3, 5).float(), {"stage2": values(2, 1, 3, 5, 4, 4).float()}),
        Outputs(values(3, 1, 3, 5).float(), {"stage2": values(4, 1, 3, 7, 2, 2).float()}),
        some_labels(1, 3),
        torch.ones(1, 1, 1),
        torch.zeros(()),
        "hint",
    )
    expected = 0.5 * F.mse_loss(regressor(step.student.features["stage2"][0]), step.source.features["stage2"][0])
    torch.testing.assert_close(method.terms(step, regressor), {"hint": expected.view(1)})
    with pytest.raises(UsageError, match=r"the student's values are 7x2x2, the source's 5x4x4"):
        method.modules(Shapes(5, {"stage2": (7, 2, 2)}), Shapes(5, {"stage2": (5, 4, 4)}))
    one = run(method, student_for("fitnet"), (4.0,))[0]
    hint, soft = one.terms["hint"], one.terms["soft"]
    assert [value == value for value in hint] == [True, False, False, False]
    assert [value == value for value in soft] == [False, True, True, True]


def test_memories_of_all_students_are_counted_before_one_is_made(monkeypatch):
    one, free = 2 * 8 * COUNT * 32, 10**6
    monkeypatch.setattr("kdops.distillation.crd.psutil.virtual_memory", lambda: SimpleNamespace(available=free))
    monkeypatch.setattr("kdops.distillation.crd.MEMORY_SHARE", 1.5 * one / free)
    assert len(run(method_of("crd"), "cnn(filters=4,layers=1,dropout=0)", (4.0,))) == 1
    with pytest.raises(
        UsageError, match=rf"^method=crd\(dim=32\): the memories of [24] students for {COUNT} images take "
    ):
        run(method_of("crd"), "mlp(hidden=6)", (2.0, 4.0))


def test_a_method_with_more_phases_than_epochs_is_refused():
    method = method_of("fitnet")
    with pytest.raises(UsageError, match=r"^epochs=1: must be at least 2: the method has the phases hint and task$"):
        list(train(recipe(student_for("fitnet"), 1), [Group(0, (4.0,), source_of(method))], INPUTS, method))


# Modifiers


def nested(inner):
    assistant = st.sampled_from(["", ",assistant=cnn(filters=3)"])
    within = st.sampled_from(["", ",within=all"])
    changed = (
        st.tuples(st.just("standardize("), inner, st.just(")")),
        st.tuples(st.just("shuffled("), inner, within, st.just(")")),
        st.tuples(st.just("pair("), inner, assistant, st.just(")")),
    )
    return st.one_of(*changed).map("".join)


@settings(max_examples=60, deadline=None)
@given(st.recursive(st.sampled_from(["standardize", "shuffled", "logits", "residual(assistant=cnn)"]), nested))
def test_what_is_accepted_reads_back_however_deep(text):
    try:
        chosen = parse_method(text)
    except UsageError as error:
        assert "at most 4 modifiers" in str(error)  # noqa: PT017
        assert len(text.split("(")) > 4
    else:
        assert parse_method(chosen.full_text) == parse_method(str(chosen)) == chosen


@every_method
def test_standardize_takes_the_methods_that_it_changes(name):
    text = {"fsp": "fsp(alpha=0.5)", "fitnet": "fitnet(alpha=0.5)"}.get(name, name)
    if METHODS[name].deploys is not alone or isinstance(METHODS[name], ModifierSpec):
        pytest.skip("it is none of its own")
    method, labels = method_of(text), some_labels()
    own, source, modules = outputs(method, 1), outputs(method, 2, side="source"), modules_of(method, 2)
    last = len(method.phases()) - 1
    plain, changed = (
        sum(terms_of(one, own, source, labels, phase=last, modules=modules).values())
        for one in (method, method_of(f"standardize({text})"))
    )
    assert METHODS[name].compares_logits is not torch.equal(plain, changed)
    if METHODS[name].compares_logits:
        parse_method(f"standardize({text})").check_recipe(recipe("cnn(layers=2)"), "student")
    else:
        with pytest.raises(UsageError, match=rf"{name} compares no logits, .* methods that do are logits, dkd, "):
            parse_method(f"standardize({text})").check_recipe(recipe("cnn(layers=2)"), "student")


@pytest.mark.parametrize("text", ["standardize(dkd(beta=2))", "shuffled(standardize(logits(alpha=0.5)),within=all)"])
def test_modifiers_stand_around_a_method(text):
    chosen = parse_method(text.replace("(", " ( ").replace(",", " , "))
    assert str(chosen) == text
    assert parse_method(chosen.full_text) == chosen
    assert chosen.parts[-1].full_text in chosen.full_text
    assert str(parse_method(chosen.full_text)) == text
    named = text.replace("shuffled(", "shuffled(method=").replace("standardize(", "standardize(method=")
    assert parse_method(named) == chosen


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("standardize(dkd", r"must be a name, or name\(option=value"),
        ("standardize(dkd))", r"must be a name, or name\(option=value"),
        ("standardize(kd)", r"option method must be a method, .*method=kd: must be one of logits"),
        ("standardize(dkd(beta=-1))", r"option method must be a method, .*the option beta must be a number"),
        ("dkd(logits)", r"the option logits needs a value"),
        ("standardize(dkd,method=logits)", r"the option method is given twice"),
        ("standardize(" * 9 + "logits" + ")" * 9, r"at most 4 modifiers"),
    ],
)
def test_a_modifier_of_no_method_is_a_mistake(text, told):
    with pytest.raises(UsageError, match=told):
        parse_method(text)


def test_a_modifier_has_what_its_method_has():
    for text in ("shuffled(fitnet(share=0.5))", "standardize(rkd)", "shuffled(logits(alpha=0.25))"):
        chosen = parse_method(text)
        outer, inner = build_method(chosen), build_method(chosen.parts[-1])
        for name in ("needs", "is_stacked"):
            assert getattr(outer, name) == getattr(inner, name)
        assert (outer.phases(), outer.label_weight()) == (inner.phases(), inner.label_weight())
        assert chosen.is_stacked is inner.is_stacked
        assert chosen.student_taps == inner.needs.student
        assert chosen.soft_weight == chosen.parts[-1].soft_weight


@few
@given(st.integers(0, 1000), st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_a_shuffled_image_gets_what_another_one_gave(seed, classes):
    labels = torch.tensor(classes)
    for within, kinds in (("class", labels), ("all", torch.zeros_like(labels))):
        method = build_method(parse_method(f"shuffled(within={within})"))
        rows = method.rows(labels, named_generator("rows", seed))
        assert torch.equal(rows.sort().values, torch.arange(len(labels)))
        assert torch.equal(kinds[rows], kinds)
        is_alone = torch.bincount(kinds)[kinds] == 1
        assert torch.equal(rows == torch.arange(len(labels)), is_alone)
        assert torch.equal(rows, method.rows(labels, named_generator("rows", seed)))


def test_a_shuffled_source_trains_as_one_that_gave_these_outputs():
    method, text = method_of("shuffled(within=all)"), student_for("logits")
    rows, source = method.rows(IMAGES.labels, named_generator("rows", "student", 0)), source_of(method)
    (found,) = train(recipe(text), [Group(0, (4.0,), source)], INPUTS, method)
    (other,) = train(recipe(text), [Group(0, (4.0,), Kept(source.logits[rows]))], INPUTS, method_of("logits"))
    assert all(torch.equal(found.state[key], other.state[key]) for key in other.state)


# The parameters


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"method": "logits"}, "logits"),
        ({"alpha": "0.5"}, "logits(alpha=0.5)"),
        ({"method": "logits(alpha=0.5)", "t_squared": "false"}, "logits(alpha=0.5,t_squared=false)"),
        ({"method": "logits(alpha=0.5)", "alpha": "0.5"}, "logits(alpha=0.5)"),
        ({"method": "dkd( beta = 2 )"}, "dkd(beta=2)"),
    ],
)
def test_alpha_and_t_squared_are_shorthand_of_logits(given, told):
    assert str(Settings.parse("students", **given).method) == told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"method": "dkd", "alpha": "0.5"}, r"^alpha=0.5: is an option of logits; leave it out with method=dkd$"),
        ({"method": "rkd", "t_squared": "false"}, r"^t_squared=false: is an option of logits; .*method=rkd$"),
        ({"method": "logits(alpha=0.2)", "alpha": "0.5"}, r"^alpha=0.5: method=logits\(alpha=0.2\) has another value"),
        ({"method": "kd"}, r"^method=kd: must be one of logits\(.*dkd\(.*rkd\(.*fitnet\("),
    ],
)
def test_a_shorthand_with_another_method_is_a_mistake(given, told):
    with pytest.raises(UsageError, match=told):
        Settings.parse("students", **given)
