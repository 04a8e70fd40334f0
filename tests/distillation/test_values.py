"""Values of the methods, against direct transcriptions of the papers' equations."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from kdops.config.architectures import parse_architecture
from kdops.config.methods import parse_method
from kdops.config.recipes import Recipe
from kdops.distillation.adapters import merged
from kdops.distillation.method import Outputs, Shapes, build_method
from kdops.distillation.objective import Objective
from kdops.distillation.sources import Kept
from kdops.errors import UsageError
from kdops.training.groups import label_loss
from tests.distillation.cases import method_of, outputs, some_labels, terms_of, values

ARCHITECTURE = parse_architecture("mlp")
few = settings(max_examples=12, deadline=None)


@few
@given(st.integers(0, 1000), st.floats(0.5, 10))
def test_dkd_is_its_equations(seed, t):
    method = build_method(parse_method("dkd(alpha=1.5,beta=4,warmup=0)"))
    own, source = outputs(method, seed), outputs(method, seed + 1)
    labels = some_labels()
    found = terms_of(method, own, source, labels, (t, t))
    p, q = ((one.logits / torch.tensor(t)).softmax(-1) for one in (source, own))
    label = F.one_hot(labels, 5).bool()
    pt, qt = (one[label].view(2, 6) for one in (p, q))
    tckd = pt * (pt / qt).log() + (1 - pt) * ((1 - pt) / (1 - qt)).log()
    others = [one[~label].view(2, 6, 4) / (1 - one[label].view(2, 6, 1)) for one in (p, q)]
    nckd = (others[0] * (others[0] / others[1]).log()).sum(-1)
    squared = torch.tensor(t).square().double()
    torch.testing.assert_close(found["tckd"], 1.5 * squared * tckd.mean(1), rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(found["nckd"], 4 * squared * nckd.mean(1), rtol=1e-4, atol=1e-9)
    # Equation (6): plain distillation is their sum, with NCKD weighted by what the source leaves to the others.
    divergence = (p * (p / q).log()).sum(-1)
    torch.testing.assert_close(tckd + (1 - pt) * nckd, divergence)


def test_dkd_warms_up():
    method = build_method(parse_method("dkd(warmup=0.2)"))
    own, source, labels = outputs(method, 1), outputs(method, 2), some_labels()
    objective = Objective(method, torch.tensor([1.0, 4.0]))
    at = [objective.terms(own, labels, source, torch.tensor(share))["nckd"] for share in (0.0, 0.1, 0.2, 0.9)]
    torch.testing.assert_close(at[0], torch.zeros(2, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(at[1], at[2] / 2, rtol=1e-6, atol=0)
    assert torch.equal(at[2], at[3])


def huber(a, b):
    return F.smooth_l1_loss(a, b, reduction="mean")


def relations(points):
    """Distances by their mean, and cosines of all angles, as Park et al. define them, one at a time."""
    count = len(points)
    gaps = torch.stack([torch.stack([(a - b).norm() for b in points]) for a in points])
    angles = torch.zeros(count, count, count, dtype=points.dtype)
    for i, j, k in itertools.product(range(count), repeat=3):
        if j not in (i, k):
            e, f = points[i] - points[j], points[k] - points[j]
            angles[j, i, k] = (e / e.norm()) @ (f / f.norm())
    return gaps / (gaps.sum() / (count * (count - 1))), angles


@few
@given(st.integers(0, 1000), st.integers(1, 5))
def test_rkd_is_its_equations(seed, dimensions):
    method = build_method(parse_method("rkd(distance=3,angle=7)"))
    own = outputs(method, seed, members=1)
    points = values(seed, 1, 6, dimensions)
    own, source = Outputs(own.logits, {"embedding": points}), outputs(method, seed + 1, members=1, side="source")
    found = terms_of(method, own, source, some_labels(1), (2.0,))
    mine, theirs = relations(points[0]), relations(source.features["embedding"][0])
    torch.testing.assert_close(found["distance"], 3 * huber(mine[0], theirs[0]).view(1))
    torch.testing.assert_close(found["angle"], 7 * huber(mine[1], theirs[1]).view(1))


def test_rkd_computes_no_term_without_weight():
    own, source = (outputs(method_of("rkd"), seed, side=side) for seed, side in ((1, "student"), (2, "source")))
    both = terms_of(method_of("rkd"), own, source, some_labels(), (1.0, 4.0))
    for left, other in (("angle", "distance"), ("distance", "angle")):
        found = terms_of(method_of(f"rkd({left}=0)"), own, source, some_labels(), (1.0, 4.0))
        assert list(found) == [other, "labels"]
        assert torch.equal(found[other], both[other])


@pytest.mark.parametrize("vertices", [2, 5])
def test_the_gradient_of_rkd_is_that_of_its_values(vertices):
    method = method_of(f"rkd(vertices={vertices},angle=1,distance=1)")
    source = Outputs(values("z", 2, 5, 4), {"embedding": values(2, 2, 5, 4)})

    def terms(points):
        return terms_of(method, Outputs(source.logits, {"embedding": points}), source, some_labels(2, 5, 4))

    # More dimensions than images are turned into fewer.
    for dimensions in (3, 9):
        points = values(1, 2, 5, dimensions).requires_grad_()
        pairs = list(zip(points, source.features["embedding"], strict=True))
        expected = [huber(*(relations(one)[1][:vertices] for one in pair)) for pair in pairs]
        torch.testing.assert_close(terms(points)["angle"], torch.stack(expected))
        for name in ("angle", "distance"):
            assert torch.autograd.gradcheck(lambda p, name=name: terms(p)[name], (points,), atol=1e-5)


def softened(method, seed, t, batch=6, classes=5):
    """The outputs of student and source of two members, and their softened outputs as arrays."""
    own, source = outputs(method, seed, batch=batch, classes=classes), outputs(method, seed + 1, batch=batch)
    t = torch.tensor(t, dtype=torch.float32).double()
    return own, source, *((one.logits / t).softmax(-1).numpy() for one in (own, source))


def checked(found, **expected):
    """Terms as they were found against those by hand; a temperature has the precision of float32."""
    assert list(found) == list(expected)
    for name, values_by_hand in expected.items():
        np.testing.assert_allclose(found[name].double().numpy(), values_by_hand, rtol=1e-5, atol=1e-9)


def label_probabilities(own, labels, t=1.0):
    return (own.logits / t).softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1).numpy()


@few
@given(st.integers(0, 1000), st.floats(0.5, 10))
def test_dist_is_its_equations(seed, t):
    method = build_method(parse_method("dist(beta=2,gamma=3)"))
    own, source, y, z = softened(method, seed, t)
    inter = [1 - np.mean([np.corrcoef(y[m, i], z[m, i])[0, 1] for i in range(6)]) for m in range(2)]
    intra = [1 - np.mean([np.corrcoef(y[m, :, j], z[m, :, j])[0, 1] for j in range(5)]) for m in range(2)]
    found = terms_of(method, own, source, some_labels(), (t, t))
    checked(found, inter=2 * np.array(inter), intra=3 * np.array(intra), labels=found["labels"])
    scaled = terms_of(build_method(parse_method("dist(t_squared=true)")), own, source, some_labels(), (t, t))
    torch.testing.assert_close(scaled["inter"], found["inter"] / 2 * torch.tensor(t).square())


@few
@given(st.integers(0, 1000), st.floats(0.5, 10))
def test_nkd_is_its_equations(seed, t):
    method, labels = build_method(parse_method("nkd(gamma=2)")), some_labels()
    own, source, y, z = softened(method, seed, t)
    target = -label_probabilities(source, labels) * np.log(label_probabilities(own, labels))
    others = np.zeros((2, 6))
    for m, i in np.ndindex(2, 6):
        rest = np.delete(np.arange(5), labels[m, i])
        p, q = (one[m, i, rest] / one[m, i, rest].sum() for one in (z, y))
        others[m, i] = -(p * np.log(q)).sum()
    found = terms_of(method, own, source, labels, (t, t))
    checked(found, target=target.mean(1), others=2 * t**2 * others.mean(1), labels=found["labels"])


@few
@given(st.integers(0, 1000), st.floats(0.5, 10))
def test_wsld_is_its_equations(seed, t):
    method, labels = build_method(parse_method("wsld(alpha=2)")), some_labels()
    own, source, y, z = softened(method, seed, t)
    losses = [-np.log(label_probabilities(one, labels)) for one in (own, source)]
    weight = 1 - np.exp(-losses[0] / losses[1])
    found = terms_of(method, own, source, labels, (t, t))
    by_hand = 2 * t**2 * (weight * -(z * np.log(y)).sum(-1)).mean(1)
    np.testing.assert_allclose(found["soft"].double().numpy(), by_hand, rtol=1e-4)


@few
@given(st.integers(0, 1000))
def test_mse_is_its_equation_and_what_logits_is_at_a_high_temperature(seed):
    method, logits = build_method(parse_method("mse(alpha=0.5)")), build_method(parse_method("logits"))
    own, source = (
        one.map(lambda z: z - z.mean(-1, keepdim=True)) for one in (outputs(method, seed), outputs(method, -1))
    )
    found = terms_of(method, own, source, some_labels())
    by_hand = 0.5 * 0.5 * (own.logits - source.logits).square().mean((1, 2)).numpy()
    checked(found, match=by_hand, labels=found["labels"])
    leaf = own.logits.clone().requires_grad_()
    hot = terms_of(logits, Outputs(leaf), source, some_labels(), (1e4, 1e4))["soft"].sum()
    (gradient,) = torch.autograd.grad(hot, leaf)
    torch.testing.assert_close(gradient, (leaf - source.logits).detach() / 5 / 6, rtol=1e-3, atol=1e-4)


@few
@given(st.integers(0, 1000))
def test_multilevel_is_its_equations(seed):
    method = build_method(parse_method("multilevel(instance=2,batch=3,classes=4,factors=0.5/2)"))
    expected = np.zeros((3, 2))
    for t in (2.0, 8.0):
        own, source, y, z = softened(method, seed, t)
        expected[0] += t**2 * -(z * np.log(y)).sum(-1).mean(1)
        for m in range(2):
            expected[1, m] += ((y[m] @ y[m].T - z[m] @ z[m].T) ** 2).sum() / 6
            expected[2, m] += ((y[m].T @ y[m] - z[m].T @ z[m]) ** 2).sum() / 5
    found = terms_of(method, own, source, some_labels(), (4.0, 4.0))
    instance, batch, classes = expected / 2 * np.array([[2], [3], [4]])
    checked(found, instance=instance, batch=batch, classes=classes, labels=found["labels"])


def test_the_controls_without_a_source_are_cross_entropies_with_other_labels():
    own, labels = outputs(build_method(parse_method("smoothing")), 1), some_labels()
    smooth = terms_of(build_method(parse_method("smoothing(amount=0.3)")), own, own, labels)
    expected = [F.cross_entropy(z, y, label_smoothing=0.3) for z, y in zip(own.logits, labels, strict=True)]
    torch.testing.assert_close(smooth["uniform"] + smooth["labels"], torch.stack(expected))
    virtual = terms_of(build_method(parse_method("virtual(correct=0.9)")), own, own, labels, (1.0, 1.0))
    targets = torch.full_like(own.logits, 0.1 / 4).scatter(-1, labels.unsqueeze(-1), 0.9)
    expected = [F.cross_entropy(z, p) for z, p in zip(own.logits, targets, strict=True)]
    torch.testing.assert_close(virtual["soft"], torch.stack(expected))


@few
@given(st.integers(0, 1000), st.floats(0.5, 10))
def test_standardized_logits_are_z_scores(seed, t):
    own, source = (outputs(build_method(parse_method("dkd")), one) for one in (seed, seed + 1))
    scores = []
    for one in (own, source):
        z = one.logits.numpy()
        scores.append(Outputs(torch.tensor((z - z.mean(-1, keepdims=True)) / z.std(-1, keepdims=True))))
    for text in ("logits", "dkd(beta=2)"):
        inner, outer = build_method(parse_method(text)), build_method(parse_method(f"standardize({text})"))
        expected = terms_of(inner, *scores, some_labels(), (t, t))
        found = terms_of(outer, own, source, some_labels(), (t, t))
        for name in set(found) - {"labels"}:
            torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
        if "labels" in found:
            torch.testing.assert_close(found["labels"], terms_of(inner, own, source, some_labels())["labels"])


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_tempered_labels_are_learned_at_the_temperature(power):
    method, labels = build_method(parse_method(f"tempered(power={power})")), some_labels()
    own = outputs(method, 1)
    found = terms_of(method, own, own, labels, (2.0, 4.0))
    ts = (2.0, 4.0)
    expected = [t**power * F.cross_entropy(z / t, y) for z, y, t in zip(own.logits, labels, ts, strict=True)]
    torch.testing.assert_close(found["tempered"], torch.stack(expected))
    assert list(found) == ["tempered"]


@pytest.mark.parametrize("settings", [{"label_smoothing": 0.3}, {"class_weights": "balanced"}, {}], ids=str)
def test_tempered_labels_are_smoothed_weighted_and_tempered_as_the_recipe_says(settings):
    method, labels = build_method(parse_method("tempered(power=0)")), some_labels()
    given = [Recipe(ARCHITECTURE, 1, 1, 1.0, train_temperature=t, **settings) for t in (3.0, 3.0, 6.0, 12.0)]
    own, losses = outputs(method, 1), [label_loss(part, labels, 5) for part in (given[:2], given[2:])]
    found = Objective(method, torch.tensor([2.0, 4.0]), labels=losses[0]).terms(own, labels, own)
    expected = Objective(method, torch.zeros(2), labels=losses[1]).terms(own, labels, None)
    torch.testing.assert_close(found["tempered"], expected["labels"])


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(
    "name", ["dkd(alpha=1.5,warmup=0)", "dist(gamma=2,t_squared=true)", "nkd", "multilevel(batch=3)"]
)
def test_gradients_in_closed_form_are_those_of_the_values(name, classes):
    method, labels = method_of(name), some_labels(classes=classes)
    own, source = (outputs(method, seed, classes=classes) for seed in (1, 2))

    def terms(logits):
        found = terms_of(method, Outputs(logits), source, labels)
        of_method = [one for term, one in found.items() if term != "labels"]
        # Each alone, and what reaches each from one sum.
        return (*of_method, sum((2 - number) * one for number, one in enumerate(of_method)))

    assert torch.autograd.gradcheck(terms, (own.logits.clone().requires_grad_(),), atol=1e-5)


def test_the_weights_of_wsld_have_no_gradient():
    method, labels = method_of("wsld"), some_labels()
    own, source = outputs(method, 1), outputs(method, 2)
    mine, leaf = (own.logits.clone().requires_grad_() for _ in range(2))
    t = torch.tensor([1.5, 4.0]).double().view(2, 1, 1)
    losses = [-one.logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1) for one in (own, source)]
    weight = 1 - (-losses[0] / losses[1]).exp()
    each = -((source.logits / t).softmax(-1) * (mine / t).log_softmax(-1)).sum(-1)
    (2.5 * t.flatten().square() * (weight * each).mean(1)).sum().backward()
    terms_of(method, Outputs(leaf), source, labels)["soft"].sum().backward()
    torch.testing.assert_close(leaf.grad, mine.grad, rtol=1e-5, atol=1e-9)


def embedded(name, seed, dimensions=3):
    """A method on embeddings with those of one member's student ``[B, D]`` and of its source, as arrays."""
    method = build_method(parse_method(name))
    source = outputs(method, seed + 1, members=1, side="source")
    own = Outputs(source.logits, {"embedding": values(seed, 1, 6, dimensions)})
    return method, own, source, *(one.features["embedding"][0].numpy() for one in (own, source))


