"""What is distilled from where it is not a study's own teachers: models that the caller names, or a file."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

from kdops.config.architectures import Architecture, FunctionNet, TorchvisionNet
from kdops.config.augmentation import NONE
from kdops.config.criterion import Criterion
from kdops.config.datasets import DATASETS
from kdops.config.sources import NormalizedBy, OutputsFile, SourceModels, WeightsFile
from kdops.config.studies import SourceSettings
from kdops.data.dataset import Dataset
from kdops.data.image_folder import names_of
from kdops.data.splits import make_split
from kdops.errors import UsageError
from kdops.models.size import network_size
from kdops.store.database import store_address, store_exists
from kdops.study.mixtures import describe_mixture
from kdops.sweeps.fingerprint import fingerprint
from kdops.sweeps.model import ELSEWHERE, FOREIGN, Model, Sweep
from kdops.sweeps.params import ARCHITECTURE, BOOTSTRAP, LABEL_NOISE
from kdops.sweeps.ranking import ranked
from kdops.tracking.named_models import NamedModel, find_model

if TYPE_CHECKING:
    from torch.nn import Module

    from kdops.study.study import Study

Parts = list[tuple[float, NamedModel]]
"""The models of a source, each with its share."""


def check_source(settings: SourceSettings, data: Dataset) -> None:
    """Refuse a source that does not load, or whose input or output does not match the images and classes of the data.

    Raises:
        UsageError: the source cannot be used; the message has the reason.
    """
    source = settings.named_source
    if isinstance(source, SourceModels):
        for _, model in _parts(settings.source, source):
            _load(model, settings, data)
    else:
        split = make_split(data, settings.transfer, settings.split_seed, settings.hops())
        load_file(source, settings, data, split.hop(0))


def find_source(study: Study[SourceSettings]) -> tuple[Sweep, str]:
    """Return the model to distill from: what the settings name, else the teacher of this split and transfer setting
    that is best by validation, which is trained where there is none. The softened probabilities of several models are
    averaged at the student's temperature.

    Returns:
        A sweep of that one model, and a sentence about it for the report; empty for none.

    Raises:
        UsageError: it does not load, or does not fit the data.
    """
    if not study.settings.source:
        return _best_teacher(study)
    source = study.settings.named_source
    if not isinstance(source, SourceModels):
        return _from_file(study, source)
    parts = _parts(study.settings.source, source)
    if len(parts) > 1:
        return _several(study, parts)
    ((_, named),) = parts
    own = study.find(named.uri)
    known = own is not None and own.transfer == study.settings.transfer
    if known and own is not None and own.role != "ensemble":
        _load(named, study.settings, study.data)
        study.use([own])
        return Sweep((own,), hops=own.chain.count(">")), ""
    model, network = _adopted(study, named)
    remarks = "" if known else _remark(named, study.data.unit)
    return Sweep((model,), hops=named.hops), " ".join(filter(None, (remarks, describe_network(network, study.data))))


def _best_teacher(study: Study[SourceSettings]) -> tuple[Sweep, str]:
    """Return the best registered teacher, and a sentence about it; where there is none, or all is fresh, train it.

    Teachers of other images or labels do not count, nor those of earlier versions without the score; where the settings
    have another recipe for teachers than the data set's usual one, only those of this recipe do.
    """
    settings = study.settings
    known = [model for model in study.known("teacher") if model.select_on != "test" and model.source != ELSEWHERE]
    learned = {name: str(value).lower() for name, value in settings.selection.of_training().items()}
    by, recipe = Criterion(by=settings.select_by), settings.recipes["teacher"]
    asked = {} if recipe == DATASETS[settings.origin.kind].recipes["teacher"] else recipe.params()
    if asked:
        asked[ARCHITECTURE] = str(recipe.architecture)
    teachers = [
        model
        for model in known
        if model.transfer == settings.transfer
        and by.metric in model.metrics
        and {name: model.params[name] for name in (LABEL_NOISE, BOOTSTRAP) if name in model.params} == learned
        and asked.items() <= model.recipe_params.items()
    ]
    if not teachers or settings.fresh:
        return study.with_settings(replace(settings, seeds=1)).train("teacher"), ""
    best = ranked(teachers, by)[0]
    study.use([best])
    which = "with these settings, " if asked else ""
    sentence = f"The source is the registered teacher {best.name}, {which}the best of {len(teachers)} on validation"
    return Sweep((best,)), f"{sentence}; --fresh true trains one."


def _parts(text: str, source: SourceModels) -> Parts:
    """Look up the models that a source names. Raises UsageError if one is not there, or is named twice."""
    if not store_exists(store_address()):
        raise UsageError("source", text, f"there is no store at {store_address()} yet")
    found = [(share, find_model(one)) for share, one in source.parts]
    if len({model.uri for _, model in found}) < len(found):
        raise UsageError("source", text, "names a model twice; give it a greater weight instead")
    if source.normalize != NormalizedBy():
        from kdops.packaging.external import takes_floats

        if not any(takes_floats(model.uri) for _, model in found):
            problem = f"is for programs of floats and files of weights; {text} takes images or rows as they are"
            raise UsageError("source_normalize", source.normalize.text, problem)
    return found


def _several(study: Study[SourceSettings], parts: Parts) -> tuple[Sweep, str]:
    """Return several models as one source."""
    from kdops.distillation.sources import Mixture

    adopted = [_adopted(study, model) for _, model in parts]
    shares = [share for share, _ in parts]
    network = Mixture([network for _, network in adopted], shares)
    whole = study.adopt(describe_mixture([model for model, _ in adopted], shares), network)
    composition = " and ".join(f"{share:.3g} of {model.uri}" for share, model in parts)
    sentence = f"The source is {composition}, whose softened probabilities are averaged."
    remarks = [_remark(model, study.data.unit) for _, model in parts if study.find(model.uri) is None]
    return Sweep((whole,), hops=max(model.hops for _, model in parts)), " ".join([sentence, *remarks])


def _adopted(study: Study[SourceSettings], named: NamedModel) -> tuple[Model, Module]:
    """Load a model that this study's data and split do not know, and describe it."""
    network = _load(named, study.settings, study.data)
    rows = study.transfer_images(named.hops).rows
    model = _adopt(
        study,
        network,
        named.uri,
        chain=named.chain,
        model_id=named.model_id,
        select_on=named.select_on,
        weights=digest_of_source(network, study.data, rows),
    )
    return model, network


