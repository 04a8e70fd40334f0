"""A registered model, loaded to be looked at: exported, timed, asked.

It is built anew from its weights, and so runs no code that lies beside them, and an ensemble is timed like its members.
Only a network of the caller's own code, which may be gone, and an ensemble with members that kdops did not build are
their stored programs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mlflow import MlflowClient
from mlflow.models import Model
from torch import Tensor, nn

from kdops.config.architectures import FAMILIES, FunctionNet, parse_architecture
from kdops.config.uris import ModelUri
from kdops.data.tabular.rows import Encoding
from kdops.errors import KdopsError
from kdops.models.classifier import build, digest_of
from kdops.packaging.ensemble import digest_of_members
from kdops.packaging.folder import EXPORTED, read_weights
from kdops.packaging.program import load_program
from kdops.packaging.vote import Tally, Vote
from kdops.store.artifacts import damaged_model_error, downloaded_model
from kdops.store.faults import explained, first_line
from kdops.sweeps import schema

ARTIFACTS, PROGRAM, MEMBERS = "artifacts", "ensemble.pt2", "members.json"
"""Of an ensemble; see :mod:`kdops.packaging.ensemble`."""

BLOCK = 512
"""Images at a time, which bounds the memory."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model in memory.

    Attributes:
        module: from uint8 images ``[N, C, H, W]`` to logits ``[N, classes]``; of an ensemble to two of these, the
            scores of its votes and the members' mean probabilities.
        votes: it is an ensemble.
        classes: the class names.
        shape: (channels, height, width) of an image.
        size: bytes of what is stored of it, all files together.
        encoding: how the rows of a table become its images; None where it takes images.
        upright: photos are turned as their EXIF orientation says.
    """

    module: nn.Module
    votes: bool
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    size: int
    encoding: Encoding | None = None
    upright: bool = False

    @torch.inference_mode()
    def probabilities(self, images: Tensor) -> Tensor:
        """Return the probabilities ``[N, classes]`` of uint8 images ``[N, C, H, W]``; of an ensemble its scores."""
        given = [self.module(part) for part in images.split(BLOCK)]
        return torch.cat([one[0] if self.votes else one.softmax(dim=1) for one in given])

    def classify(self, values: np.ndarray) -> np.ndarray:
        """Return :meth:`probabilities` of an array, as an array."""
        return self.probabilities(torch.from_numpy(values)).numpy()


def load_stored(client: MlflowClient, uri: str) -> Loaded:
    """Load a registered model of kdops. Raises KdopsError if its files are not there, or cannot be read."""
    given = ModelUri.parse(uri)
    found = client.get_model_version(given.name, given.version)
    try:
        # By its logged model: the registry may be another store than the one that has the files.
        with downloaded_model(found.source or uri, client.tracking_uri) as folder:
            return _read(folder, uri, _digest(client, found.run_id))
    except KdopsError:
        raise
    except Exception as error:
        if explanation := explained(error, client.tracking_uri):
            raise explanation from error
        raise KdopsError(f"the files of {uri} cannot be read: {first_line(error)}") from error


def load_weights(uri: str, digest: str) -> dict[str, Tensor]:
    """Return the weights of a stored model, on the CPU.

    Args:
        digest: of its weights, as its run has it.

    Raises:
        KdopsError: its files are gone, or are not those that were stored.
    """
    with downloaded_model(uri) as folder:
        return read_weights(folder, uri, digest)


def _digest(client: MlflowClient, run_id: str | None) -> str:
    """Return the digest of a model's weights as its run has it; empty where there is none."""
    return client.get_run(run_id).data.tags.get(schema.WEIGHTS, "") if run_id else ""


def _read(folder: Path, uri: str, digest: str) -> Loaded:
    described = Model.load(str(folder))
    metadata = described.metadata or {}
    classes = tuple(map(str, metadata["class_names"]))
    encoding = Encoding.from_json(metadata["table"]) if "table" in metadata else None
    shape = (encoding.width, 1, 1) if encoding else tuple(described.signature.inputs.inputs[0].shape[1:])
    votes = (folder / ARTIFACTS / PROGRAM).is_file()
    if votes:
        module = _ensemble(folder / ARTIFACTS, uri, shape, len(classes), digest)
    elif isinstance(parse_architecture(metadata["architecture"]), FunctionNet):
        module = load_program(folder / EXPORTED)
    else:
        module = _network(metadata["architecture"], read_weights(folder, uri, digest), shape, len(classes))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Loaded(module, votes, classes, shape, size, encoding, bool(metadata.get("upright", False)))


def _network(text: str, weights: dict[str, Tensor], shape: tuple[int, int, int], classes: int) -> nn.Module:
    # What an image is normalized with is among the weights.
    net = build(parse_architecture(text), shape, classes, torch.zeros(shape[0]), torch.ones(shape[0]))
    net.load_state_dict(weights)
    return net.eval()


def _ensemble(folder: Path, uri: str, shape: tuple[int, int, int], classes: int, digest: str) -> nn.Module:
    members = json.loads((folder / MEMBERS).read_text(encoding="utf-8"))["members"]
    if digest and digest_of_members([member["weights"] for member in members]) != digest:
        raise damaged_model_error(uri, f"{MEMBERS} names other members than those that were stored")
    if any(member["architecture"].partition("(")[0] not in FAMILIES for member in members):
        return load_program(folder / PROGRAM)
    weights: list[dict[str, Tensor]] = [{} for _ in members]
    for name, value in read_weights(folder, uri).items():
        place, _, own = name.partition(".")
        weights[int(place)][own] = value
    for number, (member, held) in enumerate(zip(members, weights, strict=True)):
        if digest and digest_of(held) != member["weights"]:
            raise damaged_model_error(uri, f"the digest of the weights of member {number} is another one")
    nets = [_network(m["architecture"], own, shape, classes) for m, own in zip(members, weights, strict=True)]
    return Tally(Vote(nets)).eval()
