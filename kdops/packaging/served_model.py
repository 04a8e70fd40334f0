"""A model as MLflow serves it. This file travels with each model and is run where the model is loaded.

So it needs nothing of kdops: the network, or the ensemble, is an exported program, which ``program.py`` beside it
opens, and class names and the shape of an image are in ``MLmodel``. Beside a table's model lies ``rows.py``, which
encodes its rows, beside one of images ``pixels.py``, which decodes image files.

MLflow leaves the checking of what it is given to this file: its own turns 1.7 into 1 without an error, and answers with
the whole request in front of the reason.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.util
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel

VOTES = ("majority", "probability")
"""The outputs of an ensemble's program, in this order."""

BLOCK = 512
"""Images at a time, which bounds the memory."""

MOST = 4096
"""Images, or rows, that one request may bring; arrays, which only come from Python, may be of any length."""


class Refused(MlflowException):
    """A request that cannot be answered, and why, in a sentence."""

    def __init__(self, reason: str):
        super().__init__(reason, INVALID_PARAMETER_VALUE)

    @property
    def message(self) -> str:
        """The sentence; MLflow's server would put the whole request in front of it."""
        return str(self)

    @message.setter
    def message(self, _: str) -> None:
        pass


class ServedModel(PythonModel):
    """A network, or members that vote."""

    def load_context(self, context):
        """Load the program, and read what it takes and what its classes are called.

        Raises:
            MlflowException: a file is not the one that was stored; a program with a flipped bit loads without an error.
            ValueError: the program holds something that would run code.
        """
        _refuse_long_numbers()
        ((kind, program),) = ((k, path) for k, path in context.artifacts.items() if k in ("network", "ensemble"))
        folder = Path(program).parents[1]
        described = Model.load(str(folder))
        metadata = described.metadata or {}
        _check(folder, metadata.get("files", {}))
        self.program = _code(folder / "program.py").load_program(Path(program))
        self.classes = list(metadata["class_names"])
        table = metadata.get("table")
        self.encoding = _code(folder / "rows.py").Encoding.from_json(table) if table else None
        self.shape = (self.encoding.width, 1, 1) if self.encoding else _image_shape(described)
        self.read = None
        if not table:
            upright = bool(metadata.get("upright", False))
            self.read = functools.partial(_code(folder / "pixels.py").pixels_of_bytes, upright=upright)
        self.votes = kind == "ensemble"
        self.outputs = ("scores" if self.votes else "logits", "probabilities", "classes")

    def predict(self, context, model_input: np.ndarray, params=None):
        """Return the model's output for each image.

        Args:
            model_input: uint8 images ``[N, C, H, W]``, or whole numbers from 0 to 255 in nested lists; also a table
                with one row an image, its pixels in columns or as a list in the only column; or image files of any
                size, such as JPEG and PNG, as base64: one text, or a list of them. Of a model of a table
                its rows: a data frame, or a dict by column for each; an array of encoded rows is taken too.
            params: ``output``, and of an ensemble ``vote``: ``majority`` (the members' votes, ties by mean
                probability) or ``probability`` (the mean probability).

        Returns:
            By ``output``: ``logits``, the default, as float32 ``[N, classes]``; of an ensemble ``scores``, of which
            the highest is of the class that is chosen, and which sum to 1; ``probabilities``, a table with one column
            a class, which for an ensemble are the scores; ``classes``, a table of ``class`` and ``probability``.

        Raises:
            MlflowException: the images or a parameter are not what they should be.
        """
        output = _chosen(params, "output", self.outputs)
        remarks: dict[int, str] = {}
        vote = VOTES.index(_chosen(params, "vote", VOTES)) if self.votes else 0
        if self.encoding and not isinstance(model_input, np.ndarray):
            model_input = _encoded(model_input, self.encoding, remarks)
        elif not self.encoding and (files := _files(model_input)):
            model_input = np.stack([_decoded(file, row, self.shape, self.read) for row, file in enumerate(files)])
        images = torch.from_numpy(_images(model_input, self.shape))
        with torch.inference_mode():
            # No images are a block of none, which the program answers in the right shape.
            blocks = [self.program(block) for block in images.split(BLOCK)]
            scores = torch.cat([block[vote] for block in blocks] if self.votes else blocks)
            if output == self.outputs[0]:
                return scores.numpy()
            probabilities = scores if self.votes else scores.softmax(dim=1)
        if output == "probabilities":
            return pd.DataFrame(probabilities.numpy(), columns=self.classes)
        highest, place = probabilities.max(dim=1)
        named = pd.DataFrame({"class": [self.classes[p] for p in place.tolist()], "probability": highest.numpy()})
        # Only where there is one: most who ask know two columns.
        return named.assign(remark=[remarks.get(row, "") for row in range(len(named))]) if remarks else named


def _check(folder: Path, digests: dict[str, str]) -> None:
    """Compare the files that hold weights with the digests that the model stores of them."""
    for name, digest in digests.items():
        path = folder / name
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
        if found != digest:
            raise MlflowException(
                f"{name} of this model is damaged, so it is not served: it was {digest}, and is {found}"
            )


