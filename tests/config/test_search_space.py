"""The space of a search: its text, its errors, its grid."""

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdops.config.architectures import parse_architecture
from kdops.config.methods import METHODS, parse_method
from kdops.config.options import Flag, Integer, Real
from kdops.config.recipe_settings import SETTINGS
from kdops.config.samplers_and_pruners import OBJECTIVES, parse_objectives
from kdops.config.search_space import Space
from kdops.config.settings import Settings, parse_temperatures
from kdops.config.space_parser import parse_space
from kdops.errors import UsageError
from kdops.search.trials import settings_of

NAMES = ("temperature", "alpha", "t_squared", "hidden", "depth", "learning_rate", "batch_size")
DEFAULT = (
    "temperature=1..30 alpha=0..1 t_squared=true,false hidden=16..128 depth=1..3 learning_rate=0.0005..0.02 "
    "batch_size=64,128,256,512"
)


def dimension(text):
    """Return the one dimension that a text names."""
    name = text.partition("=")[0].strip()
    return next(d for d in parse_space(text).dimensions if d.name == name)


def test_what_is_not_named_keeps_its_default():
    assert str(parse_space("")) == DEFAULT
    assert parse_space(" ; ") == parse_space("")
    assert str(parse_space("depth=2")) == DEFAULT.replace("depth=1..3", "depth=2")


def test_a_range_a_list_and_one_value():
    space = parse_space("temperature=1..20 hidden=64,16,32; alpha=1")
    temperature, alpha, _, hidden, *_ = space.dimensions
    assert (temperature.low, temperature.high, temperature.log) == (1.0, 20.0, True)
    assert hidden.values == (16, 32, 64)
    assert space.fixed == {"alpha": 1.0}
    assert alpha not in space.free
    assert [d.name for d in space.free] == [name for name in NAMES if name != "alpha"]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("hidden=64,16", "hidden=16,64"),
        ("t_squared=FALSE,True", "t_squared=true,false"),
        ("temperature=1.0..2e1", "temperature=1..20"),
        ("learning_rate = .001 .. 0.01 ; depth = 1 , 2", "depth=1,2 learning_rate=1e-3..1E-2"),
        ("alpha=-0", "alpha=0"),
        (DEFAULT, ""),
    ],
)
def test_equal_spaces_have_equal_text(text, same):
    assert str(parse_space(text)) == str(parse_space(same))
    assert parse_space(text) == parse_space(same)


def test_other_spaces_have_another_text():
    texts = ["", "depth=2", "depth=1..2", "depth=1,2", "alpha=1", "t_squared=true", "t_squared=false"]
    assert len({str(parse_space(text)) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("width=3", "unknown setting 'width'; there are method, temperature, alpha"),
        ("seed=1,2", "unknown setting 'seed'"),
        ("depth=1 depth=2", "depth is given twice"),
        ("depth", "depth needs values, for example depth=1..3"),
        ("depth=", "depth needs values"),
        ("temperature=5..5", "is empty; write temperature=5"),
        ("temperature=20..1", "runs backwards; write 1..20"),
        ("temperature=0..4", "'0' of temperature must be a number from 0.01 to 1000"),
        ("temperature=1..1001", "'1001' of temperature"),
        ("alpha=1.5", "must be a number from 0 to 1"),
        ("alpha=-1", "must be a number from 0 to 1"),
        ("alpha=nan", "'nan' of alpha"),
        ("learning_rate=1e999", "'1e999' of learning_rate"),
        ("hidden=16,16.0", "'16.0' of hidden must be a whole number from 1 to 100000"),
        ("hidden=16,16", "has doubles"),
        ("temperature=2,2.0", "has doubles"),
        ("hidden=16,,32", "'' of hidden"),
        ("hidden=many", "'many' of hidden must be a whole number"),
        ("hidden=1..4,8", "a range and a list in one"),
        ("hidden=1..4..8", "'4..8' of hidden"),
        ("batch_size=64..512", "batch_size takes a list"),
        ("t_squared=1", "'1' of t_squared must be true or false"),
        ("t_squared=true..false", "t_squared takes a list"),
        ("depth=__import__('os')", "of depth must be a whole number"),
        ("hidden=" + ",".join(map(str, range(1, 102))), "has 101 values; 100 are allowed"),
        ("method", "method needs values, for example method=logits,dkd"),
        ("method=kd", "'kd' of method must be a method"),
        ("method=dkd,dkd(beta=8)", "the list of method has doubles"),
        ("method=dkd..dist", "method takes a list"),
        ("method=dkd(beta=2),dkd(beta=4) beta=1..3", "differ only in what the space varies"),
        ("beta=1", "no method of the space has an option beta: logits has alpha, t_squared"),
        (
            "method=logits,dist warmup=0.1",
            "no method of the space has an option warmup: logits has alpha, t_squared; dist has beta, gamma, t_squared",
        ),
        ("method=logits,dkd alpha=0..2", "'2' of alpha must be a number from 0 to 1"),
        ("method=dist,dkd beta=1..200", "'200' of beta must be a number from 0 to 100"),
        ("method=multilevel factors=1..2", "factors takes a list"),
    ],
)
def test_a_mistake_is_told_in_one_line(text, said):
    with pytest.raises(UsageError) as caught:
        parse_space(text)
    assert said in str(caught.value)
    # Of a long one the beginning is shown.
    assert str(caught.value).startswith(f"space={text[:100]}")
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.exit_code == 2


