"""Any text at all, given to all that reads text: a value that obeys its law, or one line that says what is wrong.

The texts are random, or put together from pieces of the grammars and of what breaks readers: they get far into each.
"""

from __future__ import annotations

import contextlib
import math
import re

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kdops.config.architectures import FAMILIES, parse_architecture
from kdops.config.chain import MOST_STEPS, parse_steps
from kdops.config.datasets import DATASETS, LARGEST_SIDE, NAME_CHARACTERS, parse_dataset
from kdops.config.parameters import ENTRY_POINTS
from kdops.config.parsing import boolean, real, whole
from kdops.config.roles import BASE_ROLES, ROLES
from kdops.config.samplers_and_pruners import OBJECTIVES, parse_objectives
from kdops.config.settings import HIGHEST_TEMPERATURE, Settings, parse_temperatures
from kdops.config.sources import SourceModels, parse_source
from kdops.config.space_parser import parse_space
from kdops.config.uris import check_model, check_study
from kdops.errors import UsageError, plain_line
from kdops.utils.process import ProcessId
from kdops.utils.secrets import redact_password, redact_secrets
from kdops.utils.text import markdown_text

PIECES = [
    *("0", "1", "20", "007", "0.7", ".5", "1e5", "9" * 13, "9" * 400, "nan", "inf", "-inf", "1_0", "+3", "-0"),
    *("-", ",", ".", "..", "...", "=", ">", "<", ":", ";", "*", " ", "(", ")", "/", "@", "_", "x", "%", "~", "~nobody"),
    *("teacher", "student", "middle", "reversed", "born-again", "mlp", "cnn", "hidden", "depth", "dropout", "filters"),
    *("layers", "temperature", "alpha", "t_squared", "learning_rate", "batch_size", "true", "false", "accuracy"),
    *("val_nll", "parameters", "flops", "auto", "none", "all", "newest", "weights=default", "torchvision:resnet18"),
    *("models:/", "models:/a/1", "runs:/", "@champion", "imagefolder:", "csv:", "torchvision:", "module:function"),
    *("sqlite:///", "postgresql://u:p@h/d", "../", "/etc/passwd", "C:\\", "CON", "%2e%2e", "$(id)", "`id`", "'", '"'),
    *("\0", "\n", "\r\n", "\t", "\x1b[31m", "\x85", "\u2028", "\u202e", "\u00a0", "\u0663", "\u00b2", "\u2167", "é"),
    *("\ud800", "\uff0d", "\uff10", "<script>", "|", "=cmd()", "\U0001f600"),
]
texts = st.one_of(st.text(max_size=30), st.lists(st.sampled_from(PIECES), max_size=9).map("".join))
numbers = st.one_of(texts, st.floats().map(repr), st.integers().map(str), st.text("0123456789+-._eE²٣", max_size=12))

fuzzed = settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])


@contextlib.contextmanager
def or_one_line():
    """Let a mistake be told, but in one line that a terminal shows as it is."""
    try:
        yield
    except UsageError as error:
        told = str(error)
    else:
        return
    assert told.isprintable(), ascii(told)
    assert len(told) < 3000


@pytest.mark.parametrize(
    ("entry_point", "parameter"),
    sorted(
        {p.name: (name, p.name) for name, point in reversed(ENTRY_POINTS.items()) for p in point.parameters()}.values()
    ),
)
@given(data=st.data())
@settings(fuzzed, max_examples=60)
def test_every_parameter_takes_any_text_or_says_what_is_wrong(entry_point, parameter, data):
    text = data.draw(numbers)
    with or_one_line():
        found = Settings.parse(entry_point, **{parameter: text})
        assert found.dataset
        assert found.temperatures


@given(numbers)
@fuzzed
def test_temperatures_are_few_and_ascend_within_their_bounds(text):
    with or_one_line():
        found = parse_temperatures(text)
        assert list(found) == sorted(set(found))
        assert 0 < found[0] <= found[-1] <= HIGHEST_TEMPERATURE
        assert parse_temperatures(",".join(f"{t:g}" for t in found)) == found


@given(numbers)
@fuzzed
def test_a_whole_number_is_within_its_bounds(text):
    with or_one_line():
        assert 1 <= whole("seeds", text, 1, 1000) <= 1000
    with or_one_line():
        assert whole("seeds", str(whole("seeds", text, -5, 10**12)), -5, 10**12) == int(text)


@given(numbers)
@fuzzed
def test_a_number_is_finite_within_its_bounds_and_spelled_as_one(text):
    with or_one_line():
        value = real("margin", text, 0.0, 1.0, open_low=True)
        assert 0 < value <= 1
        assert "_" not in text
        assert real("margin", repr(value), 0.0, 1.0) == value


@given(texts)
@fuzzed
def test_true_and_false_are_the_only_truths(text):
    with or_one_line():
        assert boolean("fresh", text) is (text.lower() == "true")


by_role = st.lists(
    st.builds("{}={}".format, st.sampled_from([*ROLES, "boss", ""]), st.one_of(st.just("auto"), numbers)),
    max_size=4,
).map(",".join)


