"""Registered models that kdops did not train: loaded without pickle, and tried before they are trusted."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import torch
from mlflow.models import get_model_info
from mlflow.models.model import ModelInfo
from mlflow.pyfunc import PyFuncModel
from torch import Tensor, nn

from kdops.data.dataset import Dataset
from kdops.errors import KdopsError, UsageError
from kdops.packaging.program import load_program
from kdops.store.artifacts import downloaded_model
from kdops.store.faults import first_line
from kdops.utils.quiet import env_var

__all__ = ["load_classifier"]

PICKLE = "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"


class PythonFunction(nn.Module):
    """Somebody's Python code behind MLflow's pyfunc, as a network: uint8 images to numbers, on the CPU.

    Args:
        model: what ``mlflow.pyfunc`` loaded.
    """

    def __init__(self, model: PyFuncModel):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return the code's output as float32; arrays, data frames and lists of numbers are understood."""
        given: np.ndarray = np.asarray(self.model.predict(images.cpu().numpy()))
        return torch.from_numpy(given.astype(np.float32)).to(images.device)


def load_classifier(uri: str, data: Dataset, parameter: str = "model", trust: bool = False) -> nn.Module:
    """Load a registered model as a classifier of a data set: uint8 images to logits.

    Programs that were exported by PyTorch (pt2) are loaded; whatever the environment allows, no pickle is.

    Args:
        uri: the model's URI.
        data: the data set; the model is tried on its first images.
        parameter: what the caller calls the model.
        trust: run the Python code of a model that is no program.

    Raises:
        KdopsError: its files are gone or damaged.
        UsageError: it is neither, has other classes, or its input or output is of another kind.
    """
    net, info = _load(uri, parameter, trust)
    classes = (info.metadata or {}).get("class_names")
    if classes is not None and list(map(str, classes)) != list(data.classes):
        raise UsageError(parameter, uri, f"has other classes than {data.name}: {_listed(classes)}")
    takes = f"; it takes {info.signature.inputs}" if info.signature else ""
    # Two batches, since a program may have been exported for one size only.
    for count in (2, 3):
        images = torch.from_numpy(np.array(data.images[:count]))
        wanted = f"float [{count}, {len(data.classes)}] of {data.name} images, uint8 {list(images.shape)}"
        try:
            with torch.no_grad():
                given = net(images)
        except Exception as error:
            raise UsageError(
                parameter, uri, f"must give {wanted}, and fails: {first_line(error, 200)}{takes}"
            ) from error
        if not isinstance(given, torch.Tensor):
            raise UsageError(parameter, uri, f"must give {wanted}, not {type(given).__name__}{takes}")
        if not given.is_floating_point() or given.shape != (count, len(data.classes)):
            kind = str(given.dtype).removeprefix("torch.")
            raise UsageError(parameter, uri, f"must give {wanted}, not {kind} {list(given.shape)}{takes}")
    return net


def _load(uri: str, parameter: str, trust: bool) -> tuple[nn.Module, ModelInfo]:
    what = "a PyTorch program (pt2)"
    with env_var(PICKLE, "false"):
        try:
            info = get_model_info(uri)
            if "pytorch" in info.flavors:
                with downloaded_model(uri) as folder:
                    return load_program(_program(folder, info.flavors["pytorch"])), info
            if trust and "python_function" in info.flavors:
                what = "a Python function"
                return PythonFunction(mlflow.pyfunc.load_model(uri)), info
        except KdopsError:
            raise
        except Exception as error:
            raise UsageError(parameter, uri, f"cannot be loaded as {what}: {first_line(error, 200)}") from error
    raise UsageError(
        parameter, uri, f"cannot be loaded as {what}: it is somebody's Python code, which only runs with trust=true"
    )


def _program(folder: Path, flavor: dict[str, object]) -> Path:
    """Return the exported program in a model's folder; a pickle, or code that lies beside it, is never looked at."""
    path = (folder / str(flavor.get("model_data", "data")) / "model.pt2").resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise FileNotFoundError("its PyTorch flavor has no exported program; it may be a pickle")
    return path


def _listed(classes: list, count: int = 5) -> str:
    return ", ".join(map(str, classes[:count])) + (", ..." if len(classes) > count else "")
