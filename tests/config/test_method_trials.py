"""What is tried of each method: as many settings for all, within the bounds, the same ones each time."""

import pytest

from kdops.config.method_trials import parse_methods, trials_of
from kdops.config.methods import LOGITS, METHODS, parse_method
from kdops.config.options import Real
from kdops.config.settings import Settings
from kdops.errors import UsageError

TEMPERATURES = tuple(float(t) for t in range(1, 21))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_gets_as_many_settings_which_it_takes(name):
    method = parse_method(name)
    found = trials_of(method, 8, TEMPERATURES)
    assert found[0] == (method, 4.0)
    assert len(set(map(str, found))) == len(found) == 8
    assert found == trials_of(method, 8, TEMPERATURES)
    for one, temperature in found:
        assert parse_method(str(one)) == one
        assert temperature in TEMPERATURES


def test_an_option_that_is_given_stays():
    method = parse_method("dkd(beta=2)")
    found = trials_of(method, 6, TEMPERATURES)
    assert {one.options["beta"] for one, _ in found} == {2.0}
    assert len({one.options["alpha"] for one, _ in found}) > 1


@pytest.mark.parametrize("name", METHODS)
def test_weights_spread_around_their_default_and_shares_over_their_range(name):
    found = [one.options for one, _ in trials_of(parse_method(name), 40, TEMPERATURES)]
    for option, kind in METHODS[name].options.items():
        if not isinstance(kind, Real) or kind.default == 0:
            continue
        values, default = [one[option] for one in found], kind.default
        if kind.high <= 1 and default >= 0.01:
            wide = kind.high - kind.low
            assert kind.low <= min(values) < kind.low + wide / 4
            assert kind.high - wide / 4 < max(values) <= kind.high
        else:
            assert default / 4.01 <= min(values) < default < max(values) <= default * 4.01


def test_fewer_settings_than_trials_are_all_there_are():
    assert len(trials_of(parse_method("mse(alpha=0.5)"), 8, (1.0, 2.0))) == 2


def test_logits_comes_first_given_or_not():
    assert [str(one) for one in parse_methods("dkd(beta=2,alpha=3), rkd")] == ["logits", "dkd(alpha=3,beta=2)", "rkd"]
    assert [str(one) for one in parse_methods("dkd,logits(alpha=0.5)")] == ["logits(alpha=0.5)", "dkd"]


@pytest.mark.parametrize(
    "text", ["", "logits", "dkd,dkd", "logits,logits(alpha=0.5),dkd", "nothing", "dkd(", "dkd,,rkd"]
)
def test_what_compares_nothing_is_refused(text):
    with pytest.raises(UsageError, match="methods="):
        parse_methods(text)


def names_of(**given):
    return [one.name for one in Settings.parse("methods", **given).methods]


def test_all_are_those_that_fit_both_networks_and_their_epochs():
    dense = names_of(student="mlp(hidden=8)")
    assert dense[0] == LOGITS.name
    assert "rkd" in dense
    assert "fitnet" not in dense
    assert "shuffled" not in dense
    small = {"student": "cnn(filters=8,layers=3)"}
    assert "fitnet" in names_of(**small)
    assert "fitnet" not in names_of(**small, epochs="student=1")
    assert "fitnet" not in names_of(**small, teacher="cnn(filters=8,layers=1)")
    assert "fitnet" not in names_of(student="torchvision:resnet18")
    # Only methods with two phases need two epochs.
    assert set(names_of(**small)) - set(names_of(**small, epochs="student=1")) == {"fitnet", "fsp"}


@pytest.mark.parametrize(
    "given",
    [
        {"select_on": "test"},
        {"methods": "tempered,virtual"},
        {"methods": "pair,tempered"},
        {"methods": "fitnet", "student": "cnn(filters=8,layers=3)", "epochs": "student=1"},
        {"methods": "logits(alpha=0.3),dkd", "alpha": "0.5"},
    ],
    ids=str,
)
def test_what_would_fail_later_or_say_what_is_not_true_is_refused(given):
    with pytest.raises(UsageError):
        Settings.parse("methods", **given)


def test_the_shorthand_of_logits_is_that_of_the_study():
    assert str(Settings.parse("methods", methods="dkd", alpha="0.5").methods[0]) == "logits(alpha=0.5)"


def test_the_seeds_of_trials_and_results_are_told_apart():
    described = Settings.parse("methods", seed="4", seeds="2").describe_seeds()
    assert described == "trials on seeds 4 to 5, results on seeds 6 to 7"


def test_the_settings_name_their_methods_and_take_no_other():
    settings = Settings.parse("methods", methods="dkd", trials="2")
    assert settings.as_dict()["methods"] == ["logits", "dkd"]
    with pytest.raises(UsageError, match="methods"):
        Settings.parse("methods", method="dkd")
    with pytest.raises(UsageError, match="stage2"):
        Settings.parse("methods", methods="fitnet", student="mlp(hidden=8)")


def test_a_pair_is_the_control_of_a_residual_with_the_same_assistant():
    pair = parse_method("pair(dkd,assistant=cnn(filters=6))")
    assert pair.is_control
    assert pair.is_control_of(parse_method("residual(assistant=cnn(filters=6),weight=2)"))
    assert not pair.is_control_of(parse_method("residual"))
    assert not parse_method("residual").is_control
    assert not any(parse_method(name).is_control_of(LOGITS) for name in METHODS)
