"""Identities of the distillation loss, with PyTorch's own functions as the reference."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from kdops.distillation.logits import LogitDistillation
from kdops.distillation.method import Outputs
from kdops.distillation.objective import Objective
from kdops.distillation.softening import soft_cross_entropy

seeds = st.integers(0, 10_000)
temperatures = st.floats(0.2, 50)
few = settings(max_examples=40, deadline=None)


def logits(seed, *shape, spread=4.0, dtype=torch.float64):
    return spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Loss:
    """The loss of members as a function of logits, labels, the source's logits and temperatures."""

    def __init__(self, *options):
        self.method = LogitDistillation(*options)

    def __call__(self, own, labels, source, temperatures):
        return Objective(self.method, temperatures)(Outputs(own), labels, None if source is None else Outputs(source))


def some_labels(seed, *shape, classes):
    return torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(seed))


def entropy(values):
    return torch.distributions.Categorical(logits=values).entropy()


def kl(source, own):
    """KL(source || own) of two rows of logits."""
    return F.kl_div(own.log_softmax(-1), source.log_softmax(-1), reduction="none", log_target=True).sum(-1)


def gradient(function, values):
    values = values.clone().requires_grad_()
    function(values).backward()
    return values.grad


def soft_loss(own, source, t, t_squared):
    """The soft term alone, of one member with one image: [classes] to a number."""
    loss = Loss(1.0, t_squared)
    return loss(own.view(1, 1, -1), torch.zeros(1, 1, dtype=torch.long), source.view(1, 1, -1), torch.tensor([t])).sum()


@few
@given(seeds, st.integers(2, 43), temperatures)
def test_soft_cross_entropy_is_the_sources_entropy_and_the_divergence(seed, classes, t):
    source, own = logits(seed, 5, classes), logits(seed + 1, 5, classes)
    divergence = soft_cross_entropy(source, own, t) - entropy(source / t)
    torch.testing.assert_close(divergence, kl(source / t, own / t))
    assert (divergence >= -1e-12).all()
    itself = soft_cross_entropy(source, source, t) - entropy(source / t)
    torch.testing.assert_close(itself, torch.zeros_like(itself), rtol=0, atol=1e-12)


@few
@given(seeds, temperatures)
def test_soft_cross_entropy_is_torchs_cross_entropy_with_soft_targets(seed, t):
    source, own = logits(seed, 5, 7), logits(seed + 1, 5, 7)
    expected = F.cross_entropy(own / t, (source / t).softmax(-1), reduction="none")
    torch.testing.assert_close(soft_cross_entropy(source, own, t), expected)


@few
@given(seeds, temperatures)
def test_gradients_of_cross_entropy_and_divergence_agree(seed, t):
    source, own = logits(seed, 5, 7), logits(seed + 1, 5, 7)
    by_entropy = gradient(lambda z: soft_cross_entropy(source, z, t).sum(), own)
    by_divergence = gradient(lambda z: kl(source / t, z / t).sum(), own)
    torch.testing.assert_close(by_entropy, by_divergence)


@few
@given(seeds, st.integers(2, 43))
def test_at_high_temperature_the_gradient_matches_logits(seed, classes):
    """Hinton, Vinyals and Dean, 2015, equation (4): (z - v) / N for logits of mean zero."""
    source, own = logits(seed, classes), logits(seed + 1, classes)
    source, own = source - source.mean(), own - own.mean()
    found = gradient(lambda z: soft_loss(z, source, 1e5, True), own)
    torch.testing.assert_close(found, (own - source) / classes, rtol=1e-3, atol=1e-3)


@few
@given(seeds, temperatures)
def test_without_t_squared_the_gradient_is_t_squared_times_smaller(seed, t):
    source, own = logits(seed, 7), logits(seed + 1, 7)
    t = torch.tensor(t).item()  # as it stands in float32
    with_it = gradient(lambda z: soft_loss(z, source, t, True), own)
    without = gradient(lambda z: soft_loss(z, source, t, False), own)
    torch.testing.assert_close(without * t**2, with_it, rtol=1e-5, atol=1e-9)


