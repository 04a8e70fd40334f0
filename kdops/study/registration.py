"""A network that was trained elsewhere, as a registered model of kdops, measured on the same images."""

from __future__ import annotations

import math
import time
from functools import partial

import numpy as np

from kdops.config.sources import WeightsFile
from kdops.config.studies import SourceSettings
from kdops.data.dataset import Dataset
from kdops.models.size import network_size
from kdops.study.open import open_study
from kdops.study.packagers import Packagers
from kdops.study.summary import summarize
from kdops.sweeps.fingerprint import fingerprint
from kdops.sweeps.model import ELSEWHERE, Model, Sweep
from kdops.sweeps.params import ARCHITECTURE, CODE, DATASET, FLOPS, PARAMETERS, SPLIT_SEED, TRANSFER
from kdops.tracking.datasets import Trainset
from kdops.tracking.known_models import KnownModels
from kdops.tracking.model_run import Outcome
from kdops.verdicts.answer import Answer


def register_network(settings: SourceSettings, data: Dataset, role: str) -> None:
    """Measure a network on validation and test images, and register it as a model of a role.

    Raises:
        UsageError: the file or the network cannot be used.
    """
    from kdops.models.classifier import digest_of
    from kdops.packaging.weights_file import file_digest, load_classifier_file

    file = settings.named_source
    assert isinstance(file, WeightsFile)
    network, text = load_classifier_file(file, data), str(file.network)
    state = network.state_dict()
    known = network_size(file.network, data.shape, len(data.classes))
    with open_study("register", settings, data) as study:
        params = {
            DATASET: data.name,
            ARCHITECTURE: text,
            PARAMETERS: str(known.parameters),
            **({FLOPS: str(known.flops)} if known.flops is not None else {}),
            **({CODE: known.code} if known.code else {}),
            TRANSFER: settings.transfer,
            SPLIT_SEED: str(settings.split_seed),
        }
        record = Model(
            role=role,
            seed=0,
            temperature=math.nan,
            chain=role,
            source=ELSEWHERE,
            uri="",
            weights=digest_of(state),
            metrics=study.executor.networks.measure(network),
            params=params,
        )
        seen = f"which {data.unit} it has seen is not known"
        print(f"measured {file.path} (SHA-256 {file_digest(file.path)[:12]}); {seen}")
        digest = fingerprint(weights=record.weights, role=role, architecture=text, split=study.split.digest)
        unknown = Trainset(np.zeros(0, np.int64), "images elsewhere, which are not known")
        outcome = Outcome(record, digest, digest, (), unknown, {}, 0.0, time.time())
        packager = Packagers(data).of(file.network, lambda: network)
        model = study.store(outcome, partial(packager.write, state=state))
        never = "so it is never champion by itself; kdops promote gives an alias."
        remarks = [f"It may have seen validation {data.unit}, {never}"]
        there = KnownModels(data, study.split).transfers_of(role)
        if there and settings.transfer not in there:
            (other, count), *_ = there.most_common(1)
            remarks.append(
                f"The {role}s of these data ({count}) have transfer={other} and this one has {settings.transfer}, so "
                f"they are not compared; --transfer {other} registers it beside them."
            )
        row = summarize(f"{role}, {model.name}", Sweep((model,)))
        study.conclude("register", Answer.of([row], remarks=remarks))
