"""Models that a caller names by URI, whoever made them: looked up, loaded as classifiers, and told apart.

Loading runs no code that lies beside a model: networks are programs (pt2), and of an ensemble only the program or
the weights are read. What MLflow could only load as somebody's Python code needs the caller's word for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from mlflow import MlflowClient
from mlflow.models import get_model_info

from kdops.config.uris import ModelUri
from kdops.data.dataset import Dataset
from kdops.errors import UsageError
from kdops.registry.lookup import find_version, uri_of
from kdops.sweeps import schema
from kdops.sweeps.model import FOREIGN

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["SEEN", "NamedModel", "digest_of_network", "find_model", "load_network"]

SEEN = 256
"""So many images tell one network from another."""


@dataclass(frozen=True)
class NamedModel:
    """A model that a caller named.

    Attributes:
        uri: its URI, an alias resolved to the version it stands for now.
        chain: the roles it came through; of a model that kdops did not train ``FOREIGN``.
        is_own: kdops trained and registered it.
    """

    uri: str
    chain: str = FOREIGN
    is_own: bool = False

    @property
    def model_id(self) -> str:
        """Its logged model, if it has one."""
        return get_model_info(self.uri).model_id or ""

    @property
    def hops(self) -> int:
        """How many distillations it came through; a vote is none."""
        return self.chain.removesuffix(">ensemble").count(">")


def find_model(uri: str) -> NamedModel:
    """Look a model up.

    Raises:
        UsageError: it is a version or an alias that is not there.
    """
    if not ModelUri.fits(uri):
        return NamedModel(uri)
    version = find_version(MlflowClient(), uri, "source")
    return NamedModel(uri_of(version), version.tags.get("chain", FOREIGN), schema.is_own(version))


def load_network(model: NamedModel, data: Dataset, trust: bool = False) -> Module:
    """Load a model as a classifier: uint8 images to logits; of one that returns probabilities to their logarithms.

    Args:
        model: the model.
        data: what it must classify.
        trust: run the Python code of a model that is no program.

    Raises:
        UsageError: it cannot be loaded, or does not fit the data.
    """
    import torch

    from kdops.distillation.sources import FromProbabilities
    from kdops.packaging.external import load_classifier
    from kdops.packaging.loading import load_stored

    if model.chain.endswith(">ensemble"):
        loaded = load_stored(MlflowClient(), model.uri)
        if loaded.classes != tuple(data.classes) or loaded.shape != tuple(data.shape):
            raise UsageError("source", model.uri, f"has other classes or images than {data.name}")
        return FromProbabilities(loaded.module, 1)
    network = load_classifier(model.uri, data, "source", trust)
    with torch.no_grad():
        given = network(torch.from_numpy(np.array(data.images[:SEEN])))
    # Logits that happen to lie so on hundreds of images are as good as none.
    are_shares = bool((given >= 0).all()) and torch.allclose(given.sum(dim=1), torch.ones(len(given)), atol=1e-4)
    return FromProbabilities(network) if are_shares else network


def digest_of_network(network: Module, images: np.ndarray) -> str:
    """Return the digest of a network's weights and of what it returns: equal weights may be used in different ways.

    Args:
        network: from uint8 images to logits.
        images: uint8 ``[N, C, H, W]``.
    """
    import torch

    from kdops.models.classifier import digest_of

    with torch.no_grad():
        given = network(torch.from_numpy(np.array(images)))
    return digest_of({**network.state_dict(), "given": given})
