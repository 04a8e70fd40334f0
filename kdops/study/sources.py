"""What is distilled from where it is not a study's own teachers: a model that the caller names, or several at once.

Loading runs no code that lies beside a model: networks are programs (pt2), and of an ensemble only the program or
the weights are read. What MLflow could only load as somebody's Python code needs the caller's word for it.
"""

from __future__ import annotations

import mlflow
import numpy as np
import torch
from mlflow import MlflowClient
from mlflow.models import get_model_info
from torch.nn import Module

from kdops.config.sources import parse_sources
from kdops.config.uris import ModelUri
from kdops.data.dataset import Dataset
from kdops.distillation.sources import FromProbabilities, Mixture
from kdops.errors import UsageError
from kdops.models.classifier import digest_of
from kdops.packaging.external import load_classifier
from kdops.packaging.loading import load_stored
from kdops.registry.lookup import find_version, uri_of
from kdops.store.database import store_exists
from kdops.study.study import Study
from kdops.sweeps import schema
from kdops.sweeps.fingerprint import fingerprint
from kdops.sweeps.model import FOREIGN, Model, Sweep, ranked

__all__ = ["check_source", "find_source"]

SEEN = 256
"""So many images tell one network from another."""


def check_source(uri: str, data: Dataset, trust: bool = False) -> None:
    """Refuse a source that does not load, or does not take the images and give the classes of the data.

    Args:
        uri: the model, or several.
        data: the data.
        trust: run the Python code of a source that is no program.

    Raises:
        UsageError: says what is wrong.
    """
    parts = parse_sources(uri)
    if not store_exists(mlflow.get_tracking_uri()):
        raise UsageError("source", uri, f"there is no store at {mlflow.get_tracking_uri()} yet")
    pinned = [_pinned(one) for _, one in parts]
    if len(set(pinned)) < len(pinned):
        raise UsageError("source", uri, "names a model twice; give it a greater weight instead")
    for one in pinned:
        _load(one, data, trust)


def find_source(study: Study, uri: str = "") -> tuple[Sweep, str]:
    """Return the model to distill from.

    Args:
        study: whose data, split and store are used.
        uri: the model, or several, see :func:`kdops.config.sources.parse_sources`: their softened probabilities are
            averaged at the student's temperature. Empty for the teacher of this split and transfer setting that is
            best by validation, which is trained where there is none.

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
    check_source(uri, study.context.data, settings.trust)
    parts = [(share, _pinned(one)) for share, one in parse_sources(uri)]
    if len(parts) > 1:
        return _mixed(study, parts)
    ((_, pinned),) = parts
    own = study.find(pinned)
    if own is not None and own.role != "ensemble" and own.params.get("transfer") == settings.transfer:
        study.use([own])
        return Sweep((own,), hops=own.chain.count(">")), ""
    record = _foreign(study, pinned)
    known = own is not None and own.params.get("transfer") == settings.transfer
    return Sweep((record,), hops=_hops(record)), "" if known else _remark(pinned)


def _hops(record: Model) -> int:
    """Count the distillations that a model came through; a vote is none."""
    return record.chain.removesuffix(">ensemble").count(">")


def _pinned(uri: str) -> str:
    """Turn an alias into the version it stands for now."""
    return uri_of(find_version(MlflowClient(), uri, "source")) if ModelUri.fits(uri) else uri


def _mixed(study: Study, parts: list[tuple[float, str]]) -> tuple[Sweep, str]:
    """Return several models as one source."""
    records = [_foreign(study, uri) for _, uri in parts]
    chains = {record.chain for record in records}
    chain = chains.pop() if len(chains) == 1 else "several"
    hops = max(map(_hops, records))
    uri = " ".join(record.uri for record in records)
    shares = [share for share, _ in parts]
    study.bench.foreign[uri] = Mixture([study.bench.foreign[record.uri] for record in records], shares)
    whole = Model(
        role=FOREIGN,
        seed=0,
        temperature=float("nan"),
        chain=chain,
        source="",
        uri=uri,
        model_id=" ".join(record.model_id for record in records if record.model_id),
        weights=fingerprint(
            mixture=[(share, record.weights) for (share, _), record in zip(parts, records, strict=True)]
        ),
    )
    told = " and ".join(f"{share:.3g} of {one}" for share, one in parts)
    said = f"The source is {told}, whose softened probabilities are averaged."
    return Sweep((whole,), hops=hops), " ".join([said, *(_remark(one) for _, one in parts if study.find(one) is None)])


def _load(uri: str, data: Dataset, trust: bool = False) -> Module:
    """Load a model as a classifier; what gives probabilities gives their logarithms.

    Raises:
        UsageError: it cannot be loaded, or does not fit the data.
    """
    if ModelUri.fits(uri) and find_version(MlflowClient(), uri, "source").tags.get("chain", "").endswith(">ensemble"):
        loaded = load_stored(MlflowClient(), uri)
        if loaded.classes != tuple(data.classes) or loaded.shape != tuple(data.shape):
            raise UsageError("source", uri, f"has other classes or images than {data.name}")
        return FromProbabilities(loaded.module, 1)
    net = load_classifier(uri, data, "source", trust)
    with torch.no_grad():
        given = net(torch.from_numpy(np.array(data.images[:SEEN])))
    # Logits that happen to lie so on hundreds of images are as good as none.
    are_shares = bool((given >= 0).all()) and torch.allclose(given.sum(dim=1), torch.ones(len(given)), atol=1e-4)
    return FromProbabilities(net) if are_shares else net


def _foreign(study: Study, uri: str) -> Model:
    """Load a model that this study's data and split do not know, and describe it."""
    net = study.bench.foreign[uri] = _load(uri, study.context.data, study.settings.trust)
    tags = find_version(MlflowClient(), uri, "source").tags if ModelUri.fits(uri) else {}
    return Model(
        role=FOREIGN,
        seed=0,
        temperature=float("nan"),
        chain=tags.get("chain", FOREIGN),
        source="",
        uri=uri,
        model_id=get_model_info(uri).model_id or "",
        weights=_digest(study, net, tags.get("chain", FOREIGN).removesuffix(">ensemble").count(">")),
    )


@torch.no_grad()
def _digest(study: Study, net: Module, hop: int) -> str:
    """Return the digest of what a network gives: equal weights may be used in different ways."""
    rows = study.transfer_images(hop).rows[:SEEN]
    given = net(torch.from_numpy(np.array(study.context.data.images[rows])))
    return digest_of({**net.state_dict(), "given": given})


def _remark(uri: str) -> str:
    """Return what is not known of a source that was not trained on this split."""
    if ModelUri.fits(uri) and schema.is_own(find_version(MlflowClient(), uri, "source")):
        return f"The source {uri} was trained on another split or transfer setting: it may have seen validation images."
    return f"Which images the source {uri} has seen is not known here."
