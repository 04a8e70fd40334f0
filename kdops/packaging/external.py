"""Models that a study did not train itself, as networks: loaded without pickle, and tried before they are trusted.

Apart from :mod:`kdops.packaging.loading`, which builds kdops's own models from their weights and has them checked by
digest: here nothing is known of a model but what it does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import torch
from mlflow import MlflowClient
from mlflow.models import get_model_info
from mlflow.models.model import ModelInfo
from mlflow.pyfunc import PyFuncModel
from torch import Tensor, nn

from kdops.config.datasets import DatasetSpec
from kdops.config.sources import NormalizedBy, WeightsFile
from kdops.data.dataset import Dataset
from kdops.data.examples import in_blocks
from kdops.data.tabular.rows import Encoding
from kdops.distillation.sources import FromProbabilities
from kdops.errors import KdopsError, UsageError
from kdops.models.classifier import digest_of
from kdops.packaging.loading import load_stored
from kdops.packaging.program import load_program
from kdops.packaging.row_models import FLAVORS, Predictor, answers_for_rows
from kdops.packaging.weights_file import Logits, load_weights_file, normalized
from kdops.store.artifacts import downloaded_model
from kdops.store.faults import first_line
from kdops.utils.quiet import env_var
from kdops.utils.text import first_few

PICKLE = "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"

ROWS = "a model of rows"

UNPICKLED = (
    "it is a pickle, which kdops never loads; save the weights alone, torch.save(model.state_dict(), 'teacher.pt'), "
    "and give source=teacher.pt source_model=module:function"
)

PICKLED_CODE = (
    "it is a pickle, which kdops never loads; log its code as a file instead, "
    "mlflow.pyfunc.log_model(python_model='code.py'), which trust=true runs"
)

SEEN = 256
"""Number of images on which the outputs of a network are examined."""


class PythonFunction(nn.Module):
    """Somebody's Python code behind MLflow's pyfunc, as a network: uint8 images to numbers, on the CPU."""

    def __init__(self, model: PyFuncModel):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return the code's output as float32; arrays, data frames and lists of numbers are understood."""
        given: np.ndarray = np.asarray(self.model.predict(images.cpu().numpy()))
        return torch.from_numpy(given.astype(np.float32)).to(images.device)


@dataclass(frozen=True, eq=False)
class Target:
    """What a source is loaded for.

    Attributes:
        data: what it must classify.
        origin: where the data come from: models of rows are asked with these.
        normalize: what a program of floats is given.
        trust: run the Python code of a model that is no program.
    """

    data: Dataset
    origin: DatasetSpec
    normalize: NormalizedBy
    trust: bool


def load_classifier(uri: str, data: Dataset, parameter: str = "model") -> nn.Module:
    """Load a registered model as a classifier of a data set: uint8 images to logits.

    Programs that were exported by PyTorch (pt2) are loaded; whatever the environment allows, no pickle is.

    Args:
        data: the data set; the model is tried on its first images.
        parameter: what the caller calls the model.

    Raises:
        KdopsError: its files are gone or damaged.
        UsageError: it is neither, has other classes, or its input or output is of another kind.
    """
    net, info = _load(uri, parameter, trust=False)
    return _tried(net, uri, data, parameter, _described(info, uri, data, parameter))


def load_source(uri: str, target: Target, votes: bool) -> nn.Module:
    """Load a model to distill from: uint8 images to logits, or of a model of rows the logits of every row.

    Of one that returns probabilities their logarithms are taken.

    Args:
        target: what it is loaded for.
        votes: it is an ensemble of kdops.

    Raises:
        UsageError: it cannot be loaded, or does not fit the data.
    """
    data = target.data
    if votes:
        loaded = load_stored(MlflowClient(), uri)
        if loaded.classes != tuple(data.classes) or loaded.shape != tuple(data.shape):
            raise UsageError("source", uri, f"has other classes or images than {data.name}")
        return FromProbabilities(loaded.module, 1)
    if data.encoding and (predictor := _row_model(uri, target)):
        columns = [column.name for column in Encoding.from_json(data.encoding).columns]
        return answers_for_rows(uri, predictor, data, target.origin, columns)
    net, info = _load(uri, "source", target.trust)
    if _takes_floats(info):
        net = normalized(net, data, target.normalize)
    return as_logits(_tried(net, uri, data, "source", _described(info, uri, data, "source")), data)


def load_weights(file: WeightsFile, data: Dataset) -> nn.Module:
    """Load a trained network from a file of weights: uint8 images to logits.

    Raises:
        UsageError: it cannot be loaded, or does not fit the data.
    """
    return as_logits(_tried(load_weights_file(file, data), file.path, data, "source"), data)


def as_logits(network: nn.Module, data: Dataset) -> nn.Module:
    """Return a classifier of logits; of one that returns probabilities one of their logarithms."""
    with torch.no_grad():
        given = network(torch.from_numpy(np.array(data.images[:SEEN])))
    # Logits that happen to lie so on hundreds of images are as good as none.
    are_shares = bool((given >= 0).all()) and torch.allclose(given.sum(dim=1), torch.ones(len(given)), atol=1e-4)
    return FromProbabilities(network) if are_shares else network


