"""Promotion to an alias of the team's own: its gates, its history, and the way back."""

import json
import random

import pytest
from mlflow.store.model_registry.dbmodels.models import SqlRegisteredModelTag

from kdops.cli.app import main
from kdops.errors import KdopsError
from kdops.registry.promotion import holders_of, promote, rollback
from kdops.sweeps.schema import CHAMPION

NAME = "kdops-digits-student"


def said(capsys, *arguments, code=0):
    """Run a command; give the line that it told."""
    capsys.readouterr()
    assert main(list(arguments)) == code
    told = capsys.readouterr()
    (line,) = (told.out if code == 0 else told.err).splitlines()
    return line


def holder(place, alias="production"):
    number = place.client.get_registered_model(NAME).aliases.get(alias)
    return None if number is None else str(number)


def accuracy(place, version):
    return float(place.client.get_model_version(NAME, version).tags["val_accuracy"])


def ranked(place):
    """Return the three students' versions, the best by validation first."""
    found = place.client.search_model_versions(f"name = '{NAME}'")
    return [str(v.version) for v in sorted(found, key=lambda v: -float(v.tags["val_accuracy"]))]


def test_the_whole_way_there_and_back(apart, capsys):
    best, middle, worst = ranked(apart)
    champion = holder(apart, CHAMPION)
    assert said(capsys, "promote", f"{NAME}/{worst}").endswith("is now production; nobody was before")
    assert "in place of" in said(capsys, "promote", f"models:/{NAME}/{best}")
    assert said(capsys, "promote", f"{NAME}@production").endswith("is production already")
    line = said(capsys, "promote", f"{NAME}/{worst}", code=1)
    assert f"more than margin=0.02 below the {accuracy(apart, best):.4f} of models:/{NAME}/{best}" in line
    assert holder(apart) == best
    assert "is now production" in said(capsys, "promote", f"{NAME}/{middle}", "--margin", "1")
    assert said(capsys, "rollback", NAME) == f"{NAME}/{best} is production again, in place of {NAME}/{middle}"
    assert (
        said(capsys, "rollback", f"models:/{NAME}") == f"{NAME}/{worst} is production again, in place of {NAME}/{best}"
    )
    assert said(capsys, "rollback", NAME) == f"nobody is production of {NAME} now: {NAME}/{worst} was the first"
    assert holder(apart) is None
    assert said(capsys, "rollback", NAME, code=1).startswith(f"kdops: nothing was promoted to production of {NAME}")
    # The study's own alias is not touched, and each version says what became of it.
    assert holder(apart, CHAMPION) == champion
    tags = apart.client.get_model_version(NAME, best).tags
    assert {"kdops.promoted.production", "kdops.rolled_back.production"} <= tags.keys()


def test_a_difference_that_lies_on_the_margin_is_within_it(apart):
    best, _, worst = ranked(apart)
    gap = accuracy(apart, best) - accuracy(apart, worst)
    client = apart.client
    promote(client, f"models:/{NAME}/{best}", "production", 0.0)
    with pytest.raises(KdopsError, match="is not promoted"):
        promote(client, f"models:/{NAME}/{worst}", "production", gap - 1e-6)
    assert promote(client, f"models:/{NAME}/{worst}", "production", gap).uri == f"models:/{NAME}/{worst}"


@pytest.mark.parametrize("tag", ["data_digest", "split", "transfer"])
def test_models_of_other_data_are_never_compared(apart, tag):
    best, middle, _ = ranked(apart)
    client = apart.client
    promote(client, f"models:/{NAME}/{middle}", "production", 0.0)
    client.set_model_version_tag(NAME, middle, tag, "another")
    with pytest.raises(KdopsError, match=f"is not compared with .* differs in {tag}"):
        promote(client, f"models:/{NAME}/{best}", "production", 1.0)
    assert holder(apart) == middle
    # Another alias is free.
    promote(client, f"models:/{NAME}/{best}", "staging", 0.0)
    assert (holder(apart), holder(apart, "staging")) == (middle, best)


def test_the_test_set_has_no_say(apart):
    best, _, worst = ranked(apart)
    client = apart.client
    for version, value in ((best, "0.0"), (worst, "1.0")):
        client.set_model_version_tag(NAME, version, "test_accuracy", value)
    promote(client, f"models:/{NAME}/{best}", "production", 0.0)
    with pytest.raises(KdopsError, match="validation accuracy"):
        promote(client, f"models:/{NAME}/{worst}", "production", 0.0)


