"""A hundred mistakes through the real command line: the exit code, one line that says what is wrong, and no run."""

from __future__ import annotations

import os
import sqlite3
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from kdops.cli.app import main

ROOT = Path(__file__).resolve().parents[2]
LONG = "9" * 5000

# Of every command that runs a study: the arguments, and a word of the answer.
SETTINGS = [
    (["students", "--temperatures", "1;2"], "temperatures=1;2"),
    (["students", "--temperatures", "1-2-3"], "must be a list"),
    (["students", "--temperatures", LONG], "(5,000 characters)"),
    (["students", "--temperatures", "1e1"], "must be a list"),
    (["students", "--temperatures", "\uff11-\uff12\n\x1b[2J"], "\\x1b[2J"),
    (["students", "--temperatures", "0.001"], "must be a list"),
    (["students", "--seeds", "1001"], "from 1 to 1000"),
    (["students", "--seeds", "three"], "seeds=three"),
    (["students", "--seeds", "1 2"], "whole number"),
    (["students", "--seeds", "\u00b2"], "whole number"),
    (["students", "--seeds", "all"], "whole number"),
    (["students", "--seed", "2147483648"], "whole number"),
    (["students", "--seed", "0x1"], "whole number"),
    (["students", "--split-seed", "newest"], "whole number"),
    (["students", "--split-seed", "-1"], "split_seed=-1"),
    (["students", "--teacher", "cnn("], "unknown architecture"),
    (["students", "--teacher", "cnn()()"], "unknown architecture"),
    (["students", "--teacher", "CNN"], "unknown architecture"),
    (["students", "--teacher", "cnn(filters=1e3)"], "filters"),
    (["students", "--teacher", "cnn(layers=21)"], "from 1 to 20"),
    (["students", "--teacher", "cnn(dropout=1.0)"], "dropout"),
    (["students", "--teacher", "cnn(dropout=-0.1)"], "dropout"),
    (["students", "--teacher", "../../etc:passwd"], "unknown architecture"),
    (["students", "--teacher", "torchvision:resnet18(weights=/tmp/evil.pth)"], "weights must be one of none, default"),
    (["students", "--teacher", "torchvision:../x"], "unknown architecture"),
    (["students", "--teacher", "torchvision:no_such_net"], "no_such_net"),
    (["students", "--teacher", "no_such_module:net"], "no module no_such_module"),
    (["students", "--teacher", "os:no_such_function"], "no function no_such_function"),
    (["students", "--student", "mlp(hidden=0)"], "hidden"),
    (["students", "--student", "mlp(hidden=100001)"], "hidden"),
    (["students", "--student", "mlp(hidden)"], "needs a value"),
    (["students", "--student", ""], "(empty)"),
    (["students", "--middle", "mlp(depth=101)"], "depth"),
    (["students", "--epochs", "teacher=6;student=10"], "epochs="),
    (["students", "--epochs", "teacher="], "teacher"),
    (["students", "--epochs", "=3"], "unknown role"),
    (["students", "--epochs", "teacher=1=2"], "teacher"),
    (["students", "--epochs", "teacher=3,4"], "unknown role '4'"),
    (["students", "--epochs", "100001"], "100000"),
    (["students", "--batch-size", "0"], "batch_size=0"),
    (["students", "--batch-size", "student=-1"], "student"),
    (["students", "--learning-rate", "1e999"], "learning_rate=1e999"),
    (["students", "--learning-rate", "1_0"], "learning_rate=1_0"),
    (["students", "--learning-rate", "0,1"], "must be a number"),
    (["students", "--transfer", "newest"], "must be one of"),
    (["students", "--transfer", "Disjoint"], "must be one of"),
    (["students", "--alpha", "-0.1"], "alpha=-0.1"),
    (["students", "--alpha", "1,0"], "must be a number"),
    (["students", "--method", "magic"], "method=magic"),
    (["students", "--method", "dkd("], "method=dkd("),
    (["students", "--method", "dkd", "--alpha", "0.5"], "alpha=0.5"),
    (["students", "--t-squared", "1"], "true or false"),
    (["mutual", "--order", "own"], "order=own: must be shared"),
    (["students", "--order", ""], "(empty)"),
    (["students", "--select-on", "test,validation"], "must be one of"),
    (["students", "--margin", "2%"], "must be a number"),
    (["students", "--device", "cuda:99"], "must be one of"),
    (["students", "--fresh", "yes"], "true or false"),
    (["students", "--dry-run", "maybe"], "true or false"),
    (["students", "--source", "kdops-digits-teacher/1"], "model URI"),
    (["students", "--source", "models:/a/1,models:/a/1"], "twice"),
    (["students", "--source", "0*models:/a/1,1*models:/b/1"], "above 0"),
    (["students", "--source", "nan*models:/a/1"], "weight nan"),
    (["students", "--source", "file:///etc/passwd"], "model URI"),
    (["students", "--source", "models:/no-such-model/1"], "no-such-model"),
    (["symmetry", "--student-temperatures", "none"], "student_temperatures"),
    (["symmetry", "--born-again-temperatures", "never"], "born_again_temperatures"),
    (["symmetry", "--reversed-seeds", "4"], "from 1 to 3"),
    (["paper", "--dataset", "digits", "--top", "1"], "top=1"),
    (["paper", "--dataset", "digits", "--controls", "some"], "true or false"),
    (["paper", "--dataset", "digits", "--reversed-temperatures", "0"], "reversed_temperatures=0"),
    (["ensemble"], "the registry has none yet"),
    (["ensemble", "--role", "teacher"], "role=teacher"),
    (["ensemble", "--model", "models:/a"], "model="),
    (["ensemble", "--model", "models:/a/1' or name != '"], "model="),
    (["ensemble", "--model", "kdops-'; drop table runs"], "model="),
    (["chain", "--steps", "teacher"], "at least two"),
    (["chain", "--steps", "teacher>>student"], "step 2 is empty"),
    (["chain", "--steps", "teacher>boss"], "unknown role"),
    (["chain", "--steps", "teacher>student:rnn"], "unknown architecture"),
    (["chain", "--steps", ">".join(["teacher"] * 101)], "101 steps"),
    (["search", "--space", "color=1..2"], "unknown setting"),
    (["search", "--space", "hidden=64..16"], "runs backwards"),
    (["search", "--space", "hidden=16..16"], "is empty"),
    (["search", "--space", "temperature=0..3"], "temperature"),
    (["search", "--space", "hidden=__import__('os')"], "hidden"),
    (["search", "--objective", "test_accuracy"], "must be one of"),
    (["search", "--trials", "0"], "trials=0"),
    (["search", "--trials", "5", "--space", "temperature=1 hidden=16 depth=1 alpha=1 t_squared=true batch_size=64 "
      "learning_rate=0.01"], "1 points"),
    (["search", "--batch", "1001"], "batch=1001"),
    (["search", "--sampler", "cmaes"], "sampler=cmaes"),
    (["search", "--pruner", "hyperband"], "pruner=hyperband"),
    (["search", "--select-on", "test"], "select_on=test"),
    (["search", "--study-name", "two\nlines"], "study_name"),
    (["search", "--storage", "postgresql://me:hunter22@db/x"], "***"),
    (["search", "--storage", "no/such/folder/journal.log"], "storage"),
    (["search", "--storage", "ftp://example.org/x"], "storage"),
]  # fmt: skip

