"""Models as MLflow folders, written without pickle and without exporting each one anew.

``mlflow.pytorch.save_model`` exports and checks a network in about a tenth of a second or more; members of a
sweep differ only in their weights. So one folder an architecture is made by MLflow itself, and every member's
folder is that one with other weights in the exported program and its own identity in ``MLmodel``.
Beside the program lies ``weights.safetensors``, from which a source is rebuilt: an exported program can
neither train nor move to another device.
``mlflow.pytorch`` loads the program itself; what ``mlflow.pyfunc`` loads, and MLflow serves, is
:mod:`kdops.packaging.served_model` around it, since a bare program can neither name classes nor refuse a request in
plain words.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow.pytorch
import numpy as np
import yaml
from mlflow.models import ModelSignature
from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kdops.data import pixels
from kdops.models.classifier import Classifier, digest_of
from kdops.packaging.program_file import VIEWS, ProgramFile
from kdops.packaging.tabular import take_rows
from kdops.store.artifacts import FILES, damaged_model_error, file_digests
from kdops.store.faults import first_line
from kdops.utils.files import set_usual_mode, temporary_folder
from kdops.utils.quiet import silenced, without_warning
from kdops.utils.versions import installed_version

WEIGHTS = "weights.safetensors"
EXPORTED = Path("data") / "model.pt2"
GRAPH_BYTES = 1_000_000
"""Enough for all that a model's folder has beside weights."""

CODE = Path(__file__).with_name("served_model.py")
"""What is run where a model is loaded; only its text is used here."""

OPENER = Path(__file__).with_name("program.py")
"""What opens the program there."""

READER = Path(pixels.__file__)
"""What reads image files there."""

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""Both write the same; the one in C is many times faster, but not built everywhere."""


class Packager:
    """Writes model folders of one architecture.

    Args:
        net: any network of the architecture; only its shape matters.
        metadata: stored in ``MLmodel``; its ``class_names`` are as many as the classes.
    """

    def __init__(self, net: Classifier, image_shape: tuple[int, int, int], metadata: dict[str, Any]):
        with temporary_folder() as made:
            template = made / "model"
            check_room(made, [net.state_dict()])
            with quiet():
                self._save_template(template, net, image_shape, len(metadata["class_names"]), metadata)
            for code in (CODE, OPENER, *([] if "table" in metadata else [READER])):
                shutil.copy(code, template)
            self._program = ProgramFile(template / EXPORTED)
            (template / EXPORTED).unlink()
            described = _served(yaml.safe_load((template / "MLmodel").read_text()))
            self._description = take_rows(template, described)
            paths = [path for path in template.rglob("*") if path.is_file()]
            self._files = {path.relative_to(template): path.read_bytes() for path in paths}

    def _save_template(self, template, net, image_shape, classes, metadata) -> None:
        # Two images: a batch of one would be built into the exported program as its only size.
        example = np.zeros((2, *image_shape), dtype=np.uint8)
        mlflow.pytorch.save_model(
            net.eval(),
            template,
            signature=signature_of(image_shape, classes, [("output", "logits")]),
            input_example=example,
            pip_requirements=requirements(),
            metadata=metadata,
        )

    def write(self, folder: Path, state: dict[str, Tensor], *, model_id: str, run_id: str, location: str) -> None:
        """Write one model's folder."""
        check_room(folder.parent, [state])
        (folder / EXPORTED).parent.mkdir(parents=True)
        for name, content in self._files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        self._program.write(folder / EXPORTED, state)
        save_weights(state, folder / WEIGHTS)
        write_mlmodel(folder, self._description, model_id=model_id, run_id=run_id, location=location)


def save_weights(state: dict[str, Tensor], path: Path) -> None:
    """Write weights as safetensors, in a file that others may read as they may any other."""
    save_file(state, path)
    set_usual_mode(path)


