"""Exported programs (pt2), loaded without running anything that lies in them or beside them."""

from __future__ import annotations

from pathlib import Path

import torch
from mlflow.pytorch import _validate_pt2_archive_is_pickle_free
from torch import nn

from kdops.packaging.archive import check_archive

__all__ = ["load_program"]


def load_program(path: Path) -> nn.Module:
    """Load an exported program.

    ``torch.export.load`` unpickles what it finds in the archive. MLflow's check looks at every record before, and is
    called here itself: ``mlflow.pytorch.load_model`` would first put the model's own code on Python's path.

    Args:
        path: the archive.

    Raises:
        MlflowException: it holds a pickle, or is no such archive.
        ValueError: it holds something that would run code, see :func:`~kdops.packaging.archive.check_archive`.
    """
    check_archive(path)
    _validate_pt2_archive_is_pickle_free(str(path))
    return torch.export.load(path).module()
