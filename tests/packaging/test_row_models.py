"""Models that predict on the rows of a table: what they are given, whose classes they have, what is refused."""

import re

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from kdops.config.datasets import parse_dataset
from kdops.config.sources import NormalizedBy
from kdops.data.dataset import load
from kdops.errors import UsageError
from kdops.packaging.external import Target, load_source
from kdops.packaging.row_models import Predictor, answers_for_rows

ENV = {"name": "none", "dependencies": []}
"""Given, so that MLflow does not ask pip, which takes seconds."""


@pytest.fixture
def table(tmp_path):
    """A table of two classes whose delimiter and decimal commas pandas would not guess."""
    random = np.random.default_rng(0)
    size, color = random.normal(size=80).round(3), random.choice(["red", "blue"], 80)
    label = np.where(size + (color == "red") > 0.5, "yes", "no")
    lines = [f"{str(a).replace('.', ',')};{b};{c}" for a, b, c in zip(size, color, label, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["size;color;label", *lines]))
    return pd.DataFrame({"size": size, "color": color, "label": label}), f"csv:{tmp_path / 't.csv'}"


def target(dataset, trust=False):
    origin = parse_dataset({"dataset": dataset})
    return Target(load(origin), origin, NormalizedBy(), trust)


def fitted(frame):
    columns = make_column_transformer((OneHotEncoder(), ["color"]), remainder="passthrough")
    return make_pipeline(columns, LogisticRegression()).fit(frame[["color", "size"]], frame["label"])


def log(flavor, model, name, **options):
    with mlflow.start_run():
        getattr(mlflow, flavor).log_model(model, name=name, registered_model_name=name, conda_env=ENV, **options)
    return f"models:/{name}/1"


def test_a_pipeline_is_asked_with_the_rows_of_the_table_themselves(store, table):
    frame, dataset = table
    model, asked = fitted(frame), target(dataset)
    net = load_source(log("sklearn", model, "pipeline", serialization_format="skops"), asked, votes=False)
    wanted = model.predict_proba(frame[["color", "size"]])
    np.testing.assert_allclose(net.logits.softmax(1).numpy(), wanted, rtol=1e-4, atol=1e-6)
    uri = log("sklearn", model, "pickled", serialization_format="cloudpickle")
    for trust in (False, True):
        with pytest.raises(UsageError, match=r"it is a pickle, which kdops never loads; log it again: .*skops"):
            load_source(uri, target(dataset, trust), votes=False)
    digits = Target(load("digits"), parse_dataset({"dataset": "digits"}), NormalizedBy(), False)
    with pytest.raises(UsageError, match="is a model of sklearn, which predicts on the rows of a table"):
        load_source("models:/pipeline/1", digits, votes=False)


CODE = """
import mlflow

class Size(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        assert list(model_input) == ["size", "color"] and model_input["size"].dtype == float
        return model_input.assign(no=0.0, yes=model_input["size"])[["no", "yes"]]

mlflow.models.set_model(Size())
"""


def test_trusted_code_is_given_a_data_frame(store, table, tmp_path):
    frame, dataset = table
    (tmp_path / "code.py").write_text(CODE)
    with mlflow.start_run():
        mlflow.pyfunc.log_model(
            name="code",
            python_model=str(tmp_path / "code.py"),
            registered_model_name="code",
            pip_requirements=["mlflow"],
        )
    net = load_source("models:/code/1", target(dataset, trust=True), votes=False)
    np.testing.assert_allclose(net.logits[:, 1].numpy(), frame["size"], rtol=1e-6)
    with pytest.raises(UsageError, match="it is somebody's Python code, which only runs with trust=true"):
        load_source("models:/code/1", target(dataset), votes=False)


class Pickled(mlflow.pyfunc.PythonModel):
    """Somebody's code, which MLflow pickles."""

    def predict(self, context, model_input, params=None):
        raise AssertionError("a pickle was loaded")


def test_pickled_code_is_never_run_and_the_way_to_log_it_is_told(store, table):
    with mlflow.start_run():
        mlflow.pyfunc.log_model(
            name="pickle", python_model=Pickled(), registered_model_name="pickle", pip_requirements=["mlflow"]
        )
    with pytest.raises(UsageError, match=r"it is a pickle, .*; log its code as a file instead, .*code.py"):
        load_source("models:/pickle/1", target(table[1], trust=True), votes=False)


