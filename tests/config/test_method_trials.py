"""What is tried of each method: as many settings for all, within the bounds, the same ones each time."""

import pytest

from kdops.config.architectures import parse_architecture
from kdops.config.method_trials import fitting_methods, parse_methods, trials_of
from kdops.config.methods import LOGITS, METHODS, ChosenMethod, parse_method
from kdops.config.settings import Settings
from kdops.errors import UsageError

TEMPERATURES = tuple(float(t) for t in range(1, 21))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_gets_as_many_settings_which_it_takes(name):
    method = ChosenMethod(name, METHODS[name].defaults())
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


def test_weights_spread_around_their_default():
    default = METHODS["rkd"].options["distance"].default
    values = [one.options["distance"] for one, _ in trials_of(parse_method("rkd"), 40, TEMPERATURES)]
    assert default / 4 <= min(values) < default < max(values) <= default * 4


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


def test_all_are_those_whose_taps_the_student_has():
    dense = [one.name for one in fitting_methods(parse_architecture("mlp(hidden=8)"))]
    assert dense[0] == LOGITS.name
    assert "rkd" in dense
    assert "fitnet" not in dense
    assert "shuffled" not in dense
    assert "fitnet" in [one.name for one in fitting_methods(parse_architecture("cnn(filters=8,layers=3)"))]


def test_the_settings_name_their_methods_and_take_no_other():
    settings = Settings.parse("methods", methods="dkd", trials="2")
    assert settings.as_dict()["methods"] == ["logits", "dkd"]
    with pytest.raises(UsageError, match="methods"):
        Settings.parse("methods", method="dkd")
    with pytest.raises(UsageError, match="stage2"):
        Settings.parse("methods", methods="fitnet", student="mlp(hidden=8)")