@few
@given(seeds, st.floats(0, 1), temperatures, st.booleans())
def test_alpha_interpolates_between_labels_and_source(seed, alpha, t, t_squared):
    own, source, labels = logits(seed, 1, 6, 5), logits(seed + 1, 1, 6, 5), some_labels(seed, 1, 6, classes=5)

    def loss(weight):
        return Loss(weight, t_squared)(own, labels, source, torch.tensor([t]))

    torch.testing.assert_close(loss(0.0), F.cross_entropy(own[0], labels[0]).view(1))
    torch.testing.assert_close(loss(alpha), alpha * loss(1.0) + (1 - alpha) * loss(0.0), rtol=1e-5, atol=1e-6)
    by_hand = soft_cross_entropy(source, own, t).mean(1) * (t**2 if t_squared else 1)
    torch.testing.assert_close(loss(1.0), by_hand, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("t_squared", [False, True])
@pytest.mark.parametrize("source", [None, 1.0, math.nan, math.inf])
def test_hard_labels_are_the_plain_cross_entropy_whatever_the_rest(alpha, t_squared, source):
    own, labels = logits(1, 2, 6, 5), some_labels(1, 2, 6, classes=5)
    kept = None if source is None else torch.full_like(own, source)
    loss = Loss(alpha, t_squared)
    found = loss(own, labels, kept, torch.zeros(2))
    torch.testing.assert_close(found, torch.stack([F.cross_entropy(z, y) for z, y in zip(own, labels, strict=True)]))
    torch.testing.assert_close(
        gradient(lambda z: loss(z, labels, kept, torch.zeros(2)).sum(), own),
        gradient(lambda z: sum(F.cross_entropy(one, y) for one, y in zip(z, labels, strict=True)), own),
    )


@few
@given(seeds, st.lists(st.sampled_from([0.0, 1.0, 3.0, 29.0]), min_size=1, max_size=5), st.floats(0, 1), st.booleans())
def test_a_fleets_loss_and_gradient_are_each_members_own(seed, ts, alpha, t_squared):
    count = len(ts)
    own, source = logits(seed, count, 6, 5), logits(seed + 1, count, 6, 5)
    labels, loss = some_labels(seed, count, 6, classes=5), Loss(alpha, t_squared)
    together = loss(own, labels, source, torch.tensor(ts))
    alone = [
        loss(own[m : m + 1], labels[m : m + 1], source[m : m + 1], torch.tensor(ts[m : m + 1])) for m in range(count)
    ]
    torch.testing.assert_close(together, torch.cat(alone))
    whole = gradient(lambda z: loss(z, labels, source, torch.tensor(ts)).sum(), own)
    for m, t in enumerate(ts):
        by_itself = gradient(
            lambda z, m=m, t=t: loss(z, labels[m : m + 1], source[m : m + 1], torch.tensor([t])).sum(), own[m : m + 1]
        )
        torch.testing.assert_close(whole[m : m + 1], by_itself)


@few
@given(seeds, st.floats(0, 1), temperatures, st.booleans())
def test_plain_weights_are_rounded_once(seed, alpha, t, t_squared):
    """They are computed as Python computes them, 1 - alpha too, and only then rounded to the values' precision."""
    own, source = (logits(seed + n, 1, 6, 5, dtype=torch.float32) for n in (0, 1))
    labels, at = some_labels(seed, 1, 6, classes=5), torch.tensor([t])
    found = Loss(alpha, t_squared)(own, labels, source, at)
    soft = soft_cross_entropy(source, own, at.view(1, 1, 1)).mean(1)
    on_labels = F.cross_entropy(own[0], labels[0], reduction="none").mean()
    by_hand = alpha * (at.square() if t_squared else torch.ones(1)) * soft + torch.tensor(1 - alpha) * on_labels
    assert torch.equal(found, by_hand)


@few
@given(
    seeds,
    st.floats(0, 1),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_a_tensor_of_equal_weights_gives_the_bits_of_the_plain_one(seed, alpha, t_squared, kept_in, dtype):
    own, source, ts = logits(seed, 3, 6, 5, dtype=dtype), logits(seed + 1, 3, 6, 5, dtype=dtype), (0.0, 1.7, 29.0)
    labels = some_labels(seed, 3, 6, classes=5)
    weights = torch.full((3,), alpha, dtype=kept_in)
    plain = Loss(weights[0].item(), t_squared)
    by_tensor = Loss(weights, torch.full((3,), t_squared))
    for at in (torch.tensor(ts), torch.tensor(ts[1:2]).expand(3)):
        assert torch.equal(plain(own, labels, source, at), by_tensor(own, labels, source, at))
        assert torch.equal(
            gradient(lambda z, at=at: plain(z, labels, source, at).sum(), own),
            gradient(lambda z, at=at: by_tensor(z, labels, source, at).sum(), own),
        )


@few
@given(
    seeds,
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.5, 3.0, 29.0]), st.sampled_from([0.0, 0.3, 1.0]) | st.floats(0, 1), st.booleans()
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_members_of_unequal_weights_have_each_its_own_loss_and_gradient(seed, members):
    count = len(members)
    ts, alphas, squared = zip(*members, strict=True)
    own, source, labels = (
        logits(seed, count, 6, 5),
        logits(seed + 1, count, 6, 5),
        some_labels(seed, count, 6, classes=5),
    )
    mixed = Loss(torch.tensor(alphas, dtype=torch.float64), torch.tensor(squared))
    together = mixed(own, labels, source, torch.tensor(ts))
    whole = gradient(lambda z: mixed(z, labels, source, torch.tensor(ts)).sum(), own)
    for m, (t, alpha, t_squared) in enumerate(members):
        loss, one = Loss(alpha, t_squared), slice(m, m + 1)
        torch.testing.assert_close(together[one], loss(own[one], labels[one], source[one], torch.tensor([t])))
        by_itself = gradient(
            lambda z, loss=loss, one=one, t=t: loss(z, labels[one], source[one], torch.tensor([t])).sum(), own[one]
        )
        torch.testing.assert_close(whole[one], by_itself)


@few
@given(seeds, st.floats(-100, 100), st.floats(-100, 100), temperatures, st.floats(0, 1))
def test_a_shift_of_all_logits_of_an_image_changes_nothing(seed, by, source_by, t, alpha):
    own, source, labels = logits(seed, 1, 6, 5), logits(seed + 1, 1, 6, 5), some_labels(seed, 1, 6, classes=5)
    loss, at = Loss(alpha), torch.tensor([t])
    torch.testing.assert_close(loss(own + by, labels, source + source_by, at), loss(own, labels, source, at))


@pytest.mark.parametrize("t", [0.0, 0.5, 1.0, 29.0])
@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_extreme_float32_logits_stay_finite_and_right(t, scale):
    own, source = torch.zeros(1, 3, 5), torch.zeros(1, 3, 5)
    own[0, :, 0], source[0, :, 1] = scale, scale
    labels, loss, at = torch.tensor([[0, 1, 2]]), Loss(0.5), torch.tensor([t])
    found = loss(own, labels, source, at)
    torch.testing.assert_close(
        found.double(), loss(own.double(), labels, source.double(), at).double(), rtol=1e-5, atol=0
    )
    assert found.isfinite().all()
    assert gradient(lambda z: loss(z, labels, source, at).sum(), own).isfinite().all()


def test_the_loss_is_the_mean_over_the_batch():
    own, source, labels = logits(1, 1, 6, 5), logits(2, 1, 6, 5), some_labels(1, 1, 6, classes=5)
    loss, at = Loss(0.3), torch.tensor([4.0])
    each = [loss(own[:, [i]], labels[:, [i]], source[:, [i]], at) for i in range(6)]
    torch.testing.assert_close(loss(own, labels, source, at), torch.stack(each).mean(0))
