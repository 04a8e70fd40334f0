"""A program that would run code when it is opened is refused before it is."""

import copy
import io
import json
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
import torch

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


def test_an_expression_that_would_run_is_refused(program, tmp_path):
    marker = tmp_path / "marker"

    def change(text):
        evil = f"__import__('pathlib').Path({str(marker)!r}).touch() or Symbol"
        return text.replace('"expr_str": "Symbol', f'"expr_str": {json.dumps(evil)[:-1]}')

    path = planted(program[1], tmp_path, change)
    with pytest.raises(ValueError, match="is none that PyTorch writes, and might run code"):
        load_program(path)
    assert not marker.exists()
    # The danger is real: PyTorch itself runs it.
    with suppress(Exception):
        torch.export.load(path)
    assert marker.exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("target", "torch.os.system"),
        ("target", "torch.hub.load"),
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
