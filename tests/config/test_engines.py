"""Engines as text."""

import pytest

from kdops.config import engines
from kdops.config.engines import ENGINES, EngineSpec, engine_parts, parse_engine
from kdops.errors import UsageError


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda package: package)


@pytest.mark.parametrize(
    "text",
    [
        *(*ENGINES, "ray:auto", "ray://head:10001", "ray://10.0.0.1:1", "ray://[::1]:10001"),
        *("dask:tcp://head:8786", "dask:tls://10.0.0.1:8786"),
    ],
)
def test_an_engine_is_its_name_or_a_cluster(text, installed):
    assert parse_engine(text) == text
    assert ":".join(filter(None, engine_parts(text))) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "spark", "ray:", "ray:head", "ray://head", "ray://", "local:auto", "processes:", "ray:auto\n"),
        *("dask:auto", "dask://head:8786", "dask:tcp://head", "dask:http://head:8786"),
    ],
)
def test_what_is_none_is_refused_with_all_forms(text, installed):
    forms = "local, processes, ray, ray:auto, ray://HOST:PORT, dask, dask:tcp://HOST:PORT, dask:tls://HOST:PORT"
    with pytest.raises(UsageError, match=f"must be one of {forms}$"):
        parse_engine(text)


def test_an_engine_whose_package_is_missing_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(ENGINES, "ray", EngineSpec("nowhere:Engine", "no_such_package"))
    install = r"uv sync --extra ray, or pip install 'kdops\[ray\]'$"
    with pytest.raises(UsageError, match=f"^engine=ray: needs no_such_package; install with: {install}"):
        parse_engine("ray")