def _refuse_long_numbers() -> None:
    """Let MLflow's server answer 400 where a number has more digits than Python reads, or lists lie too deep in lists.

    Its reader (MLflow 3.17.2) takes only what :mod:`json` itself refuses for a mistake of the request.
    """
    server = sys.modules.get("mlflow.pyfunc.scoring_server")
    read = getattr(server, "_decode_json_input", None)
    if read is None or hasattr(read, "__wrapped__"):
        return

    @functools.wraps(read)
    def read_or_refuse(request):
        try:
            return read(request)
        except (ValueError, RecursionError) as error:
            raise Refused(f"the request cannot be read: {str(error).partition(';')[0]}") from None

    vars(server)["_decode_json_input"] = read_or_refuse


def _chosen(params: dict | None, name: str, allowed: tuple[str, ...]) -> str:
    value = (params or {}).get(name, allowed[0])
    if value not in allowed:
        raise Refused(f"{name}={value!s}: must be one of {', '.join(allowed)}")
    return value


def _image_shape(described: Model) -> tuple[int, ...]:
    """Return (channels, height, width) of the images that a signature names."""
    return tuple(described.signature.inputs.inputs[0].shape[1:])


def _code(path: Path):
    """Run a file of code that lies beside the model."""
    found = importlib.util.spec_from_file_location(f"kdops_{path.stem}", path)
    if found is None or found.loader is None:
        raise ImportError(f"{path.name} is no file of Python code")
    module = importlib.util.module_from_spec(found)
    # Its dataclasses look their module up there.
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module


def _encoded(given: object, encoding, remarks: dict[int, str]) -> np.ndarray:
    """Return the rows of a table as a model takes them, uint8 ``[N, width, 1, 1]``; note what is odd about a row."""
    names = ", ".join(column.name for column in encoding.columns[:5]) + ", ..." * (len(encoding.columns) > 5)
    wanted = f"inputs: must be rows, each with a value by the name of each of {len(encoding.columns)} columns ({names})"
    if not isinstance(given, list | pd.DataFrame):
        raise Refused(wanted)
    if len(given) > MOST:
        raise Refused(f"inputs: at most {MOST} rows in one request, not {len(given)}; send the others in another one")
    try:
        return encoding.encode(given, remark=remarks.setdefault)
    except ValueError as error:
        raise Refused(f"inputs: {error}" if hasattr(error, "row") else wanted) from None


def _files(given: object) -> list[str]:
    """Return the image files that a request brings as text; none where it brings something else."""
    if isinstance(given, pd.DataFrame):
        given = given.iloc[:, 0].tolist() if given.shape[1] == 1 else []
    files = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    if not all(isinstance(file, str) for file in files):
        return []
    if len(files) > MOST:
        raise Refused(f"inputs: at most {MOST} images in one request, not {len(files)}; send the others in another one")
    return files


def _decoded(file: str, row: int, shape: tuple[int, ...], read) -> np.ndarray:
    """Return an image file, as base64, as a network takes it, uint8 ``[C, H, W]``."""
    if shape[0] not in (1, 3):
        raise Refused(
            f"inputs: must be images [N, {', '.join(map(str, shape))}]; no image file has {shape[0]} channels"
        )
    try:
        return read(base64.b64decode(file, validate=True), shape)
    except ValueError as error:
        reason = "is no base64 of an image file" if type(error) is not ValueError else str(error)
        raise Refused(f"inputs: image {row} {reason}") from None


def _images(given: object, shape: tuple[int, ...]) -> np.ndarray:
    """Return images as uint8 ``[N, C, H, W]``; ``shape`` is (C, H, W)."""
    wanted = f"inputs: must be images [N, {', '.join(map(str, shape))}] of whole numbers from 0 to 255"
    if isinstance(given, list | pd.DataFrame) and len(given) > MOST:
        raise Refused(f"inputs: at most {MOST} images in one request, not {len(given)}; send the others in another one")
    if isinstance(given, list) and not given:
        return np.zeros((0, *shape), np.uint8)
    try:
        if isinstance(given, pd.DataFrame):
            rows = given.iloc[:, 0].tolist() if given.shape[1] == 1 else given.to_numpy()
            given = np.asarray(rows).reshape(len(given), *shape)
        images = np.asarray(given)
    except (ValueError, RecursionError, OverflowError):
        raise Refused(f"{wanted}; these are not all of one shape, or no numbers") from None
    if images.dtype.kind not in "uif":
        raise Refused(f"{wanted}; some are no numbers, or far too large")
    if images.shape[1:] != shape or images.ndim != len(shape) + 1:
        raise Refused(f"{wanted}; the shape of these is {list(images.shape)}")
    if images.dtype != np.uint8:
        # Not the other way round: a comparison with nan is false.
        wrong = images[~((images >= 0) & (images <= 255) & (images == np.floor(images)))]
        if wrong.size:
            raise Refused(f"{wanted}; one of them is {wrong[0]:g}")
    return np.ascontiguousarray(images, dtype=np.uint8)


mlflow.models.set_model(ServedModel())