def check_room(folder: Path, states: Iterable[Mapping[str, Tensor]]) -> None:
    """See that there is room for a model before torch writes it: its writer aborts the process where there is none.

    Args:
        folder: where the model, or a folder of it, is to be written.
        states: the weights of its networks.

    Raises:
        OSError: there is no room, or a file may not become so large.
    """
    # Program and weights hold every value once each; the rest is the graph and the remarks about it.
    size = 2 * sum(value.nbytes for state in states for value in state.values()) + GRAPH_BYTES
    if not hasattr(os, "posix_fallocate"):
        return
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(folder)) from error


def signature_of(image_shape: tuple[int, int, int], classes: int, params: Sequence[tuple[str, str]]) -> ModelSignature:
    """Return the signature of a model: input uint8 images ``[N, C, H, W]``, output float32 ``[N, classes]``.

    Args:
        params: the parameters of a prediction: names and defaults.
    """
    return ModelSignature(
        Schema([TensorSpec(np.dtype("uint8"), (-1, *image_shape))]),
        Schema([TensorSpec(np.dtype("float32"), (-1, classes))]),
        ParamSchema([ParamSpec(name, "string", default) for name, default in params]),
    )


def requirements() -> list[str]:
    """Return what a model needs to be served; MLflow would otherwise spend many seconds on finding it out."""
    return [f"{name}=={installed_version(name)}" for name in ("mlflow", "numpy", "pandas", "pillow", "torch")]


def _served(description: dict[str, Any]) -> dict[str, Any]:
    """Let ``mlflow.pyfunc`` run ``CODE`` where it would have called the program."""
    flavor = description["flavors"]["python_function"]
    program = EXPORTED.as_posix()
    served = {
        **{name: flavor[name] for name in ("env", "python_version")},
        "artifacts": {"network": {"path": program, "uri": program}},
        "loader_module": "mlflow.pyfunc.model",
        "model_code_path": CODE.name,
        "streamable": False,
    }
    return {**description, "flavors": {**description["flavors"], "python_function": served}}


def write_mlmodel(folder: Path, description: dict[str, Any], *, model_id: str, run_id: str, location: str) -> None:
    """Write ``MLmodel`` into a folder that is otherwise whole, with the model's own identity.

    Args:
        description: the content of ``MLmodel`` apart from that.
    """
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    described = {
        **description,
        # The code checks what it is given; this keeps MLflow from converting it before.
        "is_signature_from_type_hint": True,
        "artifact_path": location,
        "model_id": model_id,
        "model_uuid": model_id.removeprefix("m-"),
        "model_size_bytes": size,
        "run_id": run_id,
        "metadata": {**description["metadata"], FILES: file_digests(folder)},
    }
    (folder / "MLmodel").write_text(yaml.dump(described, Dumper=DUMPER, sort_keys=True))


@contextmanager
def quiet() -> Iterator[None]:
    """Silence remarks of no use to the user: that pip has no version here, that weights are views."""
    names = [f"mlflow.{name}" for name in ("utils.environment", "utils.uv_utils", "pyfunc")]
    # The warnings first: in one thread at a time the levels of the loggers are restored in turn too.
    with without_warning(VIEWS), silenced(*names, level=logging.ERROR):
        yield


def read_weights(folder: Path, uri: str = "", digest: str = "") -> dict[str, Tensor]:
    """Read the weights of a model's folder, on the CPU.

    Args:
        folder: where they lie.
        uri: the model that an error names; empty for the folder itself.
        digest: their :func:`~kdops.models.classifier.digest_of` when they were stored; empty where it is
            not known.

    Raises:
        KdopsError: they cannot be read, or are not those that were stored.
    """
    try:
        weights = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise damaged_model_error(uri or str(folder), f"{WEIGHTS} cannot be read ({first_line(error)})") from error
    if digest and (found := digest_of(weights)) != digest:
        raise damaged_model_error(
            uri or str(folder), f"the digest of its weights is {found[:12]}..., and was {digest[:12]}..."
        )
    return weights
