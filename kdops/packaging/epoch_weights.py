"""The weights that a network had after some of its epochs: artifacts of its run, one file of safetensors each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kdops.errors import KdopsError
from kdops.store.artifacts import downloaded_artifact
from kdops.sweeps.model import Model

if TYPE_CHECKING:
    from torch import Tensor

EPOCHS = "epochs"
"""The folder of these artifacts."""

DIGEST = "digest"


def epoch_file(epoch: int) -> str:
    """Return the name of an epoch's file, ``epoch-007.safetensors``."""
    return f"epoch-{epoch:03}.safetensors"


def write_epochs(folder: Path, kept: Mapping[int, Mapping[str, Tensor]]) -> None:
    """Write the weights after each epoch, by epoch, with their digest in the header.

    Raises:
        OSError: there is no room.
    """
    from safetensors.torch import save_file

    from kdops.models.classifier import digest_of
    from kdops.packaging.folder import check_room
    from kdops.utils.files import set_usual_mode

    check_room(folder, kept.values())
    for epoch, state in kept.items():
        path = folder / epoch_file(epoch)
        save_file(dict(state), path, {DIGEST: digest_of(state)})
        set_usual_mode(path)


def read_epoch(model: Model, epoch: int) -> dict[str, Tensor]:
    """Return the weights that a stored model had after an epoch, on the CPU.

    Raises:
        KdopsError: they were not kept, are gone, or are not those that were stored.
    """
    from safetensors import SafetensorError, safe_open

    from kdops.models.classifier import digest_of

    what = f"the weights of {model.name} after epoch {epoch}"
    if epoch not in model.kept_epochs:
        raise KdopsError(f"{what} were not kept; train it with keep_epochs={epoch}")
    with downloaded_artifact(model.run_id, f"{EPOCHS}/{epoch_file(epoch)}", what) as path:
        try:
            with safe_open(path, "pt") as file:
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
                digest = (file.metadata() or {}).get(DIGEST, "")
        except (OSError, SafetensorError) as error:
            raise KdopsError(f"{what} cannot be read: {error}") from error
    if digest_of(weights) != digest:
        raise KdopsError(f"{what} are damaged: their digest is not the one that was stored")
    return weights