DATA = [
    (["--dataset", "imagefolder:"], "must name a folder"),
    (["--dataset", "imagefolder:nowhere"], "there is no such folder"),
    (["--dataset", "imagefolder:table.csv"], "must be a folder"),
    (["--dataset", "imagefolder:."], "dataset="),
    (["--dataset", "imagefolder:a\nb"], "must name a folder"),
    (["--dataset", "imagefolder:" + "x" * 300], "there is no such folder"),
    (["--dataset", "imagefolder:loop"], "dataset="),
    (["--dataset", "imagefolder:bomb"], "pixels"),
    (["--dataset", "imagefolder:wrong"], "no readable image"),
    (["--dataset", "imagefolder:cut"], "no readable image"),
    (["--dataset", "imagefolder:pipes"], "no file"),
    (["--dataset", "imagefolder:markup"], "needs at least 3"),
    (["--dataset", "imagefolder:sizes"], "2 sizes"),
    (["--dataset", "imagefolder:lines"], "cannot be printed"),
    (["--dataset", "imagefolder:grouped"], "groups.csv must be a file"),
    (["--dataset", "imagefolder:markup", "--image-size", "0x3"], "image_size=0x3"),
    (["--dataset", "imagefolder:markup", "--image-size", "4097"], "image_size=4097"),
    (["--dataset", "imagefolder:markup", "--image-size", "32X32"], "image_size=32X32"),
    (["--dataset", "imagefolder:markup", "--channels", "4"], "channels=4"),
    (["--dataset", "imagefolder:markup", "--name", "digits"], "name=digits"),
    (["--dataset", "imagefolder:markup", "--name", "-rf"], "name=-rf"),
    (["--dataset", "imagefolder:markup", "--name", "a/b"], "name=a/b"),
    (["--dataset", "imagefolder:markup", "--name", "x" * 41], "1 to 40"),
    (["--dataset", "imagefolder:markup", "--name", "naïve"], "of ASCII"),
    (["--dataset", "imagefolder:markup", "--label", "x"], "is for dataset=csv:FILE"),
    (["--dataset", "csv:"], "must name a file"),
    (["--dataset", "csv:nowhere.csv"], "there is no such file"),
    (["--dataset", "csv:/dev/zero"], "must be a file"),
    (["--dataset", "csv:pipe.csv"], "must be a file"),
    (["--dataset", "csv:empty.csv"], "is empty"),
    (["--dataset", "csv:nul.csv"], "code 0"),
    (["--dataset", "csv:latin.csv"], "has 'x' alone"),
    (["--dataset", "csv:utf16.csv"], "has 'x' alone"),
    (["--dataset", "csv:twice.csv"], "two columns are called a"),
    (["--dataset", "csv:wide.csv"], "columns"),
    (["--dataset", "csv:long.csv"], "characters"),
    (["--dataset", "csv:field.csv"], "field larger than field limit"),
    (["--dataset", "csv:quote.csv"], "cannot be read as a table"),
    (["--dataset", "csv:ragged.csv"], "line 3 has 3 cells"),
    (["--dataset", "csv:infinite.csv"], "not all numbers"),
    (["--dataset", "csv:nan.csv"], "no value in the training rows"),
    (["--dataset", "csv:table.csv", "--label", "no"], "label=no"),
    (["--dataset", "csv:table.csv", "--group", "label"], "group=label"),
    (["--dataset", "csv:table.csv", "--split", "a"], "split=a"),
    (["--dataset", "csv:table.csv", "--image-size", "3"], "image_size=3"),
    (["--dataset", "torchvision:"], "torchvision"),
    (["--dataset", "torchvision:../MNIST"], "torchvision"),
    (["--dataset", "torchvision:NoSuchSet"], "no such data set"),
    (["--dataset", "no_such_module:pets"], "no module no_such_module"),
    (["--dataset", "os:getcwd"], "returned"),
    (["--dataset", "os.path:nothing"], "no function nothing"),
    (["--dataset", "pickle:/tmp/x"], "must be one of"),
    (["--dataset", "http://example.org/data.csv"], "must be one of"),
    (["--dataset", "digits", "--data-root", "nowhere"], "no such folder"),
    (["--dataset", "digits", "--data-root", "table.csv"], "must be a folder"),
]

