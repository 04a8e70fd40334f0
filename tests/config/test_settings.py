"""Settings: what is given, what is left to the data set, and what each entry point prefers."""

import json
from dataclasses import fields

import pytest

from kdops.config.datasets import DATASETS
from kdops.config.papers import AUTO, DEFAULT, PAPERS
from kdops.config.parameters import ENTRY_POINTS, PARAMETERS, EntryPoint
from kdops.config.roles import BASE_ROLES, ROLES
from kdops.config.settings import Settings, parse_temperatures
from kdops.errors import UsageError

BY_ROLE = [("epochs", "7", 7), ("batch_size", "32", 32), ("learning_rate", "0.25", 0.25)]


@pytest.mark.parametrize("dataset", ["digits", "gtsrb"])
def test_without_a_word_the_data_sets_recipes_hold(dataset):
    recipes = Settings.parse(dataset=dataset).recipes
    assert {role: recipes[role] for role in BASE_ROLES} == DATASETS[dataset].recipes
    assert recipes == {name: DATASETS[dataset].recipes[role.like] for name, role in ROLES.items()}
    assert set(recipes) == set(ROLES)


def test_a_reversed_net_is_an_untrained_teacher_unless_it_is_told_apart():
    recipes = Settings.parse(teacher="cnn(filters=8)", epochs="teacher=4,born-again=2").recipes
    assert recipes["reversed"] == recipes["teacher"]
    assert recipes["reversed"].epochs == 4
    assert recipes["born-again"] == recipes["teacher"].replace(epochs=2)


@pytest.mark.parametrize(("name", "text", "value"), BY_ROLE)
@pytest.mark.parametrize("role", BASE_ROLES)
def test_a_value_for_one_role_changes_that_role_alone(name, text, value, role):
    recipes = Settings.parse(**{name: f"{role}={text}"}).recipes
    for other in BASE_ROLES:
        default = DATASETS["digits"].recipes[other]
        assert recipes[other] == (default.replace(**{name: value}) if other == role else default)


@pytest.mark.parametrize(("name", "text", "value"), BY_ROLE)
def test_a_bare_value_holds_for_all_roles_and_auto_for_none(name, text, value):
    assert {getattr(r, name) for r in Settings.parse(**{name: text}).recipes.values()} == {value}
    assert Settings.parse(**{name: "auto"}) == Settings.parse()
    mixed = Settings.parse(**{name: f" teacher = auto , student = {text} "}).recipes
    assert getattr(mixed["teacher"], name) == getattr(DATASETS["digits"].recipes["teacher"], name)
    assert getattr(mixed["student"], name) == value


@pytest.mark.parametrize("role", BASE_ROLES)
def test_an_architecture_is_given_by_its_role(role):
    recipes = Settings.parse(**{role: "mlp(hidden=3,depth=5)"}).recipes
    assert str(recipes[role].architecture) == "mlp(hidden=3,depth=5,dropout=0)"
    assert all(recipes[other] == DATASETS["digits"].recipes[other] for other in BASE_ROLES if other != role)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_each_entry_point_has_its_own_defaults_and_a_given_value_wins(entry_point):
    own = ENTRY_POINTS[entry_point].defaults
    shared = {p.name: p.default for p in PARAMETERS}
    assert set(own) <= set(shared)
    assert not {p.name for p in ENTRY_POINTS[entry_point].own} & set(shared)
    settings = Settings.parse(entry_point)
    usual = own.get("temperatures", shared["temperatures"])
    assert settings.temperatures == parse_temperatures("1-29" if usual == AUTO else usual)
    assert Settings.parse(entry_point, temperatures="3").temperatures == (3.0,)
    written_out = {p.name: p.default for p in ENTRY_POINTS[entry_point].parameters()}
    assert Settings.parse(entry_point, **written_out) == settings


def test_the_papers_ranges_are_the_defaults():
    ranges = {name: Settings.parse(name).temperatures for name in ENTRY_POINTS}
    assert ranges["students"] == tuple(range(1, 30))
    assert ranges["transitivity"] == tuple(range(1, 21))
    assert ranges["symmetry"] == tuple(range(1, 11))
    whole = Settings.parse("paper")
    assert whole.sweeps["student"] == Settings.parse("symmetry").sweeps["student"] == tuple(range(1, 30))
    assert whole.sweeps["reversed"] == tuple(range(1, 11))
    assert whole.sweeps["middle"] == tuple(range(1, 21))
    assert whole.dataset == "gtsrb"


@pytest.mark.parametrize("name", PAPERS)
def test_what_is_auto_is_what_the_paper_asks_for(name):
    paper, own = PAPERS[name], Settings.parse("paper", paper=name)
    assert str(own.origin) == paper.data[0]
    assert own == Settings.parse("paper", paper=name, **{**paper.usual, "dataset": paper.data[0]})
    small = Settings.parse("paper", paper=name, dataset="digits")
    assert small == Settings.parse("paper", paper=name, **{**paper.usual, **paper.small, "dataset": "digits"})
    if name == DEFAULT or "temperatures" not in paper.unread:
        assert Settings.parse("paper", paper=name, dataset="digits", temperatures="3").temperatures == (3.0,)
    with pytest.raises(UsageError, match=r"^paper=none: must be one of szijarto-2020"):
        Settings.parse("paper", paper="none")


@pytest.mark.parametrize("name", PAPERS)
def test_on_other_data_the_experiment_is_that_of_the_paper_with_networks_of_the_data(name):
    usual, plain = PAPERS[name].usual, Settings.parse("students", dataset="imagefolder:elsewhere")
    own = Settings.parse("paper", paper=name, dataset="imagefolder:elsewhere")
    assert own.transfer == usual.get("transfer", "disjoint")
    if "temperatures" in usual:
        assert own.temperatures == parse_temperatures(usual["temperatures"])
    assert own.recipes["student"] == plain.recipes["student"]