def _from_file(study: Study[SourceSettings], source: WeightsFile | OutputsFile) -> tuple[Sweep, str]:
    """Load what a file holds, and describe it."""
    from kdops.packaging.outputs_file import is_chosen_on_test
    from kdops.packaging.weights_file import file_digest

    rows = study.transfer_images(0).rows
    network, digest = load_file(source, study.settings, study.data, rows), file_digest(source.path)
    options = options_of(source, study.settings, study.data) if isinstance(source, WeightsFile) else []
    is_code = isinstance(source, WeightsFile) and isinstance(source.network, FunctionNet)
    given = digest_of_source(network, study.data, rows, is_code)
    name = quote(os.path.basename(source.path))
    weights = fingerprint(file=digest, options=options, given=given)
    select_on = "test" if isinstance(source, OutputsFile) and is_chosen_on_test(source) else "validation"
    model = _adopt(study, network, f"file:{name}#{digest[:12]}", weights, select_on=select_on)
    what = f"the weights of {source.network} in" if isinstance(source, WeightsFile) else "outputs alone, those in"
    sentence = (
        f"The source is {what} {os.path.basename(source.path)} (SHA-256 {digest[:12]}); which "
        f"{study.data.unit} it has seen is not known here."
    )
    if isinstance(source, WeightsFile) and source.normalize.text == "imagenet":
        sentence += _remark_on_pixels(source.network)
    return Sweep((model,)), " ".join(filter(None, (sentence, describe_network(network, study.data))))


def _remark_on_pixels(network: Architecture) -> str:
    """Return which pixels some of torchvision's own weights have seen, where it is not what ``imagenet`` gives."""
    from kdops.models.torchvision import WITH_AUXILIARY

    if not isinstance(network, TorchvisionNet) or network.name not in WITH_AUXILIARY:
        return ""
    return f" Weights that torchvision offers for {network.name} see pixels from -1 to 1: source_normalize=0.5/0.5."