OTHERS = [
    ([""], 2, "kdops --help"),
    (["--version", "--versions"], 2, "no such parameter"),
    (["students", "--no-such-option", "3"], 2, "no such parameter"),
    (["students", "stray"], 2, "stray"),
    (["runs", "--role", "a'b"], 2, "role=a'b"),
    (["runs", "--source", "models:/x"], 2, "source=models:/x"),
    (["runs", "--source", "x@champion"], 2, "no model has this alias"),
    (["lineage"], 2, "MODEL"),
    (["lineage", "../x"], 2, "model=../x"),
    (["lineage", "x/0"], 2, "model=x/0"),
    (["lineage", "kdops-digits-student/1"], 2, "kdops-digits-student/1"),
    (["report", "zzz"], 2, "study=zzz"),
    (["report", "abcdef"], 2, "abcdef"),
    (["report", "abcdef", "--output", "table.csv"], 2, "must be a folder"),
    (["compare", "abcdef"], 2, "STUDY"),
    (["compare", "abcdef", "12"], 2, "study=12"),
    (["candidates"], 1, "no models yet"),
    (["candidates", "--figure", "a.txt"], 2, "must end with .png"),
    (["candidates", "--figure", "no/such/a.png"], 2, "no folder"),
    (["tree", "kdops-digits-student/1", "--output", "a.txt"], 2, "must end with .png"),
    (["export", "x/1", "--format", "pickle"], 2, "format=pickle"),
    (["export", "x/1"], 2, "--format"),
    (["export", "x/1", "--format", "pt2", "--int8", "true"], 2, "int8=true"),
    (["export", "x/1", "--format", "onnx", "--output", "no/such/a.onnx"], 2, "no folder"),
    (["predict", "x/1"], 2, "FILES"),
    (["predict", "x", "a.png"], 2, "model=x"),
    (["predict", "x/1", "a.png", "--skip-bad", "1"], 2, "true or false"),
    (["ui", "--port", "65536"], 2, "port=65536"),
]

