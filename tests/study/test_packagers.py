"""A network is exported once in a process where its text says all about it, and anew where code of others does."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kdops.config.architectures import parse_architecture
from kdops.study.packagers import MOST_KEPT, Packagers

OWN = parse_architecture("mlp(hidden=3)")
SHAPE = (1, 4, 4)


@pytest.fixture(autouse=True)
def exported(monkeypatch):
    """The packagers that are made, none of them before."""
    import kdops.packaging.folder
    import kdops.study.packagers

    made = []
    monkeypatch.setattr(kdops.study.packagers, "_KEPT", {})
    monkeypatch.setattr(kdops.packaging.folder, "Packager", lambda *given: made.append(given) or object())
    return made


def data(classes=("a", "b"), shape=SHAPE):
    return SimpleNamespace(shape=shape, metadata={"class_names": list(classes)})


def network():
    """What an exported network is in these tests: only whether it is exported matters."""
    return object()


def test_a_later_study_on_the_same_data_exports_nothing(exported):
    first, later = (Packagers(data()).of(OWN, network) for _ in range(2))
    assert later is first
    assert len(exported) == 1


@pytest.mark.parametrize("other", [data(classes=("a", "c")), data(shape=(1, 4, 5))])
def test_other_data_are_exported_anew(other, exported):
    assert Packagers(data()).of(OWN, network) is not Packagers(other).of(OWN, network)
    assert len(exported) == 2


@pytest.mark.parametrize("text", ["some.module:function", "torchvision:resnet18"])
def test_networks_of_others_are_exported_in_each_study_and_once_in_it(text, exported):
    others = parse_architecture(text)
    for _ in range(2):
        packagers = Packagers(data())
        assert packagers.of(others, network) is packagers.of(others, network)
    assert len(exported) == 2


def test_no_more_are_kept_than_said(exported):
    import kdops.study.packagers

    for units in range(1, MOST_KEPT + 3):
        Packagers(data()).of(parse_architecture(f"mlp(hidden={units})"), network)
    assert len(kdops.study.packagers._KEPT) == MOST_KEPT
    Packagers(data()).of(parse_architecture(f"mlp(hidden={MOST_KEPT + 2})"), network)
    assert len(exported) == MOST_KEPT + 2