def cosines(points):
    units = points / np.linalg.norm(points, axis=1, keepdims=True)
    return units @ units.T


def gradients_agree(method, own, source, term):
    """The gradient in closed form is that of the values, in double."""

    def loss(points):
        return terms_of(method, Outputs(own.logits, {"embedding": points}), source, some_labels(1), (2.0,))[term]

    points = own.features["embedding"].clone().requires_grad_()
    assert torch.autograd.gradcheck(loss, (points,), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_pkt_is_its_equations(seed):
    method, own, source, *points = embedded("pkt(weight=2)", seed)
    kernels = [(cosines(one) + 1) / 2 * (1 - np.eye(6)) for one in points]
    q, p = (one / one.sum(1, keepdims=True) for one in kernels)
    others = ~np.eye(6, dtype=bool)
    divergence = (p[others] * np.log(p[others] / q[others])).sum() / 6
    found = terms_of(method, own, source, some_labels(1), (2.0,))
    checked(found, neighbors=[2 * divergence], labels=found["labels"])
    gradients_agree(method, own, source, "neighbors")


@pytest.mark.parametrize("seed", range(3))
def test_sp_is_its_equations(seed):
    method, own, source, *points = embedded("sp(weight=2)", seed)
    a, b = (one @ one.T / np.linalg.norm(one @ one.T, axis=1, keepdims=True) for one in points)
    found = terms_of(method, own, source, some_labels(1), (2.0,))
    checked(found, similarity=[2 * ((a - b) ** 2).sum() / 36], labels=found["labels"])
    gradients_agree(method, own, source, "similarity")


@pytest.mark.parametrize("order", [1, 2, 10])
def test_cc_is_its_equations(order):
    method, own, source, *points = embedded(f"cc(weight=2,order={order})", order)
    powers = [0.8**p / math.factorial(p) for p in range(order + 1)]
    a, b = (np.exp(-0.8) * sum(f * cosines(one) ** p for p, f in enumerate(powers)) for one in points)
    found = terms_of(method, own, source, some_labels(1), (2.0,))
    checked(found, correlation=[2 * ((a - b) ** 2).sum() / 36], labels=found["labels"])
    if order == 10:  # the Gaussian kernel itself
        a, b = (np.exp(0.8 * (cosines(one) - 1)) for one in points)
        np.testing.assert_allclose(found["correlation"], [2 * ((a - b) ** 2).sum() / 36], rtol=1e-3)
    gradients_agree(method, own, source, "correlation")


@pytest.mark.parametrize("name", ["pkt", "sp", "cc", "rkd"])
@pytest.mark.parametrize("given", ["one tensor", "copies", "two of three"])
def test_members_with_one_source_learn_what_each_alone_learns(name, given):
    method, labels = method_of(name), some_labels(3)
    own, source = outputs(method, 1, 3), outputs(method, 2, 3, side="source")
    rows = [0, 0, 1] if given == "two of three" else [0, 0, 0]
    points = source.features["embedding"]
    points = points[:1].expand(3, -1, -1) if given == "one tensor" else points[rows]
    found = terms_of(method, own, Outputs(source.logits, {"embedding": points}), labels, (1.0, 2.0, 4.0))
    for member in range(3):
        one = slice(member, member + 1)
        parts = (
            own.map(lambda values, one=one: values[one]),
            Outputs(source.logits[one], {"embedding": points[one].clone()}),
        )
        alone = terms_of(method, *parts, labels[one], (2.0,))
        for term in alone:
            torch.testing.assert_close(found[term][one], alone[term])


def test_hint_is_the_mean_square_behind_the_dense_layer():
    method, own, source, mine, theirs = embedded("hint(weight=2)", 1)
    shapes = [Shapes(5, {"embedding": (size,)}) for size in (3, 6)]
    layer = method.modules(*shapes).double()
    found = terms_of(method, own, source, some_labels(1), (2.0,), modules=[layer])
    weight, bias = layer.weight[0].detach().numpy(), layer.bias[0].detach().numpy()
    checked(
        {"hint": found["hint"].detach(), "labels": found["labels"]},
        hint=[2 * ((mine @ weight + bias - theirs) ** 2).mean()],
        labels=found["labels"],
    )


@few
@given(st.integers(0, 1000), st.floats(0.0, 0.999))
def test_curriculum_is_the_divergence_at_a_learned_temperature(seed, progress):
    method = build_method(parse_method("curriculum(low=2,high=6,rise=0.5)"))
    own, source = outputs(method, seed), outputs(method, seed + 1)
    layer = merged([method.modules(Shapes(5, {}), Shapes(5, {})).double() for _ in range(2)])
    layer.theta.data.copy_(torch.tensor([1.0, -0.5]))
    objective = Objective(method, torch.ones(2), [layer])
    leaf = own.logits.clone().requires_grad_()
    found = objective.terms(Outputs(leaf), some_labels(), source, torch.tensor(progress))["soft"]
    theta, mine = layer.theta.detach().clone().requires_grad_(), own.logits.clone().requires_grad_()
    t = (2 + 4 * torch.sigmoid(theta)).view(2, 1, 1)
    logs = [(z / t).log_softmax(-1) for z in (mine, source.logits)]
    by_hand = t.flatten().square() * F.kl_div(*logs, reduction="none", log_target=True).sum(-1).mean(1)
    torch.testing.assert_close(found, by_hand)
    found.sum().backward()
    by_hand.sum().backward()
    torch.testing.assert_close(leaf.grad, mine.grad)
    risen = (1 - math.cos(math.pi * min(progress / 0.5, 1))) / 2
    torch.testing.assert_close(layer.theta.grad, -risen * theta.grad, rtol=1e-4, atol=1e-6)


def on_maps(name, sides=((4, 4), (2, 2)), channels=(3, 5), own=(2, 3), own_sides=None):
    """A method on maps with those of one student, which has ``own`` channels, and of its source, and its modules.

    Returns:
        A function from the number of a phase to its terms; the maps of both by layer; the modules.
    """
    method = method_of(name)
    shapes = [
        {tap: (count, *side) for (tap, *_), count, side in zip(method.layers, counts, size, strict=True)}
        for counts, size in ((own, own_sides or sides), (channels, sides))
    ]
    maps = [{tap: values((tap, place), 6, *shape) for tap, shape in one.items()} for place, one in enumerate(shapes)]
    reduced = {tap: method.reduced(one) for tap, one in maps[1].items()}
    logits = [values(("logits", place), 6, 4) for place in range(2)]
    source = Kept(logits[1], reduced)
    torch.manual_seed(0)
    modules = method.modules(Shapes(4, shapes[0]), source.shapes).double()
    method.prepare(modules, source, torch.arange(6) % 4)
    pair = Outputs(logits[0], maps[0]), Outputs(logits[1], reduced)

    def terms(phase=0):
        outs = [one.map(lambda own: own.unsqueeze(0)) for one in pair]
        found = terms_of(method, *outs, some_labels(1, 6, 4), (2.0,), phase, [modules])
        return {name: own.item() for name, own in found.items() if name != "labels"}

    return terms, list(zip(*(one.values() for one in maps), strict=True)), modules


@pytest.mark.parametrize("mode", ["code", "paper"])
@pytest.mark.parametrize("p", [2, 3])
def test_attention_is_its_equation(mode, p):
    terms, layers, _ = on_maps(f"attention(mode={mode},p={p},weight=2)")
    expected = 0.0
    for pair in layers:
        q, r = ((one.abs() ** p).sum(1).flatten(1).numpy() for one in pair)
        gap = q / np.linalg.norm(q, axis=1, keepdims=True) - r / np.linalg.norm(r, axis=1, keepdims=True)
        places = q.shape[1]
        expected += (gap**2).mean() if mode == "code" else np.linalg.norm(gap, axis=1).mean() / (2 * places)
    assert terms() == pytest.approx({"attention": 2 * expected})


def test_vid_is_the_gaussian_likelihood():
    terms, layers, modules = on_maps("vid(weight=2,variance=3,channels=7)")
    expected = 0.0
    for layer, (own, source) in zip(modules, layers, strict=True):
        layer.a.data += torch.linspace(0, 1, source.shape[1]).view(-1, 1, 1)
        variance = F.softplus(layer.a).detach() + 1e-5
        found = torch.distributions.Normal(layer.mean(own).detach(), variance.sqrt().expand_as(source))
        expected -= (found.log_prob(source) + 0.5 * math.log(2 * math.pi)).mean().item()
        assert layer.mean[0].out_channels == 7
    assert terms() == pytest.approx({"information": 2 * expected})
    fresh = on_maps("vid(variance=500)")[2]
    torch.testing.assert_close(F.softplus(fresh[0].a) + 1e-5, torch.full((3, 1, 1), 500.0).double())


@pytest.mark.parametrize("pool", ["max", "average"])
def test_fsp_is_its_equations_where_channels_are_equal(pool):
    terms, layers, modules = on_maps(f"fsp(pool={pool},alpha=0.5)", own=(3, 5))
    down = {"max": F.max_pool2d, "average": F.avg_pool2d}[pool]
    flows = []
    for first, second in zip(*layers, strict=True):
        flows.append(torch.einsum("bchw,bdhw->bcd", down(first, 2), second) / 4)
    assert terms() == pytest.approx({"flow": ((flows[0] - flows[1]) ** 2).sum((1, 2)).mean().item()})
    assert not list(modules.parameters())
    assert set(terms(1)) == {"soft"}
    narrow, _, modules = on_maps("fsp")
    assert [one.weight.shape[:2] for one in modules] == [(3, 2), (5, 3)]
    assert np.isfinite(narrow()["flow"])


def test_ofd_is_the_partial_distance_to_what_the_margin_leaves():
    terms, layers, modules = on_maps("ofd(weight=2)")
    expected = 0.0
    for number, (layer, (own, source)) in enumerate(zip(modules, layers, strict=True)):
        s, t = layer.connector(own).detach().numpy(), source.numpy()
        margin = np.array([[[t[:, c][t[:, c] < 0].mean()]] for c in range(t.shape[1])])
        np.testing.assert_allclose(layer.margin.numpy(), margin)
        t = np.maximum(t, margin)
        squares = np.where((s <= t) & (t <= 0), 0, (t - s) ** 2)
        expected += squares.sum((1, 2, 3)).mean() * (0.5, 1)[number]
    assert terms() == pytest.approx({"maps": 2 * expected})


def test_review_fuses_from_the_last_layer_to_the_first():
    terms, (first, second), (shallow, deep) = on_maps("review(weight=2,warmup=0)", sides=((8, 8), (4, 4)))
    fused = deep.narrow(second[0])
    found = [deep.out(fused)]
    own, behind = shallow.narrow(first[0]), fused.repeat_interleave(2, -1).repeat_interleave(2, -2)
    shares = shallow.attention(torch.cat([own, behind], 1)).sigmoid()
    found.append(shallow.out(own * shares[:, 0:1] + behind * shares[:, 1:2]))
    expected = 0.0
    for f, t, sides in zip(found, (second[1], first[1]), ((2, 1), (4, 2, 1)), strict=True):
        gap = (f - t).detach()
        each = [gap.square().mean()] + [F.avg_pool2d(gap, gap.shape[-1] // side).square().mean() for side in sides]
        expected += sum(one / 2**level for level, one in enumerate(each)) / sum(
            0.5**level for level in range(len(each))
        )
    assert terms() == pytest.approx({"review": 2 * expected.item()})
    assert on_maps("review(weight=2,warmup=1)")[0]()["review"] == pytest.approx(
        0.5 * on_maps("review(weight=2,warmup=0)")[0]()["review"]
    )


@pytest.mark.parametrize("name", ["attention", "vid", "fsp", "ofd", "review"])
def test_maps_of_other_sizes_are_compared_and_vectors_refused(name):
    terms, *_ = on_maps(name, own_sides=((3, 5), (3, 3)))
    assert all(np.isfinite(one) for one in terms().values())
    method = method_of(name)
    tap = method.layers[0][0]
    flat = [Shapes(4, dict.fromkeys((own for own, _ in method.layers), shape)) for shape in ((6,), (6, 2, 2))]
    with pytest.raises(UsageError, match=rf"^method=at={tap}: the student has 6 values there, the source 6 x 2 x 2; "):
        method.modules(*flat)
    # Such as the tokens of a transformer, where a method that keeps less than the map would have two axes.
    tokens = Shapes(4, {theirs: (5, 6) if not method.reduction else (6,) for _, theirs in method.layers})
    with pytest.raises(UsageError, match=rf"^method=at={tap}: .* both must have maps"):
        method.modules(Shapes(4, {own: (6, 2, 2) for own, _ in method.layers}), tokens)


def test_a_layer_of_the_source_may_have_another_name():
    method = method_of("attention(at=stage1:layer1/stage3)")
    assert (method.needs.student, method.needs.source) == (("stage1", "stage3"), ("layer1", "stage3"))
    assert parse_method("attention(at=stage1:layer1/stage3)").student_taps == ("stage1", "stage3")
    with pytest.raises(UsageError, match=r"option at must be .*, 2 or more separated by /"):
        parse_method("fsp(at=stage1)")


def contrasted(name, seed=0):
    """A method with memories of 12 images, its modules, and a batch of 6 of them: outputs, labels and rows."""
    method, labels = method_of(name), torch.arange(12) % 4
    shapes = [Shapes(4, {"embedding": (size,)}) for size in (3, 5)]
    modules = method.modules(*shapes).double()
    method.prepare(modules, Kept(values("z", 12, 4), {}), labels)
    rows = torch.tensor([[7, 0, 3, 11, 5, 2]])
    pair = [Outputs(values(("z", n), 1, 6, 4), {"embedding": values((seed, n), 1, 6, n)}) for n in (3, 5)]
    return method, modules, pair, labels[rows], rows


@pytest.mark.parametrize("mode", ["exact", "relax"])
def test_crd_is_noise_contrastive_estimation_with_memories(mode):
    method, modules, (own, source), labels, rows = contrasted(f"crd(weight=2,negatives=20,dim=4,tau=0.5,mode={mode})")
    before, drawn = [one[0].clone() for one in modules.memories()], modules.drawn(20)[0]
    positives = (modules.of_class(labels, rows) if mode == "relax" else rows)[0]
    leaf = own.features["embedding"].clone().requires_grad_()
    step = [Outputs(own.logits, {"embedding": leaf}), labels, source]
    found = Objective(method, torch.ones(1), [modules]).terms(*step, rows=rows)["contrast"]
    points = [one.features["embedding"][0] for one in (own, source)]
    mine = points[0].clone().requires_grad_()
    vectors = [layer(one[None])[0] for layer, one in zip(modules.layers, (mine, points[1]), strict=True)]
    vectors = [one / one.norm(dim=1, keepdim=True) for one in vectors]
    expected = torch.zeros(())
    for own_vectors, memory in zip(vectors, reversed(before), strict=True):
        for place, vector in enumerate(own_vectors):
            negatives = [row for row in drawn if row % 4 != labels[0, place]]
            p = (memory @ vector / 0.5).exp() / (12 * math.exp(1 / (2 * 4 * 0.5**2)))
            h = p / (p + 20 / 12)
            rest = torch.stack([(1 - h[row]).log() for row in negatives])
            expected = expected - (h[positives[place]].log() + 20 * rest.mean()) / 6
    torch.testing.assert_close(found, 2 * expected.view(1))
    found.backward()
    expected.mul(2).backward()
    torch.testing.assert_close(leaf.grad[0], mine.grad)
    for memory, old, new in zip(modules.memories(), before, vectors, strict=True):
        mixed = 0.5 * old[rows[0]] + 0.5 * new.detach()
        torch.testing.assert_close(memory[0, rows[0]], mixed / mixed.norm(dim=1, keepdim=True))
        assert torch.equal(memory[0, [1, 4, 6]], old[[1, 4, 6]]), "images that were not in the batch"


def test_what_crd_draws_is_even_and_new_at_each_step():
    _, modules, _, labels, rows = contrasted("crd(dim=4)")
    drawn, positives = [], []
    for _ in range(200):
        drawn.append(modules.drawn(30)[0])
        positives.append(modules.of_class(labels, rows))
        modules.get_buffer("step").add_(1)
    counts = torch.stack(drawn).flatten().bincount(minlength=12)
    assert ((counts - 500).square() / 500).sum() < 31.3, "chi-square at 0.1 %"
    positives = torch.cat(positives)
    assert torch.equal(positives % 4, labels.expand_as(positives))
    assert all(len(column.unique()) == 3 for column in positives.T)


def test_many_negatives_are_compared_in_parts(monkeypatch):
    method, name = method_of("crd(dim=4)"), "kdops.distillation.crd.SCORES_AT_ONCE"
    pair, labels = [outputs(method, n, 3, side=side) for n, side in ((1, "student"), (2, "source"))], some_labels(3)
    whole = terms_of(method, *pair, labels, (1.0, 2.0, 3.0))["contrast"]
    monkeypatch.setattr(name, 1)
    torch.testing.assert_close(terms_of(method, *pair, labels, (1.0, 2.0, 3.0))["contrast"], whole)
