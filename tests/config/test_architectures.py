"""Architectures read back from their own text, and equal networks have equal text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdops.config.architectures import CNN, FAMILIES, parse_architecture
from kdops.errors import UsageError
from kdops.utils.imports import load_place

rate = st.one_of(st.integers(0, 99), st.integers(0, 999_999)).map(
    lambda millionths: f"0.{millionths:06d}" if millionths else "0"
)


@st.composite
def texts(draw):
    """Return the text of any architecture, its options in any order and some of them left out."""
    family = draw(st.sampled_from(["cnn", "mlp"]))
    if family == "mlp":
        options = {"hidden": draw(st.integers(1, 100_000)), "depth": draw(st.integers(1, 100)), "dropout": draw(rate)}
        kept = draw(st.sets(st.sampled_from(sorted(options))))
    else:
        layers = draw(st.integers(1, 20))
        rates = draw(
            st.one_of(st.lists(rate, min_size=1, max_size=1), st.lists(rate, min_size=layers, max_size=layers))
        )
        options = {"filters": draw(st.integers(1, 10_000)), "layers": layers, "dropout": "/".join(rates)}
        kept = draw(st.sets(st.sampled_from(sorted(options))))
        # Several rates are one for each layer, so these two come together.
        kept |= {"layers"} if "dropout" in kept and len(rates) > 1 else set()
    chosen = draw(st.permutations(sorted(kept)))
    return f"{family}({','.join(f'{name}={options[name]}' for name in chosen)})"


@settings(max_examples=50, deadline=None)
@given(texts())
def test_an_architecture_reads_back_from_its_own_text(text):
    architecture = parse_architecture(text)
    assert parse_architecture(str(architecture)) == architecture
    assert str(parse_architecture(str(architecture))) == str(architecture)
    for part in text.partition("(")[2].rstrip(")").split(","):
        name, _, value = part.partition("=")
        if name and name != "dropout":
            assert getattr(architecture, name) == int(value), "what is given is kept"
        elif name:
            found = architecture.dropout if isinstance(architecture, CNN) else (architecture.dropout,)
            given_rates = [float(one) for one in value.split("/")]
            assert list(found) == (given_rates if len(given_rates) == len(found) else given_rates * len(found))


@st.composite
def composed_texts(draw):
    """Return the text of a network that a method deploys."""
    layers = draw(st.integers(1, 5))
    first, second = (f"cnn(filters={draw(st.integers(1, 99))},layers={layers})" for _ in range(2))
    return draw(
        st.sampled_from(
            [
                f"reused(student={first},halvings={draw(st.integers(layers, 100))},channels=7)",
                f"joined( assistant = {second} , student={first})",
                f"joined(student={draw(texts())},assistant={draw(texts())},at=logits)",
            ]
        )
    )


@settings(max_examples=50, deadline=None)
@given(composed_texts())
def test_a_composed_network_reads_back_and_counts_what_it_is_made_of(text):
    architecture = parse_architecture(text)
    assert parse_architecture(str(architecture)) == architecture
    for count in ("parameters", "flops"):
        parts = [getattr(part, count)((3, 32, 32), 7) for part in architecture.parts[1:]]
        assert "at=logits" not in text or getattr(architecture, count)((3, 32, 32), 7) == sum(parts)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "reused(student=mlp)",
            "the student mlp\\(.*\\) has no map that its last layer takes; its taps are embedding$",
        ),
        ("reused(student=cnn(layers=4))", "halves the sides of an image 4 times and the source only 3 times"),
        ("joined(assistant=cnn(layers=2))", "has 3 layers and the assistant cnn\\(.*\\) has 2; both must have as many"),
        ("joined(student=reused)", "the option student must be a network, mlp\\(...\\) or cnn\\(...\\)$"),
        ("joined(student=cnn(layers=0))", "option student must be a network.*; the option layers must be"),
    ],
)
def test_networks_that_cannot_be_composed_are_refused(text, told):
    with pytest.raises(UsageError, match=f"^teacher=.*{told}"):
        parse_architecture(text, "teacher")


@settings(max_examples=50, deadline=None)
@given(st.one_of(texts(), composed_texts()), st.one_of(texts(), composed_texts()))
def test_equal_text_means_equal_networks(one, other):
    first, second = parse_architecture(one), parse_architecture(other)
    assert (str(first) == str(second)) == (first == second)


@pytest.mark.parametrize(
    "same",
    [
        ("mlp", "mlp()", " mlp ( depth = 1 , hidden=50 ) ", "mlp(hidden=50,depth=1,dropout=0)"),
        ("cnn", "cnn(filters=128)", "cnn(dropout=.1/.2/.30)", "cnn(layers=3)"),
        ("cnn(layers=2,dropout=0.5)", "cnn(dropout=.5/.5,layers=2)"),
        ("cnn(layers=1)", "cnn(layers=1,dropout=0.1)"),
        ("cnn(layers=2)", "cnn(layers=2,dropout=0.1/0.2)"),
        ("cnn(layers=5)", "cnn(layers=5,dropout=0.1/0.2/0.3/0.3/0.3)"),
        ("mlp(dropout=1e-6)", "mlp(dropout=0.000001)"),
    ],
)
def test_the_same_network_written_in_several_ways_is_one(same):
    assert len({str(parse_architecture(text)) for text in same}) == 1
    assert len({parse_architecture(text) for text in same}) == 1


@pytest.mark.parametrize("text", ["cnn(layers=2,dropout=0.1/0.2/0.3)", "cnn(dropout=0.1/0.2)", "mlp(dropout=0.1/0.2)"])
def test_rates_that_are_given_fit_the_layers(text):
    with pytest.raises(UsageError, match=r"^teacher=.*the option dropout must be"):
        parse_architecture(text, "teacher")


def test_the_text_of_stored_models_stays():
    assert str(parse_architecture("mlp")) == "mlp(hidden=50,depth=1,dropout=0)"
    assert str(parse_architecture("cnn(dropout=.1)")) == "cnn(filters=128,layers=3,dropout=0.1/0.1/0.1)"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_names_what_builds_it(family):
    place = FAMILIES[family].spec.place
    assert callable(load_place(place)), place
