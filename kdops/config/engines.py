"""The engines by name: where orders are carried out. No torch here.

A new engine is one file in ``kdops/training/`` and one entry in ``ENGINES``.
"""

from __future__ import annotations

from collections.abc import Mapping

from kdops.config.specs import Spec

__all__ = ["ENGINES"]

ENGINES: Mapping[str, Spec] = {
    # In the study's own process, one pass after another.
    "local": Spec("kdops.training.local:LocalEngine"),
}
"""By name, ``module:class`` of each, see :class:`kdops.training.engine.Engine`."""
