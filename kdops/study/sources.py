"""What is distilled from where it is not a study's own teachers: a model that the caller names, or several at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kdops.config.sources import parse_sources
from kdops.config.studies import SourceSettings
from kdops.data.dataset import Dataset
from kdops.errors import UsageError
from kdops.store.database import store_address, store_exists
from kdops.sweeps.fingerprint import fingerprint
from kdops.sweeps.model import FOREIGN, Model, Sweep
from kdops.sweeps.ranking import ranked
from kdops.tracking.named_models import NamedModel, find_model

if TYPE_CHECKING:
    from torch.nn import Module

    from kdops.study.study import Study

Parts = list[tuple[float, NamedModel]]
"""The models of a source, each with its share."""


def check_source(uri: str, data: Dataset, trust: bool = False) -> None:
    """Refuse a source that does not load, or whose input or output does not match the images and classes of the data.

    Args:
        uri: the model, or several.
        data: the data.
        trust: run the Python code of a source that is no program.

    Raises:
        UsageError: the source cannot be used; the message has the reason.
    """
    for _, model in _parts(uri):
        _load(model, data, trust)


def find_source(study: Study[SourceSettings], uri: str = "") -> tuple[Sweep, str]:
    """Return the model to distill from.

    Args:
        study: whose data, split and store are used.
        uri: the model, or several, see :func:`kdops.config.sources.parse_sources`: their softened probabilities are
            averaged at the student's temperature. Empty for the teacher of this split and transfer setting that is
            best by validation, which is trained where there is none.

    Returns:
        A sweep of that one model, and a sentence about it for the report; empty for none.

    Raises:
        UsageError: it does not load, or does not fit the data.
    """
    if not uri:
        return _best_teacher(study), ""
    parts = _parts(uri)
    if len(parts) > 1:
        return _several(study, parts)
    ((_, named),) = parts
    own = study.find(named.uri)
    known = own is not None and own.transfer == study.settings.transfer
    if known and own is not None and own.role != "ensemble":
        _load(named, study.data, study.settings.trust)
        study.use([own])
        return Sweep((own,), hops=own.chain.count(">")), ""
    model, _ = _adopted(study, named)
    return Sweep((model,), hops=named.hops), "" if known else _remark(named)


def _best_teacher(study: Study[SourceSettings]) -> Sweep:
    """Return the best registered teacher; without one, or where all is trained afresh, train it."""
    settings = study.settings
    known = [model for model in study.known("teacher") if model.select_on != "test"]
    teachers = [model for model in known if model.transfer == settings.transfer]
    if not teachers or settings.fresh:
        return study.with_settings(replace(settings, seeds=1)).train("teacher")
    best = ranked(teachers)[0]
    study.use([best])
    return Sweep((best,))


def _parts(uri: str) -> Parts:
    """Look up the models that a source names.

    Raises:
        UsageError: one is not there, or is named twice.
    """
    parts = parse_sources(uri)
    if not store_exists(store_address()):
        raise UsageError("source", uri, f"there is no store at {store_address()} yet")
    found = [(share, find_model(one)) for share, one in parts]
    if len({model.uri for _, model in found}) < len(found):
        raise UsageError("source", uri, "names a model twice; give it a greater weight instead")
    return found


def _several(study: Study[SourceSettings], parts: Parts) -> tuple[Sweep, str]:
    """Return several models as one source."""
    from kdops.distillation.sources import Mixture

    adopted = [_adopted(study, model) for _, model in parts]
    models, shares = [model for model, _ in adopted], [share for share, _ in parts]
    chains = {model.chain for model in models}
    whole = Model(
        role=FOREIGN,
        seed=0,
        temperature=float("nan"),
        chain=chains.pop() if len(chains) == 1 else "several",
        source="",
        uri=" ".join(model.uri for model in models),
        select_on="test" if any(model.select_on == "test" for model in models) else "validation",
        model_id=" ".join(model.model_id for model in models if model.model_id),
        weights=fingerprint(mixture=[(share, model.weights) for share, model in zip(shares, models, strict=True)]),
    )
    study.adopt(whole, Mixture([network for _, network in adopted], shares))
    composition = " and ".join(f"{share:.3g} of {model.uri}" for share, model in parts)
    sentence = f"The source is {composition}, whose softened probabilities are averaged."
    remarks = [_remark(model) for _, model in parts if study.find(model.uri) is None]
    return Sweep((whole,), hops=max(model.hops for _, model in parts)), " ".join([sentence, *remarks])


def _adopted(study: Study[SourceSettings], named: NamedModel) -> tuple[Model, Module]:
    """Load a model that this study's data and split do not know, and describe it."""
    from kdops.packaging.external import SEEN, digest_of_network

    network = _load(named, study.data, study.settings.trust)
    seen = study.data.images[study.transfer_images(named.hops).rows[:SEEN]]
    model = Model(
        role=FOREIGN,
        seed=0,
        temperature=float("nan"),
        chain=named.chain,
        source="",
        uri=named.uri,
        model_id=named.model_id,
        select_on=named.select_on,
        weights=digest_of_network(network, seen),
        metrics=study.measure(network),
    )
    study.adopt(model, network)
    return model, network


def _load(named: NamedModel, data: Dataset, trust: bool) -> Module:
    from kdops.packaging.external import load_network

    return load_network(named.uri, data, named.votes, trust)


def _remark(named: NamedModel) -> str:
    """Return what is not known of a source that was not trained on this split."""
    if named.is_own:
        return (
            f"The source {named.uri} was trained on another split or transfer setting: "
            "it may have seen validation images."
        )
    return f"Which images the source {named.uri} has seen is not known here."
