"""What a search distils from: the best registered teacher, or any model that the caller names."""

from __future__ import annotations

import re

import mlflow
import numpy as np
import torch
from mlflow import MlflowClient
from mlflow.models import get_model_info
from torch.nn import Module

from kdops.candidates import LISTED, find_version, is_own, uri_of
from kdops.data import Data
from kdops.errors import UsageError
from kdops.foreign import load_classifier
from kdops.models import digest_of
from kdops.records import ModelRecord, Sweep, ranked
from kdops.store import store_exists
from kdops.study import Study

__all__ = ["check_source", "find_source"]

FOREIGN = "foreign"
SEEN = 256
"""So many images tell one network from another."""


def check_source(uri: str, data: Data) -> None:
    """Refuse a source that does not load, or does not take the images and give the classes of the data.

    Raises:
        UsageError: says what is wrong.
    """
    if not re.match(r"(models|runs):/", uri):
        allowed = "must be a model URI such as models:/name/3, models:/name@alias or runs:/id/name"
        raise UsageError("source", uri, allowed)
    if not store_exists(mlflow.get_tracking_uri()):
        raise UsageError("source", uri, f"there is no store at {mlflow.get_tracking_uri()} yet")
    load_classifier(_pinned(uri), data, "source")


def find_source(study: Study, uri: str = "") -> tuple[Sweep, str]:
    """Give the model to distil from.

    Args:
        study: whose data, split and store are used.
        uri: the model; empty for the teacher of this split and transfer setting that is best by validation, which is
            trained where there is none.

    Returns:
        A sweep of that one model, and what is to be said of it in a sentence; empty for nothing.

    Raises:
        UsageError: it does not load, or does not fit the data.
    """
    settings = study.settings
    if not uri:
        mine = {"transfer": settings.transfer}
        teachers = [record for record in study.known("teacher") if mine.items() <= record.params.items()]
        if not teachers or settings.fresh:
            return study.varied(seeds=1).train("teacher"), ""
        best = ranked(teachers)[0]
        study.use([best])
        return Sweep((best,)), ""
    pinned = _pinned(uri)
    own = study.find(pinned)
    if own is not None and own.params.get("transfer") == settings.transfer:
        study.use([own])
        return Sweep((own,), hops=own.chain.count(">")), ""
    record = _foreign(study, pinned)
    return Sweep((record,), hops=record.chain.count(">")), _remark(pinned)


def _pinned(uri: str) -> str:
    """Turn an alias into the version it stands for now."""
    return uri_of(find_version(MlflowClient(), uri, "source")) if LISTED.fullmatch(uri) else uri


def _foreign(study: Study, uri: str) -> ModelRecord:
    """Load a model that this study's data and split do not know, and describe it."""
    net = study.bench.foreign[uri] = load_classifier(uri, study.context.data, "source")
    tags = find_version(MlflowClient(), uri, "source").tags if LISTED.fullmatch(uri) else {}
    return ModelRecord(
        role=FOREIGN,
        seed=0,
        temperature=float("nan"),
        chain=tags.get("chain", FOREIGN),
        source="",
        uri=uri,
        model_id=get_model_info(uri).model_id or "",
        weights=_digest(study, net, tags.get("chain", FOREIGN).count(">")),
    )


@torch.no_grad()
def _digest(study: Study, net: Module, hop: int) -> str:
    """Give the digest of what a network gives: equal weights may be used in different ways."""
    rows = study.transfer_images(hop).rows[:SEEN]
    given = net(torch.from_numpy(np.array(study.context.data.images[rows])))
    return digest_of({**net.state_dict(), "given": given})


def _remark(uri: str) -> str:
    """Say what is not known of a source that was not trained on this split."""
    if LISTED.fullmatch(uri) and is_own(find_version(MlflowClient(), uri, "source")):
        return f"The source {uri} was trained on another split or transfer setting: it may have seen validation images."
    return f"Which images the source {uri} has seen is not known here."
