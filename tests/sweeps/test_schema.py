"""A run and a version say of a model what is read back from them, and one file has the names."""

import ast
import math
import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdops.sweeps import metrics, schema
from kdops.sweeps.model import FOREIGN, LABELS, Model

ROOT = Path(__file__).resolve().parents[2]
words = st.text("abcdefgh-=(),.0123456789", min_size=1, max_size=12)
numbers = st.floats(0, 1)
uris = st.builds("models:/kdops-{}/{}".format, st.text("abc-", min_size=1, max_size=5), st.integers(1, 99))
models = st.builds(
    Model,
    role=st.sampled_from(["teacher", "student", "middle", "reseeded", "ensemble"]),
    seed=st.integers(0, 10**9),
    temperature=st.just(math.nan) | st.integers(0, 10_000).map(lambda n: n / 100) | st.floats(0, 1000),
    chain=words,
    source=st.one_of(st.just(LABELS), st.lists(uris, min_size=1, max_size=20).map(" ".join)),
    uri=uris,
    run_id=words,
    model_id=st.text("0123456789abcdef", min_size=32, max_size=32).map("m-{}".format),
    weights=words,
    metrics=st.fixed_dictionaries(dict.fromkeys((*schema.RANKED, "test_nll"), numbers)),
    params=st.fixed_dictionaries(
        {"architecture": words, "transfer": words, "epochs": words}, optional={"method": words}
    ),
    pass_seeds=st.lists(st.integers(0, 99), max_size=5).map(tuple),
    pass_digest=words,
    reused=st.just(True),
    dataset=words,
    select_on=st.sampled_from(["validation", "test"]),
    split=words,
    images=st.fixed_dictionaries({"train": st.integers(0, 9), "val": st.integers(0, 9)}),
)


def run_of(model, **changed):
    """Return a run as MLflow gives it back."""
    params, tags = schema.to_run(model)
    inputs = [
        SimpleNamespace(
            tags=[SimpleNamespace(key="mlflow.data.context", value=part)],
            dataset=SimpleNamespace(profile=f'{{"images": {count}}}'),
        )
        for part, count in model.images.items()
    ]
    outputs = [SimpleNamespace(model_id=model.model_id)]
    return SimpleNamespace(
        data=SimpleNamespace(params=params, tags={**tags, **changed}, metrics=model.metrics),
        info=SimpleNamespace(run_id=model.run_id),
        inputs=SimpleNamespace(dataset_inputs=inputs),
        outputs=SimpleNamespace(model_outputs=outputs),
    )


def version_of(model):
    name, number = model.place
    tags = schema.to_version(model)
    return SimpleNamespace(
        name=name, version=number, tags=tags, run_id=model.run_id, source=f"models:/{model.model_id}", status="READY"
    )


def plain(model):
    """Return a model as a value that equals itself where its temperature is nan."""
    return {**model.__dict__, "temperature": repr(model.temperature)}


@given(models)
def test_a_run_gives_back_its_model(model):
    assert plain(schema.from_run(run_of(model))) == plain(model)


@given(models)
def test_a_version_and_its_run_give_back_the_model(model):
    assert plain(schema.from_version(version_of(model), run_of(model))) == plain(model)


@given(models)
def test_a_version_without_a_run_says_how_good_it_is_and_no_more(model):
    found = schema.from_version(version_of(model))
    assert (found.role, found.own, found.uri, found.weights) == (FOREIGN, False, model.uri, "")
    assert found.metrics == {name: model.metrics[name] for name in schema.RANKED}


def test_a_list_of_sources_that_is_too_long_is_cut_and_says_so():
    sources = " ".join(f"models:/kdops-digits-student/{number}" for number in range(1000))
    found = schema.from_run(run_of(Model("ensemble", 0, math.nan, "e", sources, "models:/e/1")))
    assert found.cut
    assert set(found.sources) < set(sources.split())
    assert len(schema.to_run(found)[1][schema.SOURCE]) < 8000


@pytest.mark.parametrize("changed", [{schema.FLEET: "0,a"}, {schema.FLEET: "1;2"}])
def test_a_run_that_cannot_be_read_is_left_out_with_one_line(caplog, changed):
    good = Model("student", 0, 1.0, "teacher>student", LABELS, "models:/s/1", "r1", weights="w")
    bad = run_of(good, **changed)
    assert [model for _, model in schema.readable([bad, run_of(good)])] == [schema.from_run(run_of(good))]
    (line,) = (record.getMessage() for record in caplog.records)
    assert all(text in line for text in ("r1", *changed.values()))
    assert "\n" not in line