# Text that looks like a space comes much further into the parser than any text does.
SIGNS = ["=", "..", ",", ";", " ", "\n", "true", "0", "1", "2.5", "16", "1e-3", "-", ".", "e", "(", ")"]
PIECES = st.sampled_from([*NAMES, *SIGNS, "method", "dkd", "dist", "beta", "standardize"])


@given(st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=14).map("".join)))
def test_any_text_is_a_space_or_the_callers_mistake(text):
    mistake, space = None, None
    try:
        space = parse_space(text)
    except UsageError as error:
        mistake = str(error)
    assert (mistake is None) is isinstance(space, Space)
    assert mistake is None or len(mistake.splitlines()) == 1
    assert space is None or parse_space(str(space)) == space


def inner(name, number):
    """Return what may stand behind a name: a range, a list or one value."""
    lists = st.lists(number, min_size=1, max_size=5, unique=True)
    options = [lists.map(lambda values: ",".join(map(str, values)))]
    if name not in ("t_squared", "batch_size"):
        ends = st.lists(number, min_size=2, max_size=2, unique=True).map(sorted)
        options.append(ends.map(lambda pair: f"{pair[0]}..{pair[1]}"))
    return st.one_of(options).map(lambda text: f"{name}={text}")


SPACES = st.tuples(
    inner("temperature", st.floats(0.01, 1000)),
    inner("alpha", st.floats(0, 1)),
    inner("t_squared", st.sampled_from(["true", "false"])),
    inner("hidden", st.integers(1, 100_000)),
    inner("depth", st.integers(1, 100)),
    inner("learning_rate", st.floats(1e-9, 100)),
    inner("batch_size", st.integers(1, 1_000_000)),
)


@given(SPACES.flatmap(st.permutations).map(" ".join), st.integers(1, 6))
def test_text_reads_back_and_the_grid_lies_within(text, points):
    space = parse_space(text)
    assert parse_space(str(space)) == space
    (grid,) = space.grids(points)
    assert [*grid] == [*NAMES]
    for d in space.dimensions:
        assert all(d.low <= value <= d.high if d.is_range else value in d.values for value in grid[d.name])
        assert list(grid[d.name]) == sorted(set(grid[d.name]), reverse=d.name == "t_squared")
        assert len(grid[d.name]) <= (points if d.is_range else len(d.values))
        if d.is_range and points > 1:
            assert (grid[d.name][0], grid[d.name][-1]) == (d.low, d.high)


def test_a_grid_is_spaced_as_its_dimension_is():
    assert dimension("alpha=0..1").grid(5) == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert dimension("temperature=1..16").grid(5) == pytest.approx((1, 2, 4, 8, 16))
    assert dimension("hidden=16..128").grid(4) == (16, 32, 64, 128)
    assert dimension("depth=1..3").grid(9) == (1, 2, 3)
    assert dimension("temperature=4..16").grid(1) == pytest.approx((8,))
    assert dimension("batch_size=64,512").grid(9) == (64, 512)
    assert all(type(value) is int for value in dimension("hidden=16..128").grid(4))


def test_size_counts_the_crossings_of_the_grid():
    space = parse_space("temperature=1..8 alpha=0,1 hidden=16..64 depth=2 learning_rate=0.001 batch_size=64")
    assert space.size(3) == len([*product(*space.grids(3)[0].values())]) == 3 * 2 * 2 * 3