def test_direct_students_are_trained_at_every_temperature_that_something_is_held_against():
    settings = Settings.parse("paper", temperatures="2,4", middle_temperatures="1,4")
    assert settings.direct_temperatures() == (1.0, 2.0, 4.0)
    assert Settings.parse("symmetry", temperatures="7", student_temperatures="3").direct_temperatures() == (3.0,)


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("top", "0", "from 2 to 29, or all"),
        ("top", "30", "from 2 to 29, or all"),
        ("reversed_seeds", "4", "from 1 to 3, or auto"),
        ("reversed_temperatures", "none", "at least one temperature"),
        ("middle_temperatures", "4-2", "write 2-4"),
    ],
)
def test_a_mistake_in_a_parameter_of_one_entry_point_names_it(name, text, allowed):
    with pytest.raises(UsageError, match=f"^{name}={text}: .*{allowed}"):
        Settings.parse("paper", **{name: text})


def test_only_a_study_of_registered_models_takes_the_newest_transfer():
    assert "transfer" in Settings.parse("ensemble").newest
    with pytest.raises(UsageError, match="transfer=newest: must be one of disjoint, shared, fresh"):
        Settings.parse("students", transfer="newest")


def test_only_a_study_of_registered_models_takes_all_replicates_and_the_newest_split():
    settings = Settings.parse("ensemble")
    assert (settings.seeds, settings.newest) == (0, {"split_seed", "transfer"})
    given = Settings.parse("ensemble", seeds="2", split_seed="4", seed="1")
    assert (given.seeds, given.split_seed, given.replicates()) == (2, 4, (1, 2))
    assert given.newest == {"transfer"}
    with pytest.raises(UsageError, match="seeds=0: must be a whole number from 1 to 1000, or all"):
        Settings.parse("ensemble", seeds="0")
    with pytest.raises(UsageError, match=f"split_seed=-1: must be a whole number from 0 to {2**31 - 1}, or newest"):
        Settings.parse("ensemble", split_seed="-1")
    for name in set(ENTRY_POINTS) - {"ensemble"}:
        for parameter, word in (("seeds", "all"), ("split_seed", "newest")):
            with pytest.raises(UsageError, match=rf"{parameter}={word}: must be a whole number from \d to \d+$"):
                Settings.parse(name, **{parameter: word})


@pytest.mark.parametrize("role", ["teacher", "ensemble"])
def test_one_of_a_replicate_can_not_vote(role):
    with pytest.raises(UsageError, match=f"role={role}: must be one of student, middle, reversed, "):
        Settings.parse("ensemble", role=role)
    assert Settings.parse("ensemble", role="reseeded").role == "reseeded"


def test_a_parameter_that_means_something_else_is_told_so():
    for point in ENTRY_POINTS.values():
        assert {p.name for p in PARAMETERS} >= set(point.meanings)
    told = {p.name: p.help for p in ENTRY_POINTS["ensemble"].parameters()}
    assert ("newest" in told["split_seed"], "all" in told["seeds"]) == (True, True)
    assert {p.help for p in ENTRY_POINTS["teacher"].parameters()} == {p.help for p in PARAMETERS}


def test_an_entry_points_default_may_differ_in_every_parameter():
    point = EntryPoint("", {p.name: "x" for p in PARAMETERS})
    assert [p.name for p in point.parameters()] == [p.name for p in PARAMETERS]
    assert {p.default for p in point.parameters()} == {"x"}


def test_settings_are_plain_json_that_reads_back():
    settings = Settings.parse(
        "students", dataset="gtsrb", temperatures="0.5,3", teacher="cnn(layers=1,dropout=0)", fresh="TRUE", seed="4"
    )
    plain = settings.as_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    # What is distilled from what follows from the others; images without labels are told apart from the data.
    assert set(plain) == {field.name for field in fields(settings)} - {"distillations"} | {"unlabeled"}
    assert plain["temperatures"] == [0.5, 3.0]
    assert plain["fresh"] is True
    assert plain["recipes"]["teacher"]["architecture"] == "cnn(filters=128,layers=1,dropout=0)"
    assert plain["recipes"]["student"] == DATASETS["gtsrb"].recipes["student"].as_dict()


def test_settings_differ_in_their_json_when_a_value_differs():
    others = {"seed": "1", "margin": "0.01", "epochs": "student=3", "middle": "mlp(hidden=9)", "temperatures": "1-19"}
    texts = {json.dumps(Settings.parse(**{name: value}).as_dict()) for name, value in others.items()}
    assert len(texts | {json.dumps(Settings.parse().as_dict())}) == len(others) + 1


def test_replicates_follow_the_first_seed():
    assert Settings.parse(seed="5", seeds="3").replicates() == (5, 6, 7)


def test_an_unknown_parameter_is_named_with_the_known_ones():
    with pytest.raises(UsageError, match=r"epoch=3: no such parameter; .*epochs"):
        Settings.parse(epoch="3")


@pytest.mark.parametrize(
    ("text", "found"),
    [("1-3", (1, 2, 3)), ("4,1,2-3,2", (1, 2, 3, 4)), ("0,2.5", (2.5,)), (" 7 , 1000 ", (7, 1000)), ("3-3", (3,))],
)
def test_temperatures_are_ascending_without_doubles_and_without_hard_labels(text, found):
    assert parse_temperatures(text) == found