STORES = [
    ("sqlite://", 2, "must name a file"),
    ("sqlite:///:memory:", 2, "must name a file"),
    ("sqlite:////proc/no/such.db", 1, "sqlite:////proc/no/such.db"),
    ("postgresql://me:hunter22@127.0.0.1:1/x", 1, "cannot be used"),
    ("nonsense://x", 1, "nonsense"),
    ("\x1b[31m", 1, "\\x1b"),
]


def png(width: int, height: int) -> bytes:
    """Make a PNG that claims a size and holds nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def pictures(folder: Path, **classes: list[bytes | int]) -> None:
    """Make a folder of images: files of some bytes, or gray squares of some size."""
    for label, files in classes.items():
        (folder / label).mkdir(parents=True)
        for number, content in enumerate(files):
            path = folder / label / f"{number}.png"
            path.write_bytes(content) if isinstance(content, bytes) else Image.new("L", (content, content)).save(path)


def make_bad_data(folder: Path) -> None:
    """Make what ``DATA`` speaks of."""
    (folder / "loop").mkdir()
    for label in ("a", "b"):
        (folder / "loop" / label).symlink_to(label)
    pictures(folder / "bomb", a=[png(60_000, 60_000)], b=[8])
    pictures(folder / "wrong", a=[b"GIF89a" + b"\xff" * 50], b=[b"\xff\xd8\xff\xe0" + b"\0" * 50])
    pictures(folder / "cut", a=[8], b=[8])
    whole = (folder / "cut/a/0.png").read_bytes()
    (folder / "cut/a/0.png").write_bytes(whole[: len(whole) // 2])
    pictures(folder / "pipes", a=[8], b=[8])
    os.mkfifo(folder / "pipes/a/pipe.png")
    pictures(folder / "markup", **{"<script>alert(1)<": [8], "b": [8] * 9})
    pictures(folder / "sizes", a=[8] * 5, b=[9] * 5)
    pictures(folder / "lines", **{"a\nb": [8] * 5, "b": [8] * 5})
    pictures(folder / "grouped", a=[8] * 5, b=[8] * 5)
    os.mkfifo(folder / "grouped/groups.csv")
    os.mkfifo(folder / "pipe.csv")
    good = ["a,b,label", *(f"{number},1,{'xy'[number % 2]}" for number in range(30))]
    tables = {
        "table": "\n".join(good).encode(),
        "empty": b"",
        "nul": b"a,label\n1\0,x\n2,y\n",
        "latin": "a,label\nn\xe4,x\n".encode("latin-1"),
        "utf16": "a,label\n1,x\n".encode("utf-16"),
        "twice": b"a,a,label\n1,2,x\n",
        "wide": b",".join(b"c%d" % number for number in range(100_000)) + b"\n",
        "long": b"a,label\n" + b"1," * (2**20) + b"x\n",
        "field": b"a,label\n" + b"1" * 200_000 + b",x\n",
        "quote": b'a,label\n"1"2,x\n',
        "ragged": b"a,label\n1,x\n2,y,z\n",
        "infinite": "\n".join(["a,label", *(f"{number}e999,{'xy'[number % 2]}" for number in range(1, 300))]).encode(),
        "nan": "\n".join(["a,label", *(f"nan,{'xy'[number % 2]}" for number in range(30))]).encode(),
    }
    for name, content in tables.items():
        (folder / f"{name}.csv").write_bytes(content)


@pytest.fixture(scope="module")
def world(empty_database, tmp_path_factory):
    """A folder with an empty store and data that are all wrong; what the launcher sets is taken back."""
    from tests.conftest import Place, copy_database

    place = Place(tmp_path_factory.mktemp("world"))
    copy_database(empty_database, place.database)
    before = dict(os.environ)
    with pytest.MonkeyPatch.context() as patch:
        place.enter(patch)
        make_bad_data(place.folder)
        yield place
        os.environ.clear()
        os.environ.update(before)


def rows(database: Path) -> list[int]:
    with sqlite3.connect(database) as connection:
        tables = ("runs", "logged_models", "registered_models", "model_versions")
        return [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]


def refused(arguments: list[str], code: int, words: str, capsys, world) -> None:
    """Run the command line in this process: it must tell one line, and leave the store empty."""
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    line = err[:-1]
    assert line.isprintable(), ascii(err)
    assert words in line
    assert "Traceback" not in line
    assert "hunter22" not in line
    assert len(line) < 4000
    assert rows(world.database) == [0, 0, 0, 0]


def named(arguments: list[str]) -> str:
    return " ".join(arguments)[:60].encode("unicode_escape").decode()


@pytest.mark.parametrize(("arguments", "words"), SETTINGS, ids=[named(a) for a, _ in SETTINGS])
def test_a_bad_setting(arguments, words, capsys, world):
    refused(arguments, 2, words, capsys, world)


@pytest.mark.parametrize(("arguments", "words"), DATA, ids=[named(a) for a, _ in DATA])
def test_bad_data(arguments, words, capsys, world):
    refused(["teacher", *arguments], 2, words, capsys, world)


@pytest.mark.parametrize(("arguments", "code", "words"), OTHERS, ids=[named(a) for a, _, _ in OTHERS])
def test_a_bad_call_of_another_command(arguments, code, words, capsys, world):
    refused(arguments, code, words, capsys, world)


@pytest.mark.parametrize(("uri", "code", "words"), STORES, ids=[named([uri]) for uri, _, _ in STORES])
@pytest.mark.parametrize("command", ["teacher", "runs"])
def test_a_bad_store(command, uri, code, words, capsys, world, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    refused([command], code, words, capsys, world)


def test_there_are_a_hundred_of_them():
    assert len(SETTINGS) + len(DATA) + len(OTHERS) + len(STORES) >= 100


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["students", "--seeds", "\udcff"], 2),
        (["chain", "--steps", ""], 2),
        (["teacher", "--dataset", "csv:/dev/stdin"], 2),
        (["lineage", "kdops-digits-student/1"], 1),
    ],
)
def test_the_real_program(arguments, code, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "KDOPS_"))}
    program = [sys.executable, "-c", "import sys; from kdops.cli.app import main; sys.exit(main())"]
    done = subprocess.run(
        [*program, *arguments],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=250,
    )
    assert done.returncode == code
    assert done.stdout == b""
    assert done.stderr.count(b"\n") == 1, done.stderr
    assert b"Traceback" not in done.stderr
    assert not list(tmp_path.iterdir()), "nothing is left behind"
