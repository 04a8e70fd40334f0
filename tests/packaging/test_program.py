"""A program that would run code when it is opened is refused before it is."""

import copy
import io
import json
import sys
import zipfile
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import torch
from mlflow.pytorch import _validate_pt2_archive_is_pickle_free

from kdops.config.architectures import parse_architecture
from kdops.models.classifier import build
from kdops.packaging.program import check_archive, load_program
from kdops.utils.random import named_generator
from tests.packaging.test_program_file import IMAGES, SHAPE, STATISTICS, exported


@pytest.fixture(scope="module", params=["mlp(hidden=4)", "cnn(filters=4,layers=2,dropout=0)"])
def program(request, tmp_path_factory):
    net = build(parse_architecture(request.param), SHAPE, 3, *STATISTICS, named_generator("init"))
    return net, exported(net, tmp_path_factory.mktemp("program") / "model.pt2")


def planted(source, folder, change, compression=zipfile.ZIP_STORED):
    """Write a program whose description of the model is changed."""
    path = folder / "planted.pt2"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", compression) as new:
        for record in old.infolist():
            content = old.read(record)
            if record.filename.endswith("models/model.json"):
                content = change(content.decode()).encode()
            new.writestr(record.filename, content)
    return path


def test_what_torch_writes_is_opened(program):
    net, path = program
    check_archive(path)
    with torch.no_grad():
        assert torch.allclose(load_program(path)(IMAGES), net.eval()(IMAGES), atol=1e-5)


def statement(marker):
    return f"__import__('pathlib').Path({str(marker)!r}).touch()"


def expression(model, marker, name=None):
    """Plant it in the shape of the last result, which may be called as a part of PyTorch's format is."""
    graph = model["graph_module"]["graph"]
    last = graph["outputs"][0]["as_tensor"]["name"]
    graph["tensor_values"][last]["sizes"][0] = {"as_expr": {"expr_str": f"{statement(marker)} or Symbol('s1')"}}
    text = json.dumps(model["graph_module"]).replace(json.dumps(last), json.dumps(name or last))
    model["graph_module"] = json.loads(text)


def structure(kind, context):
    """Describe the inputs as a container with a context of its own."""

    def plant(model, marker):
        signature = model["graph_module"]["module_call_graph"][0]["signature"]
        signature["in_spec"] = json.dumps([1, {"type": kind, "context": context, "children_spec": []}])

    return plant


def name_of_an_argument(model, marker):
    node = model["graph_module"]["graph"]["nodes"][-1]
    node.update(target="torch.ops.higher_order.wrap", is_hop_single_tensor_return=True)
    node["inputs"] = [{"name": f"a={statement(marker)}, b", "arg": {"as_int": 1}, "kind": 2}]


ATTACKS = {
    "expression": expression,
    "expression of a value": partial(expression, name="metadata"),
    "enumeration": structure(
        "builtins.tuple", json.dumps([{"__enum__": True, "fqn": "planted_module:Kind", "name": "A"}])
    ),
    "defaultdict": structure(
        "collections.defaultdict",
        {"default_factory_module": "planted_module", "default_factory_name": "x", "dict_context": []},
    ),
    "name of an argument": name_of_an_argument,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_program_that_would_run_code_is_refused(attack, program, tmp_path, monkeypatch):
    """PyTorch runs what each of them names: a statement, or a module in the working folder."""
    marker = tmp_path / "marker"
    (tmp_path / "planted_module.py").write_text(f"import pathlib; pathlib.Path({str(marker)!r}).touch()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "planted_module", raising=False)

    def change(text):
        model = json.loads(text)
        ATTACKS[attack](model, marker)
        return json.dumps(model)

    path = planted(program[1], tmp_path, change)
    with pytest.raises(ValueError, match="might run code"):
        load_program(path)
    assert not marker.exists()
    # The danger is real: PyTorch itself runs it.
    with suppress(Exception):
        torch.export.load(path).module()(IMAGES)
    assert marker.exists()
    sys.modules.pop("planted_module", None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("target", "torch.os.system"),
        ("target", "torch.hub.load"),
        ("target", "torch.ops.load_library.__call__"),
        ("target", "torch.ops.higher_order.wrap"),
        ("target", "torch.ops.aten.save.default"),
        ("target", "torch.ops.aten.__init__.__globals__"),
        ("target", "_operator.call"),
        ("target", "_operator.attrgetter"),
        ("as_operator", "torch.os.system"),
        ("name", "a = 1; b"),
        ("as_name", "torch.os"),
        ("forward_arg_names", ["images): pass\nprint()"]),
        ("parameter_name", 'weight"), print("'),
        ("in_spec", "[2, {}]"),
        ("out_spec", '[1, {"type": "collections.namedtuple", "context": null, "children_spec": []}]'),
        ("out_spec", '[1, {"type": "builtins.dict", "context": "[\\"a=print()\\"]", "children_spec": []}]'),
        ("guards_code", ["__import__('os').getpid()"]),
        ("expr_str", "9**9**9**9"),
        ("expr_str", "Symbol('s0').__class__"),
        ("expr_str", "1" * 5000),
        ("expr_str", {"nested": 1}),
    ],
)
def test_other_records_that_are_more_than_data_are_refused(program, tmp_path, key, value):
    def change(text):
        return json.dumps({**json.loads(text), "more": [{key: value}]})

    with pytest.raises(ValueError, match="might run code"):
        check_archive(planted(program[1], tmp_path, change))


@pytest.mark.parametrize("name", ["model.text", "more/model.json", "weight_0.json"])
def test_a_model_with_a_name_that_torch_does_not_write_is_refused(program, tmp_path, name):
    """PyTorch reads each record below models/."""
    path = planted(program[1], tmp_path, lambda text: text)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"model/models/{name}", "{}")
    with pytest.raises(ValueError, match="the only model that PyTorch writes"):
        check_archive(path)