def test_what_a_space_allows_is_what_the_rest_allows():
    low = parse_space("temperature=0.01 hidden=1 depth=1 learning_rate=1e-9 batch_size=1 alpha=0").fixed
    high = parse_space("temperature=1000 hidden=100000 depth=100 learning_rate=100 batch_size=1000000 alpha=1").fixed
    for end in (low, high):
        assert parse_temperatures(f"{end['temperature']:g}") == (end["temperature"],)
        assert parse_architecture(f"mlp(hidden={end['hidden']},depth={end['depth']})")
        assert Settings.parse(
            learning_rate=str(end["learning_rate"]), batch_size=str(end["batch_size"]), alpha=str(end["alpha"])
        )
    with pytest.raises(UsageError):
        parse_temperatures("1001")
    with pytest.raises(UsageError):
        parse_architecture("mlp(depth=101)")
    with pytest.raises(UsageError):
        Settings.parse(batch_size="1000001")


@pytest.mark.parametrize("objectives", OBJECTIVES)
def test_objectives_read_back(objectives):
    assert parse_objectives(",".join(objectives)) == objectives
    assert len(OBJECTIVES[objectives]) == len(objectives)


@pytest.mark.parametrize("text", ["", "test_accuracy", "parameters", "accuracy,accuracy", "accuracy,flops,parameters"])
def test_other_objectives_are_refused(text):
    with pytest.raises(UsageError, match="must be one of: val_nll; accuracy; accuracy,parameters; accuracy,flops"):
        parse_objectives(text)


# Methods.

MIXED = "method=logits,dkd,standardize(dist) beta=1..15 t_squared=true,false alpha=0.5"


@pytest.mark.parametrize("name", METHODS)
def test_each_option_of_a_method_is_a_setting_within_the_bounds_of_the_table(name):
    chosen = parse_method(name)
    assert parse_space(f"method={name}").methods == parse_space("", chosen).methods == (chosen,)
    for option, kind in chosen.searchable.items():
        given = kind.write(kind.default) or "embedding"
        for space in (parse_space(f"{option}={given}", chosen), parse_space(f"method={name} {option}={given}")):
            assert option in space.fixed
            assert space.method_of(space.fixed) == chosen.with_options({option: given})
        if isinstance(kind, Real | Integer):
            with pytest.raises(UsageError, match=re.escape(f"of {option} must be {kind.allowed()}")):
                parse_space(f"{option}={kind.low}..{kind.high + 1}", chosen)
            middle = (kind.low + kind.high) // 2 if isinstance(kind, Integer) else (kind.low + kind.high) / 2
            near = kind.high if isinstance(kind, Integer) else (middle + kind.high) / 2
            space = parse_space(f"{option}={kind.write(middle)}..{kind.write(near)}", chosen)
            assert [d.name for d in space.free if d.name == option and d.is_range] == [option]


def test_options_of_one_name_are_of_one_type_and_none_has_the_name_of_a_setting():
    kinds = {}
    for spec in METHODS.values():
        for name, option in spec.searchable.items():
            kind = type(option) if isinstance(option, Real | Integer | Flag) else str
            assert kinds.setdefault(name, kind) is kind, name
    settings = {d.name for d in parse_space("method=logits,dkd").dimensions}
    assert not settings & set(kinds)


def test_an_option_is_of_the_trials_whose_method_has_it():
    space = parse_space(MIXED)
    assert str(space).startswith(
        "method=logits,dkd,standardize(dist) temperature=1..30 alpha=0.5 t_squared=true,false beta=1..15 "
    )
    assert parse_space(str(space)) == space
    own = {
        str(one): {d.name for d in space.of({"method": str(one)})} & {"alpha", "beta", "t_squared"}
        for one in space.methods
    }
    assert own == {
        "logits": {"alpha", "t_squared"},
        "dkd": {"alpha", "beta"},
        "standardize(dist)": {"beta", "t_squared"},
    }
    tried = {"method": "standardize(dist)", "beta": 3.5, "t_squared": True}
    assert str(space.method_of(tried)) == "standardize(dist(beta=3.5,t_squared=true))"
    assert space.whole({"method": "dkd", "temperature": 4.0}) == {}, "not all is chosen yet"