def store_outputs(settings: SourceSettings, data: Dataset, path: Path) -> None:
    """Write what the source of some settings gives for every image of the data to a file.

    Args:
        settings: they name one model or a file of weights.

    Raises:
        UsageError: the source cannot be loaded, or does not fit the data.
    """
    from kdops.packaging.outputs_file import digests_of, outputs_of, write_outputs

    source, select_on = settings.named_source, "validation"
    if isinstance(source, SourceModels):
        ((_, named),) = _parts(settings.source, source)
        network, select_on = _load(named, settings, data), named.select_on
    else:
        network = load_file(source, settings, data, np.arange(len(data.labels)))
    names = names_of(settings.origin, len(data.labels))
    rows = np.arange(len(data.labels))
    write_outputs(path, outputs_of(network, data), digests_of(data.images), names, data.classes, rows, select_on)


def _adopt(
    study: Study[SourceSettings],
    network: Module,
    uri: str,
    weights: str,
    chain: str = FOREIGN,
    model_id: str = "",
    select_on: str = "validation",
) -> Model:
    """Describe and measure a model that this study's data and split do not know, and use its network."""
    model = Model(
        role=FOREIGN,
        seed=0,
        temperature=math.nan,
        chain=chain,
        source="",
        uri=uri,
        model_id=model_id,
        select_on=select_on,
        weights=weights,
    )
    return study.adopt(model, network)


def load_file(source: WeightsFile | OutputsFile, settings: SourceSettings, data: Dataset, rows: np.ndarray) -> Module:
    """Load what a file holds.

    Args:
        settings: where the data come from.
        rows: what students learn from; stored outputs must have these.

    Raises:
        UsageError: it cannot be loaded, or does not fit the data.
    """
    from kdops.packaging.external import load_weights
    from kdops.packaging.outputs_file import load_outputs

    if isinstance(source, WeightsFile):
        return load_weights(source, data)
    return load_outputs(source, data, names_of(settings.origin, len(data.labels)), rows)


def options_of(file: WeightsFile, settings: SourceSettings, data: Dataset) -> list[str]:
    """Return what decides a network's outputs beside its weights, as far as outputs for the images do not show it.

    Code of others may give the same for images and something else for their views, which are not asked for beforehand.
    """
    options = [str(file.network), file.normalize.text]
    if isinstance(file.network, FunctionNet) and settings.recipes["student"].augment != NONE:
        options.append(network_size(file.network, data.shape, len(data.classes)).code)
    return options


def digest_of_source(network: Module, data: Dataset, rows: np.ndarray, is_code: bool = False) -> str:
    """Return the digest of a network, of its weights and what it gives for the first of some rows.

    Code of others may do anything behind equal weights, or has none: there it is what it gives for all rows.
    """
    from kdops.distillation.sources import RowOutputs
    from kdops.models.classifier import digest_of
    from kdops.packaging.external import SEEN, digest_of_network

    if isinstance(network, RowOutputs):
        return digest_of(network.state_dict())
    return digest_of_network(network, data.images, rows if is_code or not network.state_dict() else rows[:SEEN])


def describe_network(network: Module, data: Dataset) -> str:
    """Return a sentence about what a source gives, where it was noticed; empty for nothing."""
    from kdops.distillation.sources import FromProbabilities, RowOutputs
    from kdops.packaging.outputs_file import agreement_with_labels

    sentences = []
    if isinstance(network, FromProbabilities) or (isinstance(network, RowOutputs) and network.from_probabilities):
        sentences.append("It gives probabilities; their logarithms are taken for logits.")
    if isinstance(network, RowOutputs):
        share, count = agreement_with_labels(network, data)
        known = f"{100 * share:.1f} % of the {count:,} {data.unit} that are not test"
        sentences.append(f"It agrees with the labels of {known}.")
    return " ".join(sentences)


def _load(named: NamedModel, settings: SourceSettings, data: Dataset) -> Module:
    from kdops.packaging.external import Target, load_source

    source = settings.named_source
    assert isinstance(source, SourceModels)
    return load_source(named.uri, Target(data, settings.origin, source.normalize, settings.trust), named.votes)


def _remark(named: NamedModel, unit: str) -> str:
    """Return what is not known of a source that was not trained on this split."""
    if named.is_own:
        return (
            f"The source {named.uri} was trained on another split or transfer setting: "
            f"it may have seen validation {unit}."
        )
    return f"Which {unit} the source {named.uri} has seen is not known here."