def test_what_is_not_whole_is_not_promoted(apart):
    best, middle, worst = ranked(apart)
    client = apart.client
    run = client.get_model_version(NAME, best).run_id
    client.delete_run(run)
    with pytest.raises(KdopsError, match="did not finish or was deleted"):
        promote(client, f"models:/{NAME}/{best}", "production", 1.0)
    source = client.get_model_version(NAME, middle).source.rpartition("/")[2]
    weights = next(apart.folder.rglob(f"{source}/artifacts/weights.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(KdopsError, match=r"files of models:/.* are damaged"):
        promote(client, f"models:/{NAME}/{middle}", "production", 1.0)
    client.delete_model_version_tag(NAME, worst, "val_nll")
    with pytest.raises(KdopsError, match="was not registered by kdops"):
        promote(client, f"models:/{NAME}/{worst}", "production", 1.0)
    assert holder(apart) is None


def test_deleted_versions_in_between_are_passed_over(apart, capsys):
    first, second, third = ranked(apart)
    client = apart.client
    for version in (first, second, third):
        promote(client, f"models:/{NAME}/{version}", "production", 1.0)
    client.delete_model_version(NAME, second)
    line = said(capsys, "rollback", NAME)
    assert line == (
        f"{NAME}/{first} is production again, in place of {NAME}/{third}; passed over, since deleted: {second}"
    )
    # All before it gone: the alias stays, since nobody is left to go back to.
    promote(client, f"models:/{NAME}/{third}", "production", 1.0)
    client.delete_model_version(NAME, first)
    line = said(capsys, "rollback", NAME, code=1)
    assert f"was deleted ({first}); production stays as it is" in line
    assert holder(apart) == third


def test_a_holder_that_was_deleted_is_rolled_back_from(apart):
    first, second, _ = ranked(apart)
    client = apart.client
    for version in (first, second):
        promote(client, f"models:/{NAME}/{version}", "production", 1.0)
    client.delete_model_version(NAME, second)
    assert holder(apart) is None
    told = rollback(client, NAME, "production")
    assert (told.uri, told.before, told.gone) == (f"models:/{NAME}/{first}", "", (second,))


def test_what_was_moved_by_hand_is_gone_back_to_or_from(apart):
    first, second, third = ranked(apart)
    client = apart.client
    promote(client, f"models:/{NAME}/{first}", "production", 1.0)
    client.set_registered_model_alias(NAME, "production", second)
    assert rollback(client, NAME, "production").uri == f"models:/{NAME}/{first}"
    client.set_registered_model_alias(NAME, "production", second)
    promote(client, f"models:/{NAME}/{third}", "production", 1.0)
    assert rollback(client, NAME, "production").uri == f"models:/{NAME}/{second}"


def test_any_order_of_promotions_and_rollbacks_is_a_stack(apart):
    client, versions, stack = apart.client, ranked(apart), []
    drawn = random.Random(7)
    for _ in range(16):
        if stack and drawn.random() < 0.4:
            stack.pop()
            assert rollback(client, NAME, "production").uri == (f"models:/{NAME}/{stack[-1]}" if stack else "")
        else:
            version = drawn.choice([v for v in versions if v not in stack[-1:]])
            promote(client, f"models:/{NAME}/{version}", "production", 1.0)
            stack.append(version)
        assert holder(apart) == (stack[-1] if stack else None)
        assert [one.version for one in holders_of(client, NAME, "production")] == stack


def test_the_holders_fit_into_the_column_of_a_database_server(apart):
    """A file of sqlite takes any text; on a server the alias would be moved, and the list of its holders lost."""
    client, (best, middle, _) = apart.client, ranked(apart)
    entry = {"version": "123456", "run_id": "f" * 32, "at": "2026-01-01T00:00:00+00:00"}
    client.set_registered_model_tag(NAME, "kdops.promotions.production", json.dumps([entry] * 100))
    promote(client, f"models:/{NAME}/{middle}", "production", 1.0)
    promote(client, f"models:/{NAME}/{best}", "production", 1.0)
    text = client.get_registered_model(NAME).tags["kdops.promotions.production"]
    assert len(text) <= SqlRegisteredModelTag.value.type.length
    assert [one.version for one in holders_of(client, NAME, "production")][-3:] == ["123456", middle, best]
    assert rollback(client, NAME, "production").uri == f"models:/{NAME}/{middle}"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["promote", "x"], "model=x: must be"),
        (["promote", f"{NAME}/9"], f"model=models:/{NAME}/9: there is no such version; {NAME} has versions 1 to 3"),
        (["promote", f"{NAME}/1", "--alias", "champion"], "alias=champion: every study sets it anew"),
        (["promote", f"{NAME}/1", "--alias", "v3"], "alias=v3: must be letters"),
        (["promote", f"{NAME}/1", "--alias", "a b"], "alias=a b: must be letters"),
        (["promote", f"{NAME}/1", "--margin", "nan"], "margin=nan: must be a number"),
        (["rollback", f"{NAME}/1"], f"name={NAME}/1: must be the name"),
        (["rollback", "nothing"], "model=nothing: there is no such registered model; there are"),
    ],
)
def test_a_mistake_is_one_line(apart, capsys, arguments, told):
    assert said(capsys, *arguments, code=2).startswith(f"kdops: {told}")
