"""The one grammar: what is read back from its own text, and what a mistake is answered with."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdops.config.architectures import FAMILIES
from kdops.config.methods import METHODS
from kdops.config.options import Choice, Flag, Integer, Real, Several, Text
from kdops.config.parsing import real, whole
from kdops.config.samplers_and_pruners import PRUNERS, SAMPLERS
from kdops.config.specs import Spec, parse_spec, split_spec, write_spec
from kdops.errors import UsageError

RATE = Real(0, 1, open_high=True)
TABLE = {
    "plain": Spec(),
    "rich": Spec(
        "nowhere:Rich",
        count=Integer(1, 100, default=3),
        share=Real(0, 1, default=0.5),
        on=Flag(default=True),
        word=Choice(("red", "green"), default="red"),
        at=Text(default="stage2"),
        rates=Several(RATE, default=(0.1, 0.2)),
    ),
}
VALUES = {
    "count": st.integers(1, 100),
    "share": st.floats(0, 1),
    "on": st.booleans(),
    "word": st.sampled_from(["red", "green"]),
    "at": st.text("ab1_.:/-", max_size=9),
    "rates": st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4).map(tuple),
}


@settings(max_examples=100, deadline=None)
@given(st.fixed_dictionaries({}, optional=VALUES), st.booleans(), st.randoms(use_true_random=False))
def test_any_options_read_back_from_their_text(given_values, full, random):
    spec = TABLE["rich"]
    values = {**spec.defaults(), **given_values}
    text = write_spec("rich", values, TABLE, full=full)
    assert parse_spec(text, "method", TABLE) == ("rich", values)
    # In any order, and with spaces, it means the same, and its canonical text is one.
    pairs = [f" {name} = {spec.options[name].write(value)} " for name, value in given_values.items()]
    random.shuffle(pairs)
    name, found = parse_spec(f" rich ( {','.join(pairs)} ) ", "method", TABLE)
    assert write_spec(name, found, TABLE, full=full) == text


@pytest.mark.parametrize(
    ("text", "name", "changed"),
    [
        ("plain", "plain", {}),
        ("plain()", "plain", {}),
        ("rich", "rich", {}),
        ("rich(share=1e-3)", "rich", {"share": 0.001}),
        ("rich(share=-0)", "rich", {"share": 0.0}),
        ("rich(on=FALSE,rates=.5)", "rich", {"on": False, "rates": (0.5,)}),
    ],
)
def test_what_is_given_replaces_the_default(text, name, changed):
    assert parse_spec(text, "method", TABLE) == (name, {**TABLE[name].defaults(), **changed})


def test_canonical_text_has_only_what_differs_unless_all_is_asked_for():
    values = {**TABLE["rich"].defaults(), "share": 1.0}
    assert write_spec("rich", values, TABLE) == "rich(share=1)"
    everything = "rich(count=3,share=1,on=true,word=red,at=stage2,rates=0.1/0.2)"
    assert write_spec("rich", values, TABLE, full=True) == everything
    assert write_spec("plain", {}, TABLE, full=True) == "plain"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"^method=\(empty\): must be a name, .*there are plain, rich\(count=3,"),
        ("rich(", "must be a name, or name"),
        ("rich(a(b))", r"the option a\(b\) needs a value"),
        ("poor", r"^method=poor: must be one of plain, rich\("),
        ("plain(x=1)", r"unknown option 'x'; it has no options \(of plain\)"),
        ("rich(x=1)", "unknown option 'x'; its options are count, share, on, word, at, rates"),
        ("rich(count)", "the option count needs a value"),
        ("rich(count=3,)", r"the option \(empty\) needs a value"),
        ("rich(count=3,count=3)", "the option count is given twice"),
        ("rich(count=0)", "the option count must be a whole number from 1 to 100"),
        ("rich(count=٣)", "the option count must be a whole number"),
        ("rich(share=1.1)", "the option share must be a number from 0 to 1"),
        ("rich(share=1_0)", "the option share must be a number"),
        ("rich(share=nan)", "the option share must be a number"),
        ("rich(share=)", "the option share must be a number"),
        ("rich(on=yes)", "the option on must be true or false"),
        ("rich(word=blue)", "the option word must be one of red, green"),
        ("rich(at=a b)", "the option at must be at most 200 letters"),
        ("rich(rates=0.1/1)", "the option rates must be a number from 0 to below 1, or several separated by /"),
        ("rich(rates=)", "the option rates must be a number"),
    ],
)
def test_a_mistake_is_one_line_with_what_is_allowed(text, told):
    with pytest.raises(UsageError, match=told) as caught:
        parse_spec(text, "method", TABLE)
    assert caught.value.parameter == "method"
    assert "\n" not in str(caught.value)


TABLES = {
    "teacher": {name: family.spec for name, family in FAMILIES.items()},
    "sampler": SAMPLERS,
    "pruner": PRUNERS,
    "method": {**METHODS, **TABLE},
}


@pytest.mark.parametrize(("parameter", "name"), [(p, name) for p, table in TABLES.items() for name in table])
def test_every_value_with_options_reads_back_its_defaults(parameter, name):
    table = TABLES[parameter]
    defaults = table[name].defaults()
    for text in (name, f"{name}()", write_spec(name, defaults, table), write_spec(name, defaults, table, full=True)):
        assert parse_spec(text, parameter, table) == (name, defaults)
    with pytest.raises(UsageError, match=rf"^{parameter}=.*unknown option 'x'"):
        parse_spec(f"{name}(x=1)", parameter, table)
    for option in table[name].options:
        with pytest.raises(UsageError, match=rf"^{parameter}=.*the option {option} must be "):
            parse_spec(f"{name}({option}=!)", parameter, table)


def test_names_with_colons_and_dots_are_split_too():
    assert split_spec("torchvision:resnet18(weights=default)") == ("torchvision:resnet18", "weights=default")


def test_numbers_are_read_alike_everywhere():
    assert real("margin", "5.", 0, 10) == 5.0
    assert whole("seeds", "+3", 1, 10) == 3
    for text in ("inf", "nan", "1_0", " 1", "٣", "", "9" * 41):
        with pytest.raises(UsageError, match=r"^margin=.*must be a number from 0 to 10$"):
            real("margin", text, 0, 10)
