"""A method that does not fit the networks of a study is refused before anything is trained."""

from types import SimpleNamespace

import pytest

from kdops.config.method_specs import ChosenMethod
from kdops.config.parameters import ENTRY_POINTS
from kdops.config.settings import Settings
from kdops.data import dataset
from kdops.errors import UsageError
from kdops.study.checks import check_networks
from pipelines import chain, students, symmetry, transitivity

TOY = SimpleNamespace(shape=(1, 16, 16), classes=("a", "b", "c"))
NETS = {"teacher": "cnn(filters=3,layers=3)", "student": "cnn(filters=4,layers=3)"}


@pytest.mark.parametrize(
    ("entry_point", "given", "message"),
    [
        ("transitivity", {"middle": "mlp"}, "the middle mlp.* has no tap stage1; it has embedding"),
        ("symmetry", {"student": "mlp"}, "the student mlp.* has no tap stage1; it has embedding"),
        ("methods", {"student": "tree", "method": "logits", "methods": "logits,vid"}, "has no tap stage1"),
    ],
)
def test_a_tap_that_any_network_of_the_study_lacks_is_refused_as_the_settings_are_read(entry_point, given, message):
    with pytest.raises(UsageError, match=message):
        Settings.parse(entry_point, **{**NETS, "method": "attention", **given})
    Settings.parse(
        entry_point, **{**NETS, "middle": NETS["student"], **({} if "methods" in given else {"method": "attention"})}
    )


@pytest.mark.parametrize("entry_point", ["students", "symmetry", "transitivity", "chain", "methods"])
def test_a_student_whose_map_is_smaller_than_the_hint_is_refused_before_its_teacher_is_trained(entry_point):
    given = {**NETS, "middle": NETS["student"]}
    name = "methods" if entry_point == "methods" else "method"
    more = {"steps": "teacher>student>student"} if entry_point == "chain" else {}

    def settings(method):
        return Settings.parse(
            entry_point, **given, **more, **{name: f"logits,{method}" if name == "methods" else method}
        )

    with pytest.raises(UsageError, match=r"the student's values are 4x2x2, the source's 3x8x8"):
        check_networks(settings("fitnet(at=stage3,hint=stage1)"), TOY)
    check_networks(settings("fitnet(at=stage1,hint=stage3)"), TOY)
    check_networks(settings("residual(assistant=cnn(filters=2,layers=3))") if more == {} else settings("vid"), TOY)


def test_imagenets_statistics_are_refused_for_other_channels():
    given = Settings.parse("teacher", normalize="imagenet")
    check_networks(given, TOY)
    with pytest.raises(UsageError, match=r"^normalize=imagenet: is for images of 1 or 3 channels; these have 4"):
        check_networks(given, SimpleNamespace(shape=(4, 16, 16), classes=TOY.classes))


def test_maps_of_one_pixel_are_as_large_as_each_other():
    given = {"teacher": "cnn(filters=3,layers=5)", "student": "cnn(filters=4,layers=6)"}
    check_networks(Settings.parse("students", **given, method="fitnet(at=stage6,hint=stage5)"), TOY)


@pytest.mark.parametrize("pipeline", [students, symmetry, transitivity, chain])
def test_each_distillation_of_a_study_is_known_beforehand(pipeline, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    name = pipeline.__name__.rpartition(".")[2]
    given = {"teacher": "cnn(filters=3)", "student": "mlp(hidden=3)", "middle": "mlp(hidden=4)", "temperatures": "2"}
    given |= {"steps": "teacher>middle>student"} if name == "chain" else {}
    settings = Settings.parse(name, **given, seeds="1", dataset="digits", dry_run="true")
    known = {(one.role, str(one.student), str(one.source)) for one in settings.distillations}
    found = set()
    monkeypatch.setattr(
        ChosenMethod, "check_source", lambda _, own, source, role: found.add((role, str(own), str(source)))
    )
    pipeline.main(settings, dataset.load("digits"))
    assert found == known
    assert {role for role, *_ in known} == {role for _, role in ENTRY_POINTS[name].pairs} or name == "chain"