def test_a_grid_has_no_crossing_twice_where_a_method_lacks_an_option():
    space = parse_space(
        "method=logits,dkd beta=1,2,3 temperature=1,4 hidden=4 depth=1 learning_rate=0.01 batch_size=32"
    )
    assert space.size(3) == 2 + 2 * 3
    assert [set(grid["method"]) for grid in space.grids(3)] == [{"logits"}, {"dkd"}]
    assert set(space.middle()) == {d.name for d in space.of(space.middle())}


def test_a_weight_is_searched_in_the_logarithm_and_a_share_evenly():
    def log(text, name):
        return next(d.log for d in parse_space(text).dimensions if d.name == name)

    assert log("method=dkd beta=1..15", "beta")
    assert not log("method=dkd beta=0..15", "beta")
    assert not log("method=dkd warmup=0.1..0.5", "warmup")
    assert not log("method=logits,dkd alpha=0.1..1", "alpha")


def test_what_is_not_named_is_searched_of_logits_alone():
    assert str(parse_space("", parse_method("dkd"))) == DEFAULT.replace("alpha=0..1 t_squared=true,false ", "")
    assert str(parse_space("method=logits,mse")) == "method=logits,mse " + DEFAULT.replace(
        "alpha=0..1 t_squared=true,false ", ""
    )
    assert str(parse_space("method=logits")) == f"method=logits {DEFAULT}"


@pytest.mark.parametrize(
    "given", [{"alpha": "0.3"}, {"method": "logits(alpha=0.3)"}, {"space": "method=logits(alpha=0.3)"}]
)
def test_an_option_that_is_given_is_fixed(given):
    space = Settings.parse("search", **given).space
    assert space.fixed["alpha"] == 0.3
    assert space.method_of(space.middle()).options["alpha"] == 0.3
    assert "t_squared=true,false" in str(space)
    assert "t_squared=false" in str(Settings.parse("search", t_squared="false").space)


@pytest.mark.parametrize("given", [{"method": "dkd"}, {"alpha": "0.3"}])
def test_a_method_beside_those_of_the_space_is_refused(given):
    with pytest.raises(UsageError, match=r"method=.* is not tried where the space names methods"):
        Settings.parse("search", space="method=logits,dkd", **given)


# Networks and recipes.


@pytest.mark.parametrize("name", ["mlp", "cnn", "cnn(layers=5)"])
def test_the_network_of_a_role_says_which_sizes_are_searched(name):
    network = parse_architecture(name)
    space = parse_space("", network=type(network))
    assert {d.name for d in space.dimensions} & {"hidden", "depth", "filters", "layers"} == set(network.searched) - {
        "dropout"
    }
    for values in (space.least(), space.middle(), {**space.middle(), "dropout": 0.25}):
        tried = network.varied(values)
        assert parse_architecture(str(tried)) == tried
        assert all(getattr(tried, size) == values[size] for size in network.searched if size != "dropout")
    assert "dropout=0.25" in str(tried)
    assert "dropout=0.1..0.5" in str(parse_space("dropout=0.1..0.5", network=type(network)))


def test_further_layers_have_the_rate_of_the_last_one():
    assert parse_architecture("cnn(layers=2,dropout=0.1/0.4)").varied({"layers": 4}).dropout == (0.1, 0.4, 0.4, 0.4)


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "epochs"])
def test_every_setting_of_a_recipe_can_be_searched(name):
    given = {
        "optimizer": "sgd(momentum=0.5),adamw",
        "schedule": "cosine(warmup=0.1),constant",
        "class_weights": "none,balanced",
        "normalize": "data,unit",
        "augment": "none,crop=2+flip=true,shift",
        "views": "1,live",
        "init": "he,pytorch",
    }.get(name, "1,2" if name == "batch_size" else "0.1,0.2")
    space = parse_space(f"{name}={given}")
    assert parse_space(str(space)) == space
    settings = Settings.parse("search", space=f"{name}={given}")
    (found,) = (d for d in settings.space.dimensions if d.name == name)
    recipes = [
        settings_of(settings, {**settings.space.middle(), name: value}).recipes["student"] for value in found.values
    ]
    assert len({getattr(recipe, name) for recipe in recipes}) == len(given.split(","))
    if name == "augment":
        assert {recipe.augment for recipe in recipes} == {"none", "crop=2 flip=true", "shift=2"}
