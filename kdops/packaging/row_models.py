"""Models of others that predict on the rows of a table: boosted trees and pipelines, logged in MLflow.

They get the table's own rows as a data frame. Each is read by its own library from its native format, or from the
format of skops, which run nothing; MLflow would import what the stored description names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from kdops.config.datasets import DatasetSpec
from kdops.data.dataset import Dataset
from kdops.data.tabular.frame import read_frame
from kdops.data.tabular.rows import as_number
from kdops.data.tabular.table_file import TableError
from kdops.distillation.sources import RowOutputs
from kdops.errors import UsageError
from kdops.store.faults import first_line
from kdops.utils.text import first_few

if TYPE_CHECKING:
    import pandas as pd

LEAST = 1e-30
"""What stands for a probability of zero."""


@dataclass(frozen=True)
class Predictor:
    """A model of others that predicts on rows.

    Attributes:
        predict: from rows to logits or probabilities ``[N, classes]``; of two classes those of the second may do.
        gives: what they are; of ``unknown`` code it is seen from the numbers.
        columns: the columns that it takes, in their order; empty for all but the class.
        classes: its classes, in their order; empty where it numbers them as the data do.
    """

    predict: Callable[[pd.DataFrame], Any]
    gives: Literal["logits", "probabilities", "unknown"]
    columns: Sequence[str] = ()
    classes: Sequence[object] = ()


def answers_for_rows(
    uri: str, predictor: Predictor, data: Dataset, origin: DatasetSpec, columns: Sequence[str]
) -> RowOutputs:
    """Return a model's outputs for every row of a table.

    Args:
        uri: the model, as an error names it.
        data: the table as it was loaded.
        origin: where it is.
        columns: the columns of the data, for a model that names none.

    Raises:
        UsageError: the model does not take these rows, or has other classes.
    """

    def refuse(problem: str) -> UsageError:
        return UsageError("source", uri, problem)

    order = _order(predictor.classes, data, refuse)
    try:
        frame = read_frame(origin)
    except TableError as error:
        raise UsageError("dataset", origin, str(error)) from error
    wanted = list(predictor.columns or columns)
    if lacking := [name for name in wanted if name not in frame]:
        more = f" (and {len(lacking) - 1} more)" if len(lacking) > 1 else ""
        raise refuse(f"takes the column {lacking[0]}{more}, which {origin} has not; it has {', '.join(frame)}")
    try:
        given = np.asarray(predictor.predict(frame[wanted]))
    except Exception as error:
        raise refuse(f"fails on the rows of {origin}: {first_line(error, 200)}") from error
    if given.dtype.kind not in "fiu":
        raise refuse(f"must give numbers, one a class, not {given.dtype} such as {given.reshape(-1)[0]!r}")
    with np.errstate(over="ignore"):
        finite = np.isfinite(given.astype(np.float32)).all()
    if not finite:
        raise refuse("gives numbers that are not finite as float32")
    rows, classes = len(data.labels), len(data.classes)
    alone = given.shape in ((rows,), (rows, 1))
    if alone and predictor.gives != "logits" and _are_labels(given):
        raise refuse(
            f"gives one whole number for each row, as of classes; it must give [{rows}, {classes}], "
            "one logit or probability a class, as predict_proba does"
        )
    given = given.astype(np.float64)
    shares = predictor.gives == "probabilities" or (predictor.gives == "unknown" and _are_shares(given, alone))
    if alone and classes == 2:
        # That of the second class; logits may have any common part.
        second = given.reshape(-1)
        given = np.stack([1 - second if shares else np.zeros_like(second), second], axis=1)
    if given.shape != (rows, classes):
        raise refuse(f"must give [{rows}, {classes}], one number a class, not {list(given.shape)}")
    logits = np.log(given.clip(LEAST)) if shares else given
    return RowOutputs(torch.from_numpy(logits[:, order].astype(np.float32)), from_probabilities=shares)


def _are_labels(given: np.ndarray) -> bool:
    return given.dtype.kind in "iu" or bool((given == given.round()).all())


def _are_shares(given: np.ndarray, alone: bool) -> bool:
    """Return whether numbers are probabilities: within 0..1, and where there are several a row, of sum 1."""
    within = bool(((given >= 0) & (given <= 1)).all())
    return within and (alone or (given.ndim == 2 and np.allclose(given.sum(axis=1), 1, atol=1e-4)))


def _order(classes: Sequence[object], data: Dataset, refuse: Callable[[str], UsageError]) -> list[int]:
    """Return where a model has each class of the data; ``1`` and ``1.0`` are one class."""
    if not len(classes):
        return list(range(len(data.classes)))
    own = [str(one) for one in classes]
    found = [next((place for place, one in enumerate(own) if _is_same(one, name)), -1) for name in data.classes]
    if -1 in found or len(own) != len(data.classes):
        raise refuse(f"has the classes {first_few(own)}, and {data.name} has {first_few(data.classes)}")
    return found


def _is_same(one: str, other: str) -> bool:
    number = as_number(one)
    return one == other or (number is not None and number == as_number(other))


def _library(name: str, module: str = "") -> Any:
    try:
        return import_module(module or name)
    except ImportError as error:
        raise ValueError(f"it needs {name} here; install it: pip install {name}") from error


def _xgboost(folder: Path, flavor: Mapping[str, Any], trust: bool) -> Predictor:
    xgboost = _library("xgboost")
    booster = xgboost.Booster()
    booster.load_model(_file(folder, flavor, "data"))
    objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
    if not objective.startswith(("binary:logi", "multi:soft")):
        raise ValueError(f"its objective is {objective}, and a classifier has binary:logistic or multi:softprob")
    kinds = booster.feature_types or []
    if "c" in kinds and not (hasattr(booster, "get_categories") and booster.get_categories() is not None):
        raise ValueError("its categories are not stored; train it with XGBoost 3.1 or newer, or encode them before")

    def predict(frame: pd.DataFrame) -> Any:
        texts = {name: "category" for name, kind in zip(frame, kinds, strict=False) if kind == "c"}
        rows = xgboost.DMatrix(frame.astype(texts), enable_categorical=True)
        return booster.predict(rows, output_margin=True)

    return Predictor(predict, "logits", columns=booster.feature_names or ())


def _lightgbm(folder: Path, flavor: Mapping[str, Any], trust: bool) -> Predictor:
    if not str(flavor.get("data", "")).endswith(".lgb"):
        raise ValueError("it is a pickle; log its booster, which is text: mlflow.lightgbm.log_model(model.booster_)")
    booster = _library("lightgbm").Booster(model_file=_file(folder, flavor, "data"))
    objective = booster.dump_model(num_iteration=1)["objective"]
    if not objective.startswith(("binary", "multiclass")):
        raise ValueError(f"its objective is {objective}, and a classifier has binary or multiclass")

    def predict(frame: pd.DataFrame) -> Any:
        texts = dict.fromkeys(frame.select_dtypes(exclude=["number", "bool"]), "category")
        return booster.predict(frame.astype(texts))

    names = booster.feature_name()
    return Predictor(predict, "probabilities", columns=() if names[:1] == ["Column_0"] else names)


def _catboost(folder: Path, flavor: Mapping[str, Any], trust: bool) -> Predictor:
    model = _library("catboost").CatBoostClassifier()
    model.load_model(_file(folder, flavor, "data"), format=str(flavor.get("save_format", "cbm")))
    return Predictor(model.predict_proba, "probabilities", model.feature_names_, model.classes_)


def _sklearn(folder: Path, flavor: Mapping[str, Any], trust: bool) -> Predictor:
    if flavor.get("serialization_format") != "skops":
        raise ValueError(
            "it is a pickle, which kdops never loads; log it again: "
            "mlflow.sklearn.log_model(model, serialization_format='skops'), "
            "with skops_trusted_types=[...] where it holds types that skops does not know, as forests do"
        )
    skops, path = _library("skops", "skops.io"), _file(folder, flavor, "pickled_model")
    unknown = skops.get_untrusted_types(file=path)
    if unknown and not trust:
        raise ValueError(f"has {', '.join(unknown)}, which skops does not know; trust=true loads it")
    model = skops.load(path, trusted=unknown)
    if not hasattr(model, "predict_proba"):
        raise ValueError(f"is a {type(model).__name__} without probabilities (predict_proba)")
    return Predictor(
        model.predict_proba, "probabilities", list(getattr(model, "feature_names_in_", ())), model.classes_
    )


def _file(folder: Path, flavor: Mapping[str, Any], key: str) -> str:
    """Return the file that a flavor names, within the folder of the model."""
    path = (folder / str(flavor.get(key, ""))).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise FileNotFoundError(f"its files lack {flavor.get(key)}")
    return str(path)


FLAVORS: Mapping[str, Callable[[Path, Mapping[str, Any], bool], Predictor]] = {
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "catboost": _catboost,
    "sklearn": _sklearn,
}
"""How a model of each library is read from its folder: with what MLflow noted about it, and whether it is trusted."""
