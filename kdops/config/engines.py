"""The engines by name: where orders are carried out. No torch here.

A new engine is one file in ``kdops/training/`` and one entry in ``ENGINES``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from types import MappingProxyType

from kdops.config.specs import Spec
from kdops.errors import UsageError

LOCAL = "local"

HOST = r"[\w.\[\]:-]+:\d+"
"""A host and a port."""


class EngineSpec(Spec):
    """What the name of an engine stands for.

    Args:
        place: ``module:class`` of it, see :class:`kdops.training.engine.Engine`; made with (workers, device), and with
            the address if the engine has any.
        package: what has to be installed for it, by an extra of kdops that has the engine's name; empty for nothing.
        addresses: what may stand behind the name and a colon; the key is how it is documented, the value a pattern.
    """

    def __init__(self, place: str, package: str = "", addresses: Mapping[str, str] = MappingProxyType({})):
        super().__init__(place)
        self.package, self.addresses = package, addresses


ENGINES: Mapping[str, EngineSpec] = {
    # In the study's own process, one pass after another.
    LOCAL: EngineSpec("kdops.training.local:LocalEngine"),
    # In processes of this machine, each with one device.
    "processes": EngineSpec("kdops.training.processes:ProcessesEngine"),
    # In a Ray cluster: one of its own on this machine, the one that this machine is part of, or another.
    "ray": EngineSpec("kdops.training.ray:RayEngine", "ray", {"auto": "auto", "//HOST:PORT": rf"//{HOST}"}),
    # In the workers of a Dask cluster: one of its own on this machine, or one that is there.
    "dask": EngineSpec(
        "kdops.training.dask:DaskEngine",
        "distributed",
        {f"{own}://HOST:PORT": f"{own}://{HOST}" for own in ("tcp", "tls")},
    ),
}
"""By name."""


def engine_parts(text: str) -> tuple[str, str]:
    """Return the name and the address, which may be empty, of an engine."""
    name, _, address = text.partition(":")
    return name, address


def forms() -> list[str]:
    """Return all that an engine may be written as."""
    return [form for name, spec in ENGINES.items() for form in (name, *(f"{name}:{own}" for own in spec.addresses))]


def parse_engine(text: str) -> str:
    """Return an engine's text, ``name`` or ``name:address``, once it is known that it can be used here.

    Raises:
        UsageError: it is none, or what it needs is not installed.
    """
    name, address = engine_parts(text)
    if (spec := ENGINES.get(name)) is None or (
        text != name and not any(re.fullmatch(pattern, address) for pattern in spec.addresses.values())
    ):
        raise UsageError("engine", text, f"must be one of {', '.join(forms())}")
    if spec.package and find_spec(spec.package) is None:
        install = f"uv sync --extra {name}, or pip install 'kdops[{name}]'"
        raise UsageError("engine", text, f"needs {spec.package}; install with: {install}")
    return text


AUTO_WORKERS = 0
"""As many workers as there are GPUs to train on, one on the CPU."""

MOST_WORKERS = 256