def digest_of_network(network: nn.Module, images: np.ndarray, rows: np.ndarray) -> str:
    """Return the digest of a network's weights and of what it returns: equal weights may be used in different ways.

    Args:
        network: from uint8 images to logits.
        images: uint8 ``[N, C, H, W]``.
        rows: what it is asked about.
    """
    with torch.no_grad():
        given = [network(block) for block in in_blocks(images, rows, SEEN)]
    return digest_of({**network.state_dict(), "given": torch.cat(given)})


def takes_floats(uri: str) -> bool:
    """Return whether a model is a program of one tensor of floats, which is given normalized images.

    Raises:
        UsageError: the model is not there.
    """
    with _explained(uri, "source", "a model"):
        return _takes_floats(get_model_info(uri))


def _takes_floats(info: ModelInfo) -> bool:
    inputs = info.signature.inputs.inputs if info.signature and info.signature.inputs else []
    return "pytorch" in info.flavors and len(inputs) == 1 and np.dtype(inputs[0].type).kind == "f"


def _described(info: ModelInfo, uri: str, data: Dataset, parameter: str) -> str:
    """Return what a model takes, for an error; empty where MLflow does not know.

    Raises:
        UsageError: it has other classes.
    """
    classes = (info.metadata or {}).get("class_names")
    if classes is not None and list(map(str, classes)) != list(data.classes):
        raise UsageError(parameter, uri, f"has other classes than {data.name}: {first_few(classes)}")
    return f"; it takes {info.signature.inputs}" if info.signature else ""


def _tried(net: nn.Module, uri: str, data: Dataset, parameter: str, takes: str = "") -> nn.Module:
    """Return a network that gives one number a class for the images of the data, tried on the first of them.

    Raises:
        UsageError: its input or output is of another kind.
    """
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
        if not isinstance(given, torch.Tensor) and isinstance(getattr(given, "logits", _item(given)), torch.Tensor):
            return _tried(Logits(net), uri, data, parameter, takes)
        if not isinstance(given, torch.Tensor):
            raise UsageError(parameter, uri, f"must give {wanted}, not {type(given).__name__}{takes}")
        if not given.is_floating_point() or given.shape != (count, len(data.classes)):
            kind = str(given.dtype).removeprefix("torch.")
            raise UsageError(parameter, uri, f"must give {wanted}, not {kind} {list(given.shape)}{takes}")
    return net


def _item(given: object) -> object:
    return given.get("logits") if isinstance(given, Mapping) else None


def _row_model(uri: str, target: Target) -> Predictor | None:
    """Return a model that predicts on the rows of a table; None for one that takes what networks take."""
    with _explained(uri, "source", ROWS):
        info = get_model_info(uri)
        flavor = next((name for name in FLAVORS if name in info.flavors), "")
        if flavor:
            with downloaded_model(uri) as folder:
                return FLAVORS[flavor](folder, info.flavors[flavor], target.trust)
        if target.trust and "pytorch" not in info.flavors and "python_function" in info.flavors:
            return Predictor(mlflow.pyfunc.load_model(uri).predict, "unknown")
    return None


def _load(uri: str, parameter: str, trust: bool) -> tuple[nn.Module, ModelInfo]:
    with _explained(uri, parameter, "a PyTorch program (pt2)"):
        info = get_model_info(uri)
        if "pytorch" in info.flavors:
            with downloaded_model(uri) as folder:
                return load_program(_program(folder, info.flavors["pytorch"])), info
    with _explained(uri, parameter, "a Python function"):
        if trust and "python_function" in info.flavors:
            return PythonFunction(mlflow.pyfunc.load_model(uri)), info
    if flavor := next((name for name in FLAVORS if name in info.flavors), ""):
        raise UsageError(parameter, uri, f"is a model of {flavor}, which predicts on the rows of a table")
    raise UsageError(
        parameter,
        uri,
        "cannot be loaded as a PyTorch program (pt2): it is somebody's Python code, which only runs with trust=true",
    )


@contextmanager
def _explained(uri: str, parameter: str, what: str) -> Iterator[None]:
    """Load nothing from a pickle, and report in one line why a model cannot be loaded.

    Raises:
        UsageError: it cannot be.
    """
    with env_var(PICKLE, "false"):
        try:
            yield
        except KdopsError:
            raise
        except Exception as error:
            advice = PICKLED_CODE if what == ROWS else UNPICKLED
            reason = advice if PICKLE in str(error) else first_line(error, 200)
            raise UsageError(parameter, uri, f"cannot be loaded as {what}: {reason}") from error


def _program(folder: Path, flavor: dict[str, object]) -> Path:
    """Return the exported program in a model's folder; a pickle, or code that lies beside it, is never looked at."""
    path = (folder / str(flavor.get("model_data", "data")) / "model.pt2").resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise FileNotFoundError(f"its PyTorch flavor has no exported program; {UNPICKLED}")
    return path
