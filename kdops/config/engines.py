"""The engines by name: where orders are carried out. No torch here.

A new engine is one file in ``kdops/training/`` and one entry in ``ENGINES``.
"""

from __future__ import annotations

from collections.abc import Mapping

from kdops.config.specs import Spec

__all__ = ["AUTO_WORKERS", "ENGINES", "LOCAL", "MOST_WORKERS"]

LOCAL = "local"

ENGINES: Mapping[str, Spec] = {
    # In the study's own process, one pass after another.
    LOCAL: Spec("kdops.training.local:LocalEngine"),
    # In processes of this machine, each with one device.
    "processes": Spec("kdops.training.processes:ProcessesEngine"),
}
"""By name, ``module:class`` of each, see :class:`kdops.training.engine.Engine`; made with (workers, device)."""

AUTO_WORKERS = 0
"""As many workers as there are GPUs to train on, one on the CPU."""

MOST_WORKERS = 256
