"""Models that a study did not train itself, as networks: loaded without pickle, and tried before they are trusted.

Apart from :mod:`kdops.packaging.loading`, which builds kdops's own models from their weights and has them checked by
digest: here nothing is known of a model but what it does.
"""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import torch
from mlflow import MlflowClient
from mlflow.models import get_model_info
from mlflow.models.model import ModelInfo
from mlflow.pyfunc import PyFuncModel
from torch import Tensor, nn

from kdops.data.dataset import Dataset
from kdops.distillation.sources import FromProbabilities
from kdops.errors import KdopsError, UsageError
from kdops.models.classifier import digest_of
from kdops.packaging.loading import load_stored
from kdops.packaging.program import load_program
from kdops.store.artifacts import downloaded_model
from kdops.store.faults import first_line
from kdops.utils.quiet import env_var

PICKLE = "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"

SEEN = 256
"""Number of images on which the outputs of a network are examined."""


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


def load_network(uri: str, data: Dataset, votes: bool, trust: bool = False) -> nn.Module:
    """Load a model as a classifier: uint8 images to logits; of one that returns probabilities to their logarithms.

    Args:
        uri: the model.
        data: what it must classify.
        votes: it is an ensemble of kdops.
        trust: run the Python code of a model that is no program.

    Raises:
        UsageError: it cannot be loaded, or does not fit the data.
    """
    if votes:
        loaded = load_stored(MlflowClient(), uri)
        if loaded.classes != tuple(data.classes) or loaded.shape != tuple(data.shape):
            raise UsageError("source", uri, f"has other classes or images than {data.name}")
        return FromProbabilities(loaded.module, 1)
    network = load_classifier(uri, data, "source", trust)
    with torch.no_grad():
        given = network(torch.from_numpy(np.array(data.images[:SEEN])))
    # Logits that happen to lie so on hundreds of images are as good as none.
    are_shares = bool((given >= 0).all()) and torch.allclose(given.sum(dim=1), torch.ones(len(given)), atol=1e-4)
    return FromProbabilities(network) if are_shares else network


def digest_of_network(network: nn.Module, images: np.ndarray) -> str:
    """Return the digest of a network's weights and of what it returns: equal weights may be used in different ways.

    Args:
        network: from uint8 images to logits.
        images: uint8 ``[N, C, H, W]``.
    """
    with torch.no_grad():
        given = network(torch.from_numpy(np.array(images)))
    return digest_of({**network.state_dict(), "given": given})


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


def _listed(classes: list) -> str:
    return ", ".join(map(str, classes[:5])) + (", ..." if len(classes) > 5 else "")