@given(st.one_of(by_role, numbers), st.sampled_from(["epochs", "batch_size", "learning_rate"]))
@fuzzed
def test_what_is_given_by_role_holds_for_that_role_alone(text, name):
    with or_one_line():
        found = Settings.parse("transitivity", **{name: text}).recipes
        plain = Settings.parse("transitivity").recipes
        parts = dict(part.split("=") for part in re.sub(r"\s", "", text).split(",")) if "=" in text else {}
        for role in BASE_ROLES:
            value = getattr(found[role], name)
            assert math.isfinite(value)
            assert value > 0
            if "=" in text and parts.get(role, "auto") == "auto":
                assert value == getattr(plain[role], name)


@given(st.one_of(texts, st.lists(st.sampled_from([*PIECES, "temperature=1..20", " hidden=", "16,32"])).map("".join)))
@fuzzed
def test_a_space_reads_back_from_its_own_text(text):
    with or_one_line():
        space = parse_space(text)
        assert parse_space(str(space)) == space
        middle = space.middle()
        assert space.whole(middle) == middle
        for one in space.of(middle):
            value = middle[one.name]
            assert value in one.values or (one.is_range and one.low <= value <= one.high)


@given(texts)
@fuzzed
def test_objectives_are_known_ones(text):
    with or_one_line():
        assert parse_objectives(text) in OBJECTIVES


@given(st.one_of(texts, st.lists(st.sampled_from([*ROLES, ">", ":", "mlp(hidden=3)", " "])).map("".join)))
@fuzzed
def test_the_steps_of_a_chain_read_back_from_their_own_text(text):
    with or_one_line():
        steps = parse_steps(text)
        assert 2 <= len(steps) <= MOST_STEPS
        assert parse_steps(">".join(map(str, steps))) == steps
        assert all(step.role in BASE_ROLES for step in steps)


options = st.lists(
    st.builds("{}={}".format, st.sampled_from(["hidden", "depth", "dropout", "filters", "layers", "x"]), numbers),
    max_size=3,
).map(",".join)


@given(st.one_of(texts, st.builds("{}({})".format, st.sampled_from([*FAMILIES, "torchvision:vgg11", "rnn"]), options)))
@fuzzed
def test_an_architecture_reads_back_from_its_own_text_and_is_of_a_sane_size(text):
    with or_one_line():
        architecture = parse_architecture(text)
        assert parse_architecture(str(architecture)) == architecture
        assert str(architecture).isprintable()
        if architecture.is_counted:
            assert 0 < architecture.parameters((3, 32, 32), 10) < 10**13


sources = st.lists(
    st.one_of(
        numbers, st.builds("{}*{}".format, numbers, st.sampled_from(["models:/a/1", "models:/b@c", "runs:/d/e"]))
    ),
    max_size=3,
).map(",".join)


@given(st.one_of(texts, sources))
@example("models:/\b")
@fuzzed
def test_the_shares_of_sources_sum_to_one(text):
    with or_one_line():
        given = parse_source(text)
        assert isinstance(given, SourceModels)
        parts = given.parts
        assert math.isclose(math.fsum(share for share, _ in parts), 1)
        assert all(share > 0 and uri.isprintable() and not re.search(r"\s", uri) for share, uri in parts)
        assert parse_source(",".join(uri for _, uri in parts))


origins = st.builds(
    "{}{}".format,
    st.sampled_from([*(f"{kind}:" for kind in DATASETS), ""]),
    st.one_of(texts, st.text(st.sampled_from("/.\\ ~-_aé\0\n:%"), max_size=60)),
)


@given(origins, st.sampled_from(["", "x", "32", "32x48"]), texts)
@fuzzed
def test_whatever_data_are_called_stays_within_its_folder(dataset, size, name):
    for given_name in ("", name):
        with or_one_line():
            origin = parse_dataset({"dataset": dataset, "image_size": size, "name": given_name})
            assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", origin.name)
            assert len(origin.name) <= NAME_CHARACTERS + len("-torchvision")
            # What Windows keeps for devices may be no file there, whatever its ending.
            assert ".." not in origin.name.split("/")
            assert origin.place.isprintable()
            assert parse_dataset({"dataset": str(origin.absolute()), "image_size": size, "name": given_name})


@given(numbers)
@fuzzed
def test_an_image_size_is_two_sides_of_a_sane_length(text):
    with or_one_line():
        height, width = parse_dataset({"dataset": "imagefolder:a", "image_size": text}).image_size or (1, 1)
        assert 1 <= min(height, width) <= max(height, width) <= LARGEST_SIDE


@given(texts)
@fuzzed
def test_the_name_of_a_model_cannot_leave_a_filter_or_a_path(text):
    for checked in (check_model, check_study):
        with or_one_line():
            found = checked(text)
            parts = (found,) if isinstance(found, str) else (found.name, found.version, found.alias)
            assert not set("".join(parts)) & set("'\"`\\/% \n\0")


@given(texts)
@fuzzed
def test_other_text_is_read_or_passed_over(text):
    named = ProcessId.parse(text)
    assert named is None or ProcessId.parse(str(named)) == named
    assert plain_line(text).isprintable()
    assert "\n" not in markdown_text(text)
    assert not re.search(r"(?<!\\)[<>|`]", markdown_text(text).replace("\\\\", ""))
    assert isinstance(redact_secrets(text), str)
    assert "secret" not in redact_password(f"postgresql://me:secret@{text.replace('@', '').replace('/', '')}/d")
