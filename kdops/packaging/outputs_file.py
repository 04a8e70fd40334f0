"""Outputs of a network in a file, for images that are known by their digest or by their name.

A file of NumPy (.npz) has the arrays ``logits`` or ``probabilities``, float ``[N, classes]``, ``digests`` or ``names``
of the images, and may have ``classes``, and ``rows``: the place of each in the data, counted from 0, which tells equal
images apart. One of safetensors has the first and ``rows`` as tensors, ``digests`` uint8 ``[N, 32]``, and
``names`` and ``classes`` as JSON lists in its header. A digest is the SHA-256 of an image's uint8 ``[C, H, W]``.
Where the model was chosen on the test images, ``select_on`` says ``test``, as an array or in the header.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import nn

from kdops.config.sources import SAFETENSORS, OutputsFile
from kdops.data.dataset import Dataset
from kdops.data.examples import in_blocks
from kdops.distillation.sources import RowOutputs
from kdops.errors import UsageError
from kdops.store.faults import first_line
from kdops.utils.files import replace_file
from kdops.utils.text import first_few

__all__ = ["agreement_with_labels", "digests_of", "is_chosen_on_test", "load_outputs", "outputs_of", "write_outputs"]

BYTES = 32
"""Of a SHA-256."""
TOLERANCE = 1e-3
"""How far the probabilities of an image may be from summing to 1."""

Refuse = Callable[[str], UsageError]
"""Makes an error from what is wrong with a file."""


@dataclass(frozen=True)
class _Outputs:
    logits: np.ndarray
    shares: bool
    digests: np.ndarray | None
    names: Sequence[str]
    classes: Sequence[str]
    rows: np.ndarray | None


def load_outputs(file: OutputsFile, data: Dataset, names: Sequence[str], needed: np.ndarray) -> RowOutputs:
    """Load stored outputs, checked against the data.

    Args:
        file: the file.
        data: the data set.
        names: what its images are called, row by row; empty where they have no names.
        needed: the rows whose outputs must be there.

    Raises:
        UsageError: it is no such file, or has other images or classes.
    """

    def refuse(problem: str) -> UsageError:
        return UsageError("source", file.path, problem)

    stored = _read(file.path, refuse)
    if stored.classes and list(stored.classes) != list(data.classes):
        raise refuse(f"is of the classes {first_few(stored.classes)}, and {data.name} has {first_few(data.classes)}")
    if stored.logits.shape[1] != len(data.classes):
        raise refuse(f"has outputs for {stored.logits.shape[1]} classes, and {data.name} has {len(data.classes)}")
    found = _places(stored, data, names, refuse)
    if len(lacking := needed[found[needed] < 0]):
        first = names[lacking[0]] if names else f"row {lacking[0]} of the data"
        problem = f"lacks {len(lacking):,} of the {len(needed):,} images that students learn from, such as {first}"
        raise refuse(problem)
    logits = np.where((found >= 0)[:, None], stored.logits[found], np.nan).astype(np.float32)
    return RowOutputs(torch.from_numpy(logits), stored.shares)


def _places(stored: _Outputs, data: Dataset, names: Sequence[str], refuse: Refuse) -> np.ndarray:
    """Return where a file has the outputs of each image, int ``[N]``; -1 for nowhere.

    Rows of a table may have one digest and other values, as they are encoded in steps: these are told apart by the
    places that the file gives.

    Raises:
        UsageError: outputs cannot be assigned to their images.
    """
    own = digests_of(data.images)
    if stored.digests is not None:
        keys, wanted, what = [one.hex() for one in _rows(stored.digests)], [one.hex() for one in _rows(own)], "digest"
    elif names:
        keys, wanted, what = list(stored.names), list(names), "name"
    else:
        raise refuse(f"names its images, and those of {data.name} have no names; give digests, as kdops outputs does")
    place = {key: number for number, key in reversed(list(enumerate(keys)))}
    if what == "name" and len(place) < len(keys):
        raise refuse("names an image twice")
    first = stored.logits[[place[key] for key in keys]]
    if len(other := np.flatnonzero(~np.isclose(first, stored.logits, rtol=TOLERANCE, atol=TOLERANCE).all(axis=1))):
        if stored.rows is not None and stored.digests is not None:
            return _given_places(stored.digests, stored.rows, own, refuse)
        problem = (
            f"has different outputs for the digest {keys[other[0]]}, and {len(other)} such {data.unit}; give rows too, "
            "the place of each in the data counted from 0, as kdops outputs does"
        )
        raise refuse(problem)
    found = np.array([place.get(key, -1) for key in wanted])
    if (found < 0).all():
        example = f"{keys[0]} and the data such as {wanted[0]}"
        raise refuse(f"has none of the {len(found):,} images of {data.name} by its {what}: it has such as {example}")
    return found


def _given_places(digests: np.ndarray, rows: np.ndarray, own: np.ndarray, refuse: Refuse) -> np.ndarray:
    """Return where a file has the outputs of each image, by the places that it gives and checks by its digests."""
    if len(np.unique(rows)) < len(rows) or rows.min() < 0 or rows.max() >= len(own):
        raise refuse(f"must have rows as places in the data, each once and from 0 to {len(own) - 1:,}")
    if len(other := np.flatnonzero((digests != own[rows]).any(axis=1))):
        raise refuse(
            f"has the digest of another image for row {rows[other[0]]} of the data, and {len(other)} such rows"
        )
    found = np.full(len(own), -1)
    found[rows] = np.arange(len(rows))
    return found


def _rows(digests: np.ndarray) -> list[bytes]:
    return [one.tobytes() for one in digests]


def write_outputs(
    path: Path,
    logits: np.ndarray,
    digests: np.ndarray,
    names: Sequence[str],
    classes: Sequence[str],
    rows: np.ndarray,
    select_on: str = "validation",
) -> None:
    """Write a file of outputs.

    Args:
        path: the file, .npz or .safetensors.
        logits: float32 ``[N, classes]``.
        digests: of the images, uint8 ``[N, 32]``.
        names: of the images; empty for none.
        classes: the class names.
        rows: the place of each image in the data, int ``[N]``.
        select_on: what the model was chosen on, ``validation`` or ``test``.
    """
    chosen = {"select_on": select_on} if select_on == "test" else {}
    with replace_file(path, path.suffix) as part:
        if path.suffix.lower() == SAFETENSORS:
            header = {"classes": json.dumps(list(classes)), **chosen}
            header |= {"names": json.dumps(list(names))} if names else {}
            save_file({"logits": logits, "digests": digests, "rows": rows}, part, header)
        else:
            arrays = {"logits": logits, "digests": digests, "rows": rows, "classes": np.array(list(classes))}
            named = {"names": np.array(list(names))} if names else {}
            named |= {name: np.array(text) for name, text in chosen.items()}
            # An open file: to a path that does not end in .npz, such as .NPZ, numpy would add it.
            with part.open("wb") as file:
                np.savez_compressed(file, allow_pickle=False, **arrays, **named)


def is_chosen_on_test(file: OutputsFile) -> bool:
    """Return whether a file says that the model of its outputs was chosen on the test images; it could be loaded."""
    place = Path(file.path).expanduser()
    if file.path.lower().endswith(SAFETENSORS):
        with safe_open(place, framework="numpy") as tensors:
            return (tensors.metadata() or {}).get("select_on") == "test"
    with np.load(place, allow_pickle=False) as archive:
        return "select_on" in archive.files and str(archive["select_on"]) == "test"


@torch.inference_mode()
def outputs_of(network: nn.Module, data: Dataset) -> np.ndarray:
    """Return the logits of a source for all images of a data set, float32 ``[N, classes]``."""
    if isinstance(network, RowOutputs):
        return network.logits.numpy()
    given = [network(block) for block in in_blocks(data.images, np.arange(len(data.images)))]
    return torch.cat(given).float().numpy()


def digests_of(images: np.ndarray) -> np.ndarray:
    """Return the SHA-256 of images ``[N, ...]``, each uint8 in the order of its values, as uint8 ``[N, 32]``."""
    found = b"".join(hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in images)
    return np.frombuffer(found, dtype=np.uint8).reshape(-1, BYTES)


def agreement_with_labels(net: RowOutputs, data: Dataset) -> tuple[float, int]:
    """Return on which share of the images that are not test images the outputs agree with the labels, and their number.

    Images without known outputs do not count.
    """
    rows = np.flatnonzero(~data.test)
    rows = rows[net.knows(rows)]
    best = net(torch.from_numpy(rows)).argmax(dim=1).numpy()
    return float((best == data.labels[rows]).mean()) if len(rows) else float("nan"), len(rows)


def _read(path: str, refuse: Refuse) -> _Outputs:
    place = Path(path).expanduser()
    if not place.is_file():
        raise refuse("there is no such file")
    try:
        arrays = _tensors(place) if path.lower().endswith(SAFETENSORS) else _arrays(place)
    except UsageError:
        raise
    except Exception as error:
        raise refuse(f"cannot be read ({first_line(error, 200)})") from error
    kinds = [kind for kind in ("logits", "probabilities") if kind in arrays]
    if len(kinds) != 1:
        there = ", ".join(arrays) or "nothing"
        raise refuse(
            f"must have either logits or probabilities, and has {there}; of weights name the network: source_model=..."
        )
    values = np.asarray(arrays[kinds[0]])
    if values.ndim != 2 or not len(values) or values.dtype.kind != "f":
        raise refuse(f"must have {kinds[0]} as floats [images, classes], not {values.dtype} {values.shape}")
    with np.errstate(over="ignore"):
        finite = np.isfinite(values.astype(np.float32)).all()
    if not finite:
        raise refuse(f"has {kinds[0]} that are not finite as float32")
    shares = bool((values >= 0).all() and np.allclose(values.sum(axis=1), 1, atol=TOLERANCE))
    if kinds == ["probabilities"] and not shares:
        raise refuse("has probabilities that do not sum to 1 for each image")
    # Whatever they are called: logits do not lie so by chance.
    logits = np.log(values.clip(np.finfo(np.float32).tiny)) if shares else values
    digests, names = _digests(arrays.get("digests"), refuse), _texts(arrays, "names", refuse)
    keys = digests if digests is not None else names
    if len(keys) != len(values):
        raise refuse(f"has {len(values)} outputs and {len(keys)} digests or names of images")
    rows = np.asarray(arrays["rows"]) if "rows" in arrays else None
    if rows is not None and (rows.shape != (len(values),) or rows.dtype.kind not in "iu"):
        raise refuse(f"must have rows as whole numbers [images], not {rows.dtype} {rows.shape}")
    return _Outputs(logits, shares, digests, names, _texts(arrays, "classes", refuse), rows)


def _texts(arrays: Mapping[str, np.ndarray | list], name: str, refuse: Refuse) -> list[str]:
    """Return names or classes; none where there are none."""
    try:
        found = np.asarray(arrays.get(name, []), dtype=str)
    except ValueError:
        found = np.array("")
    if found.ndim != 1:
        raise refuse(f"must have {name} as a list of text")
    return found.tolist()


def _digests(given: object, refuse: Refuse) -> np.ndarray | None:
    """Return digests as bytes, which may be written in hexadecimal; None where there are none."""
    if given is None:
        return None
    found = np.asarray(given)
    try:
        if found.dtype.kind in "US":
            found = np.frombuffer(bytes.fromhex("".join(map(str, found.astype(str)))), np.uint8).reshape(-1, BYTES)
    except ValueError:
        raise refuse("has digests that are no SHA-256 in hexadecimal") from None
    if found.dtype != np.uint8 or found.ndim != 2 or found.shape[1] != BYTES:
        raise refuse(f"must have digests as uint8 [images, {BYTES}] or as text, not {found.dtype} {found.shape}")
    return found


def _arrays(place: Path) -> dict[str, np.ndarray]:
    """Read a file of NumPy; objects, which would be unpickled, are refused by it."""
    with zipfile.ZipFile(place) as archive:
        size, room = sum(one.file_size for one in archive.infolist()), psutil.virtual_memory().available
    if size > room:
        raise ValueError(f"its {size / 1e9:.1f} GB do not fit into the free memory of {room / 1e9:.1f} GB")
    with np.load(place, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _tensors(place: Path) -> dict[str, np.ndarray | list]:
    with safe_open(place, framework="numpy") as file:
        header: Mapping[str, str] = file.metadata() or {}
        lists = {name: json.loads(header[name]) for name in ("names", "classes") if name in header}
        return {**{name: file.get_tensor(name) for name in file.keys()}, **lists}  # noqa: SIM118 - it is no dict