class Evil:
    """An object that touches a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_a_pickle_that_only_a_hidden_list_of_weights_names_is_refused(program, tmp_path):
    """The plain list says that the weight is plain bytes, so that MLflow does not look at it."""
    path, marker = tmp_path / "hidden.pt2", tmp_path / "marker"
    places = ("models/{}.json", "data/weights/{}_weights_config.json", "data/constants/{}_constants_config.json",
              "data/sample_inputs/{}.pt")  # fmt: skip
    pickled = io.BytesIO()
    torch.save(Evil(marker), pickled)
    with zipfile.ZipFile(program[1]) as old, zipfile.ZipFile(path, "w") as new:
        for record in old.infolist():
            name, content = record.filename.partition("/")[2], old.read(record)
            hidden = [place.format("a/b") for place in places if name == place.format("model")]
            if hidden and name.endswith("weights_config.json"):
                new.writestr(f"x/{name}", content)
                content = content.replace(b'"use_pickle": false', b'"use_pickle": true')
            elif name == "data/weights/weight_0":
                content = pickled.getvalue()
            new.writestr(f"x/{hidden[0] if hidden else name}", content)
    with pytest.raises(ValueError, match="the only model that PyTorch writes"):
        load_program(path)
    assert not marker.exists()
    _validate_pt2_archive_is_pickle_free(str(path))
    with suppress(Exception):
        torch.export.load(path)
    assert marker.exists()


def test_compiled_code_is_refused(program, tmp_path):
    path = planted(program[1], tmp_path, lambda text: text)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model/data/aotinductor/model/model.wrapper.json", "{}")
    with pytest.raises(ValueError, match="is compiled code"):
        check_archive(path)


def test_a_checked_archive_is_closed(program, monkeypatch):
    from torch.export import pt2_archive

    opened = []

    class Reader(pt2_archive.PT2ArchiveReader):
        def __exit__(self, *args):
            opened.append(self)
            super().__exit__(*args)

    monkeypatch.setattr(pt2_archive, "PT2ArchiveReader", Reader)
    check_archive(program[1])
    assert len(opened) == 1


def test_an_archive_that_unpacks_to_another_size_is_refused(program, tmp_path):
    path = planted(program[1], tmp_path, lambda text: text + " " * 5_000_000, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(ValueError, match="is compressed"):
        load_program(Path(path))


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s34', positive=True, integer=True)",
        "Add(Integer(1), Mul(Integer(-1), Symbol('u0', integer=True)))",
        "FloorDiv(s0 + 1, 2)",
        "Max(1, s0) <= 4",
    ],
)
def test_expressions_of_shapes_are_known(program, tmp_path, text):
    check_archive(
        planted(program[1], tmp_path, lambda old: json.dumps({**json.loads(old), "more": {"expr_str": text}}))
    )


def test_records_that_lie_on_one_another_are_refused(program, tmp_path):
    """Each is as large as it says, and all together are thousands of times the file."""
    path = planted(program[1], tmp_path, lambda text: text)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model/extra", b"0" * 1_000_000)
        record = archive.getinfo("model/extra")
        for number in range(3000):
            again = copy.copy(record)
            again.filename = f"model/extra{number}"
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again
    assert path.stat().st_size < 2_000_000
    with pytest.raises(ValueError, match=r"more than the .* of the file"):
        load_program(path)


def test_an_archive_within_may_not_unpack_to_more_either(program, tmp_path):
    path, inner = planted(program[1], tmp_path, lambda text: text), io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"0" * 5_000_000)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model/data/constants/x.pt", inner.getvalue())
    with pytest.raises(ValueError, match=r"'x/data.pkl' is compressed"):
        check_archive(path)


def test_what_python_and_torch_read_differently_is_refused(program, tmp_path):
    """An archive within another one, at the place where one of the two readers looks."""
    _, path = program
    hidden = tmp_path / "hidden.pt2"
    plain = planted(path, tmp_path, lambda text: text)
    hidden.write_bytes(path.read_bytes()[: path.stat().st_size // 2] + plain.read_bytes())
    with pytest.raises((ValueError, RuntimeError)):
        check_archive(hidden)