@pytest.mark.parametrize("text", ["Test", "banana", ""])
def test_a_run_whose_choice_was_edited_to_no_known_word_counts_as_chosen_on_validation(text):
    model = Model("student", 0, 1.0, "teacher>student", LABELS, "models:/s/1", "r1", weights="w")
    assert schema.from_run(run_of(model, **{schema.SELECT_ON: text})).select_on == "validation"


@cache
def literals(path):
    """Return the texts of a file that are no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented
    ]


def is_module(name):
    *folders, file = name.split(".")
    place = ROOT.joinpath(*folders)
    return (place / f"{file}.py").is_file() or (place / file).is_dir()


FILES = sorted([*ROOT.glob("kdops/**/*.py"), *ROOT.glob("pipelines/**/*.py")])


def test_no_other_file_names_a_tag():
    """What a text calls ``kdops.something`` is a module, or the name of a file; tags stand in the schema."""
    tags = {value for value in vars(schema).values() if isinstance(value, str) and value.startswith("kdops.")}
    named = re.compile(r"(?<![\w/`])kdops\.[\w.]+(?![\w.]*`)|`kdops\.[\w.]+(?=` ?[!=])")
    wrong = [
        (str(path), name)
        for path in FILES
        if path.name != "schema.py"
        for text in literals(path)
        for name in named.findall(text)
        if name.strip("`") in tags or not (is_module(name.rstrip(".")) or name.startswith("kdops.yaml"))
    ]
    assert not wrong, "take it from kdops/sweeps/schema.py"


def test_tags_are_read_by_the_names_of_the_schema():
    """``tags["x"]``, ``tags.get("x")`` and ``tags.x = `` of a filter; MLflow's own have a dot."""
    read = re.compile(r"""\btags(?:\[|\.get\()['"]([a-z_]+)['"]|['" ]tags\.([a-z_]+) ?[!=<>]""")
    files = (path for path in FILES if path.name != "schema.py")
    assert not [(path, found) for path in files if (found := read.findall(path.read_text(encoding="utf-8")))]


def test_metrics_are_named_in_one_place():
    """The settings stand below them: there an objective of a search has the name of its metric."""
    named = {value for name, value in vars(metrics).items() if name.isupper()}
    others = (path for path in FILES if "config" not in path.parts and path.name != "metrics.py")
    wrong = {str(path): found for path in others if (found := named & set(literals(path)))}
    assert not wrong, "take it from kdops/sweeps/metrics.py"


def written_parameters(path):
    """Return the names by which a file reads or writes a run's parameters: ``params["x"]``, ``params={"x": ...}``."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        owner, names = None, []
        if isinstance(node, ast.Subscript):
            owner, names = node.value, [node.slice]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            owner, names = node.func.value, node.args[:1]
        elif isinstance(node, ast.Compare):
            owner, names = node.comparators[0], [node.left]
        elif isinstance(node, ast.keyword | ast.Assign) and isinstance(node.value, ast.Dict):
            owner = ast.Name(node.arg or "") if isinstance(node, ast.keyword) else node.targets[0]
            names = [key for one in ast.walk(node.value) if isinstance(one, ast.Dict) for key in one.keys]
        if owner is not None and ast.unparse(owner).rpartition(".")[2] == "params":
            found += [one.value for one in names if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return found


def test_parameters_of_runs_are_named_in_one_place():
    wrong = {str(path): found for path in FILES if (found := written_parameters(path))}
    assert not wrong, "take it from kdops/sweeps/params.py"


def test_parameters_are_found_however_they_are_written(tmp_path):
    file = tmp_path / "some.py"
    file.write_text(
        'run.data.params["a"], m.params.get("b"), "c" in params, f(params={"d": 1, **({"e": 2} if x else {})})\n'
        'params = {"f": 1, SEED: 2}\nother["g"], params[name], params.get(SEED)\n',
        encoding="utf-8",
    )
    assert sorted(written_parameters(file)) == list("abcdef")