@pytest.mark.parametrize("kind", ["probabilities", "unknown"])
def test_probabilities_are_seen_and_classes_put_in_the_order_of_the_data(table, kind):
    _frame, dataset = table
    asked = target(dataset)
    shares = np.stack([np.linspace(0.1, 0.9, 80), 1 - np.linspace(0.1, 0.9, 80)], axis=1)

    def given(**options):
        return answers_for_rows("model", Predictor(**options), asked.data, asked.origin, ["size"]).logits.exp().numpy()

    np.testing.assert_allclose(given(predict=lambda rows: shares, gives=kind), shares, rtol=1e-5)
    turned = given(predict=lambda rows: shares, gives=kind, classes=["yes", "no"])
    np.testing.assert_allclose(turned, shares[:, ::-1], rtol=1e-5)
    alone = given(predict=lambda rows: shares[:, 1], gives=kind)
    np.testing.assert_allclose(alone, shares, rtol=1e-5)
    column = given(predict=lambda rows: pd.DataFrame({"yes": shares[:, 1]}), gives=kind)
    np.testing.assert_allclose(column, shares, rtol=1e-5)


def test_numbers_of_code_that_are_no_probabilities_are_logits(table):
    asked = target(table[1])
    for values in (np.linspace(-1, 1, 160).reshape(80, 2), np.linspace(0, 1, 160).reshape(80, 2)):
        code = Predictor(lambda rows, values=values: values, "unknown")
        net = answers_for_rows("model", code, asked.data, asked.origin, ["size"])
        np.testing.assert_allclose(net.logits.numpy(), values.astype(np.float32))
        assert not net.from_probabilities


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"predict": lambda rows: rows["size"], "gives": "logits", "columns": ["weight"]},
            "takes the column weight",
        ),
        ({"predict": lambda rows: np.ones((80, 3)), "gives": "logits"}, "must give [80, 2], one number a class"),
        ({"predict": lambda rows: np.array(["yes"] * 80), "gives": "logits"}, "must give numbers, one a class"),
        ({"predict": lambda rows: np.ones(80, int), "gives": "probabilities"}, "gives one whole number for each row"),
        ({"predict": lambda rows: np.arange(80) % 2, "gives": "unknown"}, "gives one whole number for each row"),
        (
            {"predict": lambda rows: (np.arange(80) % 2) * 1.0, "gives": "unknown"},
            "gives one whole number for each row",
        ),
        ({"predict": lambda rows: np.ones((80, 1), int), "gives": "unknown"}, "gives one whole number for each row"),
        ({"predict": lambda rows: np.full((80, 2), 1e300), "gives": "logits"}, "numbers that are not finite"),
        ({"predict": lambda rows: rows["nothing"], "gives": "logits"}, "fails on the rows of"),
        (
            {"predict": lambda rows: np.ones((80, 2)), "gives": "logits", "classes": ["a", "b"]},
            "has the classes a, b",
        ),
        ({"predict": lambda rows: np.full((80, 2), np.nan), "gives": "logits"}, "numbers that are not finite"),
    ],
)
def test_what_does_not_fit_the_table_is_refused_in_one_line(table, options, told):
    asked = target(table[1])
    with pytest.raises(UsageError, match=re.escape(told)) as caught:
        answers_for_rows("model", Predictor(**options), asked.data, asked.origin, ["size"])
    assert "\n" not in str(caught.value)


def test_boosted_trees_are_read_from_their_native_formats(store, table):
    frame, dataset = table
    rows, asked = frame[["size", "color"]].astype({"color": "category"}), target(dataset)
    number = (frame["label"] == "yes").astype(int)
    xgboost, lightgbm, catboost = map(pytest.importorskip, ("xgboost", "lightgbm", "catboost"))
    trees = xgboost.XGBClassifier(n_estimators=5, enable_categorical=True).fit(rows, number)
    leaves = lightgbm.LGBMClassifier(n_estimators=5, min_child_samples=2, verbose=-1).fit(rows, number)
    oblivious = catboost.CatBoostClassifier(
        iterations=5, verbose=0, cat_features=["color"], allow_writing_files=False
    ).fit(frame[["size", "color"]], frame["label"])
    for flavor, logged, model in (
        ("xgboost", trees, trees),
        ("lightgbm", leaves.booster_, leaves),
        ("catboost", oblivious, oblivious),
    ):
        net = load_source(log(flavor, logged, flavor), asked, votes=False)
        wanted = model.predict_proba(frame[["size", "color"]] if flavor == "catboost" else rows)
        np.testing.assert_allclose(net.logits.softmax(1).numpy(), wanted, rtol=1e-3, atol=1e-5)
