"""Export models as files that run without kdops and MLflow: ONNX, and the pt2 of torch.export. Each is tried at once.

A format is a function that writes and one that reads back, in ``FORMATS``. int8 is available for ONNX only, by
onnxruntime's own quantization of weights; PyTorch leaves it to packages that change often.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdops.errors import KdopsError, UsageError
from kdops.packaging.latency import latency
from kdops.packaging.loading import Loaded
from kdops.store.faults import first_line
from kdops.utils.files import replace_file
from kdops.utils.quiet import silenced, without_warning

CLASSES = "class_names"
"""Under this name, with the ending ``.json`` in a pt2, lie the class names, as a JSON list."""

TABLE = "table"
"""Likewise how the rows of a table are encoded; :class:`kdops.data.tabular.rows.Encoding` reads it."""

TOLERANCE = 1e-4
"""How far an output may be off, as a share of the largest one where that is above 1."""

INT8_AGREEMENT = 0.95
"""The share of the images on which int8 weights must lead to the same class."""

Run = Callable[[Tensor], list[np.ndarray]]
"""From uint8 images ``[N, C, H, W]`` to the outputs, each ``[N, classes]``."""


@dataclass(frozen=True)
class Exported:
    """A file that was written and tried.

    Attributes:
        path: the file.
        size: its bytes.
        checked_with: what ran it.
        images: on how many images it was compared.
        difference: how far its output was off at most.
        agreement: the share of images on which it chose the same class.
        latency_1: seconds a call for one image, on one thread; nan where what ran it is not made for speed.
        latency_64: the same for 64 images.
    """

    path: Path
    size: int
    checked_with: str
    images: int
    difference: float
    agreement: float
    latency_1: float
    latency_64: float


def check_packages(name: str, int8: bool) -> None:
    """Check that a format can be written here. Raises UsageError if it needs packages that are not installed."""
    needed = {"onnx": ("onnx", "onnxscript", *(("onnxruntime",) if int8 else ()))}.get(name, ())
    if missing := [package for package in needed if find_spec(package) is None]:
        raise UsageError(
            "format",
            name,
            f"needs {' and '.join(missing)}; install with: uv sync --extra onnx, or pip install {' '.join(missing)}",
        )


def export_model(loaded: Loaded, name: str, path: Path, images: Tensor, int8: bool) -> Exported:
    """Export a model, run what was written, and compare.

    The file is there only once it has passed. Its input is ``images``, uint8 ``[N, C, H, W]``, N of any size; its
    output ``logits``, of an ensemble ``scores`` and ``probabilities``.

    Args:
        name: one of ``FORMATS``; see :func:`check_packages`.
        path: the file; one that is there is replaced.
        images: uint8 ``[N, C, H, W]`` to compare on, at least one.

    Raises:
        KdopsError: it cannot be exported, or its outputs differ from the model's; no file is left.
    """
    write, read = FORMATS[name]
    try:
        with replace_file(path, path.suffix) as part, _quiet():
            try:
                write(loaded, part)
                if int8:
                    _quantize(part)
                checked_with, run = read(part)
                found = _compare(loaded, run, images)
            except OSError:
                raise
            except Exception as error:
                raise KdopsError(f"the model cannot be exported as {name}: {first_line(error)}") from error
            _check(name, *found, largest=_largest(loaded, images), int8=int8)
            timed = checked_with != REFERENCE
            seconds = [latency(run, loaded.shape, size) if timed else float("nan") for size in (1, 64)]
    except OSError as error:
        raise KdopsError(f"{path} cannot be written: {error.strerror or error}") from error
    return Exported(path, path.stat().st_size, checked_with, len(images), *found, *seconds)


def _compare(loaded: Loaded, run: Run, images: Tensor) -> tuple[float, float]:
    """Return how far the outputs are off at most, and the share of images with the same class."""
    differences, same = [0.0], 0
    # One image at a time too, which some exports take for the only size there is.
    for batch in (images[:1], images):
        wanted, given = _outputs(loaded.module(batch)), run(batch)
        # Of an ensemble the mean probabilities: a vote that is nearly tied may turn with the last bit.
        differences.append(float(np.abs(wanted[-1] - given[-1]).max()))
        same = int((wanted[0].argmax(axis=1) == given[0].argmax(axis=1)).sum())
    # Not max(), which passes over nan.
    return float(np.max(differences)), same / len(images)


def _check(name: str, difference: float, agreement: float, *, largest: float, int8: bool) -> None:
    """Refuse a file whose outputs differ from the model's."""
    if int8 and not agreement >= INT8_AGREEMENT:
        problem = f"int8 weights choose the same class on {100 * agreement:.1f} % of the images"
        raise KdopsError(f"{problem}, fewer than {100 * INT8_AGREEMENT:.0f} %; nothing was written")
    allowed = TOLERANCE * max(1.0, largest)
    if not int8 and not difference <= allowed:
        problem = f"as {name} the model gives something else, off by up to {difference:.2g}"
        raise KdopsError(f"{problem}, more than {allowed:.2g}; nothing was written")


