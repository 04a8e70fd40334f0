"""The steps of a chain: their text, their errors, the roles and the random streams of their models."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdops.config.architectures import parse_architecture
from kdops.config.chain import MOST_STEPS, Chain, ChainSettings, Step, describe_path, parse_steps
from kdops.config.roles import BASE_ROLES, ROLES, streams_of
from kdops.config.settings import Settings
from kdops.errors import UsageError


def chain(text):
    return Chain(parse_steps(text))


def test_a_step_is_a_role_with_or_without_an_architecture():
    first, second, third = parse_steps("teacher > middle : mlp( hidden=100 ) >student")
    assert (first, third) == (Step("teacher"), Step("student"))
    assert second == Step("middle", parse_architecture("mlp(hidden=100)"))
    assert str(chain("teacher>middle:mlp>student")) == "teacher>middle:mlp(hidden=50,depth=1,dropout=0)>student"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "steps=(empty): must name at least two steps, such as teacher>middle>student"),
        ("teacher", "must name at least two steps"),
        ("teacher:mlp(hidden=3)", "must name at least two steps"),
        ("teacher>", "step 2 is empty; give roles parted by single >"),
        (">student", "step 1 is empty"),
        ("teacher>>student", "step 2 is empty"),
        ("teacher->student", "unknown role 'teacher-' in step 1; the roles are teacher, student, middle"),
        ("teacher>boss>student", "unknown role 'boss' in step 2"),
        ("teacher>reversed", "unknown role 'reversed' in step 2"),
        ("Teacher>student", "unknown role 'Teacher' in step 1"),
        ("teacher,student>middle", "unknown role 'teacher,student'"),
        ("teacher>mlp(hidden=3)", "unknown role 'mlp(hidden=3)' in step 2"),
        ("teacher>:mlp>student", "unknown role '' in step 2"),
        ("teacher>student:", "step 2: unknown architecture; there are mlp("),
        ("teacher>student:vit", "step 2: unknown architecture"),
        ("teacher>student:dense(hidden=3)", "step 2: unknown architecture"),
        ("teacher:cnn(filters=0)>student", "step 1: the option filters must be a whole number from 1"),
        ("teacher>student:mlp(width=3)", "step 2: unknown option 'width'; its options are hidden"),
        ("teacher>student:mlp(hidden=3,hidden=3)", "step 2: the option hidden is given twice"),
        (">".join(["student"] * (MOST_STEPS + 1)), f"has {MOST_STEPS + 1} steps; {MOST_STEPS} are allowed"),
    ],
)
def test_a_mistake_is_told_in_one_line(text, said):
    with pytest.raises(UsageError) as caught:
        Settings.parse("chain", steps=text)
    told = str(caught.value)
    assert said in told
    assert told.startswith(f"steps={text[:40] or '(empty)'}")
    assert len(told.splitlines()) == 1
    assert caught.value.exit_code == 2


# Text that looks like steps comes much further into the parser than any text does.
PIECES = st.sampled_from(
    [*ROLES, ">", ":", " ", "\n", "\x85", "mlp", "cnn", "(", ")", "hidden=3", "dropout=0.1/0.2", ",", "٣", ""]
)


@given(st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=14).map("".join)))
def test_any_text_is_a_chain_or_the_callers_mistake(text):
    mistake, steps = None, None
    try:
        steps = parse_steps(text)
    except UsageError as error:
        mistake = str(error)
    assert mistake is None or len(mistake.splitlines()) == 1
    assert steps is None or (len(steps) >= 2 and parse_steps(str(Chain(steps))) == steps)


ARCHITECTURES = st.one_of(
    st.none(),
    st.builds("mlp(hidden={},depth={})".format, st.integers(1, 999), st.integers(1, 9)).map(parse_architecture),
    st.builds("cnn(filters={})".format, st.integers(1, 99)).map(parse_architecture),
)
STEPS = st.lists(st.builds(Step, st.sampled_from(BASE_ROLES), ARCHITECTURES), min_size=2, max_size=8).map(tuple)
CHAINS = STEPS.map(Chain)


@given(CHAINS)
def test_text_reads_back(made):
    assert chain(str(made)) == made
    assert chain(str(made).replace(">", " >\t")) == made
    assert Settings.parse("chain", steps=str(made)).as_dict()["chain"] == {"steps": str(made)}
    assert made.last == len(made.steps) - 1


@given(CHAINS)
def test_no_step_starts_as_another_does_and_the_last_as_everywhere(made):
    streams = [streams_of(name) for name in made.streams()]
    assert len(set(streams)) == len(streams)
    assert made.streams()[-1] == made.role_at(made.last)
    # A step goes by its role wherever it can, so that its models are those of other studies.
    for place, name in enumerate(made.streams()):
        role = made.role_at(place)
        assert name in (role, f"{role}, step {place + 1}")
    # Whatever the last step's nets are distilled from, they start alike: that pairs their comparison.
    ways = {made.role_at(made.last, source) for source in range(made.last)}
    assert len({streams_of(role) for role in ways}) == 1


@given(CHAINS)
def test_every_role_is_one_that_has_a_recipe(made):
    roles = [made.role_at(place) for place in range(len(made.steps))]
    assert set(roles) <= set(ROLES)
    assert all(role == step.role for role, step in zip(roles, made.steps, strict=True) if step.role != "teacher")
    assert roles[0] == made.steps[0].role
    assert "teacher" not in roles[1:]


@pytest.mark.parametrize(
    ("text", "roles", "streams"),
    [
        ("teacher>middle>student", "teacher middle student", "teacher|middle|student"),
        ("teacher>student>teacher", "teacher student reversed", "teacher|student|reversed"),
        ("teacher>teacher>teacher", "teacher born-again born-again", "teacher|born-again, step 2|born-again"),
        ("teacher>student>student", "teacher student student", "teacher|student, step 2|student"),
        ("student>teacher", "student reversed", "student|reversed"),
        ("student>student", "student student", "student, step 1|student"),
        (
            "teacher>teacher>student>teacher>middle>middle>student",
            "teacher born-again student reversed middle middle student",
            "teacher|born-again|student, step 3|reversed, step 4|middle|middle, step 6|student",
        ),
    ],
)
def test_the_roles_and_streams_of_chains_that_repeat(text, roles, streams):
    made = chain(text)
    assert [made.role_at(place) for place in range(len(made.steps))] == roles.split()
    assert made.streams() == tuple(streams.split("|"))


def test_a_teachers_net_is_born_again_of_teachers_alone_and_reversed_from_anything_else():
    made = chain("teacher>teacher>student>teacher")
    assert [made.role_at(3, source) for source in (0, 1, 2)] == ["born-again", "born-again", "reversed"]


@given(CHAINS)
def test_names_tell_the_steps_apart(made):
    names = made.names()
    assert len(set(names)) == len(names) == len(made.steps)
    assert all(name.startswith(step.role) for name, step in zip(names, made.steps, strict=True))
    assert len(made.title) <= 60
    ways = [describe_path(names[:number]) for number in range(1, len(names) + 1)]
    assert len(set(ways)) == len(ways)


def test_images_are_dealt_for_every_hop_and_for_two_at_least():
    hops = [Settings.parse("chain", steps=">".join(["student"] * n)).hops() for n in (2, 3, 4, 9)]
    assert hops == [2, 2, 3, 8]
    assert all(one <= other for one, other in pairwise(hops))
    assert {Settings.parse(name).hops() for name in ("transitivity", "paper", "ensemble")} == {2}


def test_other_studies_have_no_steps():
    assert not isinstance(Settings.parse("transitivity"), ChainSettings)
    with pytest.raises(UsageError, match="steps=teacher>student: no such parameter"):
        Settings.parse("transitivity", steps="teacher>student")


def test_a_step_is_checked_as_it_is_trained_by_the_recipe_of_the_role_that_it_is_registered_as():
    given = {"steps": "teacher>student>teacher", "student": "cnn", "teacher": "cnn", "method": "fitnet"}
    assert Settings.parse("chain", **given, epochs="reversed=2").chain.last == 2
    with pytest.raises(UsageError, match=r"^epochs=1: must be at least 2 for the phases of fitnet"):
        Settings.parse("chain", **given, epochs="reversed=1")
