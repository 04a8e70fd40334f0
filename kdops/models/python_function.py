"""Networks of the caller's own code: ``module:function``, called with what the data are like."""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from kdops.config.architectures import FunctionNet
from kdops.errors import KdopsError, UsageError
from kdops.utils.imports import describe_error, import_function, importable


def build_function(architecture: FunctionNet, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Call the caller's function; random values are drawn from PyTorch's global random state.

    Args:
        architecture: names the function, which is called as
            ``function(channels, height, width, classes)``.
        shape: (channels, height, width) of an image.

    Raises:
        UsageError: there is no such function, it fails, or returns no network.
    """
    function = import_function(architecture.place, "architecture")
    with importable(), _drawn():
        try:
            net = function(*shape, classes)
        except KdopsError:
            raise
        except (Exception, SystemExit) as error:
            call = f"called with channels, height, width, classes = {', '.join(map(str, (*shape, classes)))}"
            raise UsageError(
                "architecture", architecture, f"{call} the function failed ({describe_error(error)})"
            ) from error
    if not isinstance(net, nn.Module):
        raise UsageError(
            "architecture", architecture, f"the function must return a torch.nn.Module, not {type(net).__name__}"
        )
    return net


def source_of(architecture: FunctionNet) -> str:
    """Return the text of the module in which the caller's function is written; empty where there is none to read."""
    function = inspect.unwrap(import_function(architecture.place, "architecture"))
    try:
        module = inspect.getmodule(function)
        return inspect.getsource(module) if module else ""
    except (OSError, TypeError):
        return ""


@contextmanager
def _drawn() -> Iterator[None]:
    """Let Python's and NumPy's global random states follow PyTorch's, and leave them as they were."""
    seed = int(torch.randint(0, 2**32, ()))
    # The caller's code may draw from NumPy's old global state, so it is that one which is seeded.
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
