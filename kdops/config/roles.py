"""Roles: what a model is in a study, whose recipe it is trained by, and whose random streams it starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Role:
    """What a model is in a study.

    Attributes:
        name: as it stands in runs and registered names.
        like: the role whose architecture and recipe it has; itself, where it has its own.
        streams: the role whose random streams it starts from: initial weights, batch order, dropout. Two roles with
            the same streams differ in nothing else, which pairs their comparison.
    """

    name: str
    like: str
    streams: str

    @property
    def has_own_recipe(self) -> bool:
        """Whether its architecture and recipe are not another role's."""
        return self.like == self.name


ROLES: Mapping[str, Role] = {
    role.name: role
    for role in (
        Role("teacher", like="teacher", streams="teacher"),
        Role("student", like="student", streams="student"),
        Role("middle", like="middle", streams="middle"),
        # Untrained teachers that learn from a student.
        Role("reversed", like="teacher", streams="reversed"),
        # Their control, which learns from the teacher itself (Furlanello et al., Born-Again Neural Networks, 2018).
        Role("born-again", like="teacher", streams="reversed"),
        # Controls of the ensemble: students that differ only in their seed, and those with a batch order each.
        Role("reseeded", like="student", streams="student"),
        Role("reordered", like="student", streams="student"),
        # Nets that learn from each other, and those they are held against; the first starts as a student does.
        Role("peer", like="student", streams="student"),
    )
}

BASE_ROLES = tuple(name for name, role in ROLES.items() if role.has_own_recipe)
"""The roles that have an architecture and a recipe of their own; each is a parameter."""


def streams_of(name: str) -> str:
    """Return whose random streams a role starts from; a step of a chain may have a name, and streams, of its own."""
    return ROLES[name].streams if name in ROLES else name
