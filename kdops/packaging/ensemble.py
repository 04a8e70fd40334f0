"""Ensembles as MLflow folders: a program of all members, their weights and their descriptions. Nothing is pickled."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import torch
import yaml
from torch import nn

from kdops.packaging.folder import (
    CODE,
    OPENER,
    READER,
    WEIGHTS,
    check_room,
    quiet,
    requirements,
    save_weights,
    signature_of,
    write_mlmodel,
)
from kdops.packaging.tabular import take_rows
from kdops.packaging.vote import Vote, export_vote
from kdops.sweeps.fingerprint import fingerprint
from kdops.sweeps.metrics import VAL_ACCURACY
from kdops.sweeps.model import Model
from kdops.utils.files import temporary_folder
from kdops.utils.quiet import without_bars

MEMBER_FIELDS = ("uri", "weights", "architecture", "chain", "source", "seed", "temperature", VAL_ACCURACY)
"""What is stored about each member; the weights by their digest."""


def digest_of_members(weights: Sequence[str]) -> str:
    """Return the digest of an ensemble by the digests of its members' weights, in their order."""
    return fingerprint(members=list(weights))


def write_ensemble(
    folder: Path,
    nets: Sequence[nn.Module],
    image_shape: tuple[int, int, int],
    metadata: Mapping[str, Any],
    members: Sequence[Model],
    *,
    model_id: str,
    run_id: str,
    location: str,
) -> None:
    """Write an ensemble's folder: a pyfunc that votes.

    Beside what MLflow needs it has three artifacts: ``ensemble.pt2``, the program; ``weights.safetensors``, each
    member's weights under ``<place>.<name>``, places counted from 0; and ``members.json``, their descriptions in order.

    Args:
        nets: the members, uint8 images ``[N, C, H, W]`` to logits ``[N, classes]``; they are put into ``eval()``.
        metadata: stored in ``MLmodel``; its ``class_names`` are as many as the classes.
        members: the model of each network, described in ``members.json``.

    Raises:
        ValueError: there is not one description for each network.
    """
    if len(nets) != len(members):
        raise ValueError(f"{len(nets)} networks have {len(members)} descriptions")
    classes = list(metadata["class_names"])
    with temporary_folder() as made, quiet(), without_bars():
        parts = {"ensemble": "ensemble.pt2", "weights": WEIGHTS, "members": "members.json"}
        artifacts = {name: str(made / file) for name, file in parts.items()}
        check_room(made, [net.state_dict() for net in nets])
        torch.export.save(export_vote(Vote(nets), image_shape), artifacts["ensemble"])
        save_weights(_weights(nets), made / WEIGHTS)
        contents = {
            "classes": classes,
            "members": [{name: getattr(m, name) for name in MEMBER_FIELDS} for m in members],
        }
        Path(artifacts["members"]).write_text(json.dumps(contents, indent=1), encoding="utf-8")
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(CODE),
            artifacts=artifacts,
            signature=signature_of(image_shape, len(classes), [("vote", "majority"), ("output", "scores")]),
            input_example=np.zeros((2, *image_shape), dtype=np.uint8),
            pip_requirements=requirements(),
            metadata=dict(metadata),
            # A folder with none: MLflow would otherwise copy the lock file of any uv project it is started in.
            uv_project_path=str(made),
        )
    shutil.copy(OPENER, folder)
    if "table" not in metadata:
        shutil.copy(READER, folder)
    description = yaml.safe_load((folder / "MLmodel").read_text())
    flavor = description["flavors"]["python_function"]
    # What MLflow needs lies in the folder; where it once came from is of no use to anyone else.
    flavor["model_code_path"] = CODE.name
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    description = take_rows(folder, description)
    write_mlmodel(folder, description, model_id=model_id, run_id=run_id, location=location)


def _weights(nets: Sequence[nn.Module]) -> dict[str, torch.Tensor]:
    """Return all members' weights by prefixed name; copies, since networks may share what they normalize with."""
    return {
        f"{place}.{name}": value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for place, net in enumerate(nets)
        for name, value in net.state_dict().items()
    }
