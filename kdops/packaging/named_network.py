"""Models that a caller names by URI, loaded as classifiers, and identified by what they compute.

Loading runs no code that lies beside a model: networks are programs (pt2), and of an ensemble only the program or
the weights are read. What MLflow could only load as Python code is refused unless the caller trusts it.
"""

from __future__ import annotations

import numpy as np
import torch
from mlflow import MlflowClient
from torch import nn

from kdops.data.dataset import Dataset
from kdops.distillation.sources import FromProbabilities
from kdops.errors import UsageError
from kdops.models.classifier import digest_of
from kdops.packaging.external import load_classifier
from kdops.packaging.loading import load_stored

__all__ = ["SEEN", "digest_of_network", "load_network"]

SEEN = 256
"""Number of images on which the outputs of a network are examined."""


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