@torch.inference_mode()
def _largest(loaded: Loaded, images: Tensor) -> float:
    return float(np.abs(_outputs(loaded.module(images))[-1]).max())


def _outputs(given: Tensor | tuple[Tensor, ...]) -> list[np.ndarray]:
    return [one.detach().numpy() for one in (given if isinstance(given, tuple | list) else (given,))]


def _example(loaded: Loaded) -> tuple[Tensor]:
    # Two images: a batch of one would be built into the file as its only size.
    return (torch.zeros(2, *loaded.shape, dtype=torch.uint8),)


def _metadata(loaded: Loaded) -> dict[str, str]:
    """Return what goes with a file, as JSON: the class names, and how the rows of a table are encoded."""
    table = {TABLE: loaded.encoding.to_json()} if loaded.encoding else {}
    return {CLASSES: json.dumps(loaded.classes), **table}


def _write_pt2(loaded: Loaded, path: Path) -> None:
    program = torch.export.export(loaded.module, _example(loaded), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, path, extra_files={f"{name}.json": text for name, text in _metadata(loaded).items()})


def _read_pt2(path: Path) -> tuple[str, Run]:
    module = torch.export.load(path).module()
    return "torch.export", lambda images: _outputs(module(images))


def _write_onnx(loaded: Loaded, path: Path) -> None:
    program = torch.onnx.export(
        loaded.module,
        _example(loaded),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        input_names=["images"],
        output_names=["scores", "probabilities"] if loaded.votes else ["logits"],
        verbose=False,
    )
    assert program is not None, "the dynamo exporter returns a program"
    program.model.metadata_props.update(_metadata(loaded))
    program.save(str(path), external_data=False)


REFERENCE = "the onnx package's own evaluator"


def _read_onnx(path: Path) -> tuple[str, Run]:
    if find_spec("onnxruntime") is not None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return "onnxruntime", lambda images: list(map(np.asarray, session.run(None, {"images": images.numpy()})))
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(str(path))
    return REFERENCE, lambda images: list(map(np.asarray, evaluator.run(None, {"images": images.numpy()})))


def _quantize(path: Path) -> None:
    """Turn the weights of an ONNX file into int8; what they are multiplied with is quantized as it comes."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(str(path), str(path), weight_type=QuantType.QInt8)


FORMATS: dict[str, tuple[Callable[[Loaded, Path], None], Callable[[Path], tuple[str, Run]]]] = {
    "onnx": (_write_onnx, _read_onnx),
    "pt2": (_write_pt2, _read_pt2),
}
"""Every format: the function that writes it, and the one that reads it back and names its runtime."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the log and the warnings of the exporters."""
    with without_warning(), silenced("", level=logging.ERROR), torch.no_grad():
        yield
