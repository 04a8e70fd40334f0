"""Engines as text."""

import pytest

from kdops.config import engines
from kdops.config.engines import ENGINES, EngineSpec, engine_parts, parse_engine
from kdops.errors import UsageError


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda package: package)


@pytest.mark.parametrize("text", [*ENGINES, "ray:auto", "ray://head:10001", "ray://10.0.0.1:1", "ray://[::1]:10001"])
def test_an_engine_is_its_name_or_a_cluster(text, installed):
    assert parse_engine(text) == text
    assert ":".join(filter(None, engine_parts(text))) == text


@pytest.mark.parametrize(
    "text", ["", "spark", "ray:", "ray:head", "ray://head", "ray://", "local:auto", "processes:", "ray:auto\n"]
)
def test_what_is_none_is_refused_with_all_forms(text, installed):
    with pytest.raises(UsageError, match=r"must be one of local, processes, ray, ray:auto, ray://HOST:PORT$"):
        parse_engine(text)


def test_an_engine_whose_package_is_missing_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(ENGINES, "ray", EngineSpec("nowhere:Engine", "no_such_package"))
    with pytest.raises(UsageError, match=r"^engine=ray: needs no_such_package; install with: uv sync --extra no_such"):
        parse_engine("ray")
