"""Roles: each has the recipe of one that has its own, and streams that are a role's."""

import pytest

from kdops.config.roles import BASE_ROLES, ROLES, streams_of


@pytest.mark.parametrize("name", ROLES)
def test_a_role_is_like_one_that_has_a_recipe_and_comes_after_it(name):
    role = ROLES[name]
    assert role.name == name
    assert role.like in BASE_ROLES
    assert list(ROLES).index(role.like) <= list(ROLES).index(name)
    assert ROLES[role.streams].streams == role.streams
    # A control shares the recipe of what it is compared with, not only its streams.
    assert ROLES[role.streams].like == role.like


def test_the_streams_of_stored_models_stay():
    """They are words of the random generator: with others the same seed trains another model."""
    assert {name: streams_of(name) for name in ROLES} == {
        "teacher": "teacher",
        "student": "student",
        "middle": "middle",
        "reversed": "reversed",
        "born-again": "reversed",
        "reseeded": "student",
        "reordered": "student",
        "peer": "student",
    }
    assert streams_of("middle, step 2") == "middle, step 2"
