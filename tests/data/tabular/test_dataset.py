"""Tables: what is in them arrives encoded, nothing of the test rows leaks, and what is wrong is one line."""

import gzip
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from kdops.cli.app import main
from kdops.config.datasets import parse_dataset
from kdops.data import dataset as data
from kdops.data.splits import make_split
from kdops.data.tabular import table_file
from kdops.data.tabular.rows import Encoding
from kdops.errors import KdopsError, UsageError

RANDOM = np.random.default_rng(0)


def lines(count=60):
    """Return a table of three kinds of flowers; length and color tell them apart."""
    rows = ["length,width,color,plant,part,label"]
    for number in range(count):
        kind = number % 3
        part = "train" if number < count * 0.6 else "val" if number < count * 0.8 else "test"
        length = f"{kind * 2 + RANDOM.random():.3f}" if number % 7 else ""
        rows.append(f"{length},{RANDOM.normal():.4f},{'red' if kind else 'blue'},p{number // 3},{part},kind {kind}")
    return rows


ROWS = lines()


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KDOPS_DATA_ROOT", raising=False)


@pytest.fixture
def write(tmp_path):
    def write(rows=ROWS, name="flowers.csv"):
        path = tmp_path / name
        path.write_text("\n".join(rows) + "\n") if isinstance(rows, list) else path.write_bytes(rows)
        return path

    return write


def load(path, **options):
    return data.load(parse_dataset({"dataset": f"csv:{path}", **options}))


def refused(path, parameter="dataset", **options):
    with pytest.raises(UsageError) as caught:
        load(path, **options)
    assert caught.value.parameter == parameter
    assert "\n" not in str(caught.value)
    return str(caught.value)


def without(rows, *columns):
    """Leave out columns."""
    places = [place for place, name in enumerate(rows[0].split(",")) if name not in columns]
    return [",".join(row.split(",")[place] for place in places) for row in rows]


PLAIN = without(ROWS, "plant", "part")


def test_a_table(write):
    found = load(write(PLAIN))
    assert (found.name, found.classes) == ("flowers", ("kind 0", "kind 1", "kind 2"))
    # Length with its flag, width, and two colors.
    assert found.shape == (5, 1, 1)
    assert found.labels[:6].tolist() == [0, 1, 2, 0, 1, 2]
    assert found.images[0, :, 0, 0].tolist()[1] == 255
    assert found.images[0, 3:, 0, 0].tolist() == [255, 0]
    assert "60 rows of 3 classes, 2 columns of numbers and 1 of categories, 5 values a row" in found.notes
    assert "held out" in found.notes
    assert found.test.sum() == 12
    make_split(found, "disjoint", 0)


def test_the_encoding_never_sees_a_test_row(write):
    """Whatever the test rows hold, the encoding and every other row stay what they are."""
    before = load(write(PLAIN))
    rows = list(PLAIN)
    for number in np.flatnonzero(before.test):
        cells = rows[number + 1].split(",")
        rows[number + 1] = ",".join(["1e9", "-1e9", *cells[2:]])
    after = load(write(rows))
    assert after.encoding == before.encoding
    np.testing.assert_array_equal(after.images[~after.test], before.images[~before.test])
    assert (after.images[after.test] != before.images[before.test]).any()
    assert after.digest != before.digest


def test_groups_and_given_parts(write):
    grouped = load(write(without(ROWS, "part")), group="plant")
    assert grouped.has_tracks
    assert grouped.shape == (5, 1, 1)
    assert grouped.tracks[:7].tolist() == [0, 0, 0, 1, 1, 1, 2]
    parted = load(write(without(ROWS, "plant")), split="part")
    assert np.flatnonzero(parted.test).tolist() == list(range(48, 60))
    split = make_split(parted, "disjoint", 0)
    assert split.validation.tolist() == list(range(36, 48))
    assert "the test set that they come with; 12 are the validation set" in parted.notes


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters_and_quotes(write, delimiter):
    rows = [row.replace(",", delimiter) for row in PLAIN]
    rows[1] = rows[1].replace("blue", '"blue"')
    assert load(write(rows)).digest == load(write(PLAIN)).digest
    assert load(write(b"\xef\xbb\xbf" + "\r\n".join(PLAIN).encode())).digest == load(write(PLAIN)).digest


def test_the_class_is_the_column_label_or_the_last_or_the_given_one(write):
    rows = without(ROWS, "plant", "part", "label")
    assert load(write(rows)).classes == ("blue", "red")
    assert load(write(PLAIN), label="color").classes == ("blue", "red")
    numbers = [
        PLAIN[0].replace("label", "kind"),
        *(row.replace("kind 0", "10").replace("kind ", "") for row in PLAIN[1:]),
    ]
    assert load(write(numbers)).classes == ("1", "2", "10")


def test_two_tables_of_equal_values_and_other_scales_are_other_data(write):
    larger = [PLAIN[0]]
    for row in PLAIN[1:]:
        length, *rest = row.split(",")
        larger.append(",".join([f"{1024 * float(length)}" if length else "", *rest]))
    one, other = load(write(PLAIN)), load(write(larger, "larger.csv"))
    np.testing.assert_array_equal(one.images, other.images)
    assert one.digest != other.digest


def changed(line, old, new):
    return [row.replace(old, new) if number == line else row for number, row in enumerate(PLAIN)]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        ([PLAIN[0]], "has no rows"),
        (b"\xff\xfe\x00", "a character of code 0"),
        (b"1,2,3\n4,5,6\n", "has numbers only in its first line"),
        ([",".join(["" if number == 0 else f"a{number}", row]) for number, row in enumerate(PLAIN)],
         "column 1 has no name"),
        ([row.replace("kind ", "") + ".0" * (number == 5) for number, row in enumerate(PLAIN)], "which are one number"),
        (b"a,b\n\"x,1\n", "cannot be read as a table"),
        (changed(0, "width", "length"), "two columns are called length"),
        (changed(0, "width", ""), "column 2 has no name"),
        (changed(3, "red", "red,4"), "line 4 has 5 cells, and the first 4"),
        (changed(3, "kind 2", ""), "line 4 has no label in the column label"),
        ([row.replace("kind 1", "") for row in PLAIN], "line 3 (and 19 more) has no label"),
        ([PLAIN[0], *(f"{row}{number}" for number, row in enumerate(PLAIN[1:]))],
         "60 different values in 60 rows, too many"),
        ([PLAIN[0], *(row for row in PLAIN if "kind 1" in row)], "at least 2 classes, and has 'kind 1' alone"),
        ([*PLAIN[:40], "1,1,red,rare", "1,1,red,rare"], "class 'rare' has 2 rows, and needs at least 3"),
        ([",".join(["", *row.split(",")[1:]]) if number else row for number, row in enumerate(PLAIN)],
         "the column length has no value in the training rows"),
        (without(PLAIN, "length", "width", "color"), "has no column beside label"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_table(write, rows, words):
    assert words in refused(write(rows))


def test_a_category_that_only_test_rows_have_is_none_of_the_known_ones(write):
    test = np.flatnonzero(load(write(PLAIN)).test)
    row = PLAIN[test[0] + 1]
    color = row.split(",")[2]
    found = load(write(changed(test[0] + 1, color, "green")))
    assert found.images[test[0], -2:].sum() == 0
    assert "1 test row with a category that no training row has" in found.notes
    assert f"line {test[0] + 2} has 'green' in the column color" in found.notes


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (lambda row: f"{row % 40}.5", "40 different numbers with fractions, a quantity: one class a row is learned"),
        (lambda row: str(row % 50), "50 different whole numbers, 4.0 rows each on average, a quantity"),
        (lambda row: ("cat", "dog", "cat;dog")[row % 3], "cells such as 'cat;dog', several labels a row"),
        (lambda row: ("a|b", "b|c", "c|a")[row % 3], "cells such as 'a|b', several labels a row"),
        (lambda row: ("1", "1.0")[row % 2], "1 and 1.0, which are one number"),
    ],
)
def test_a_column_that_is_not_one_class_a_row_is_refused_in_a_line(write, label, words):
    rows = ["x,label", *(f"{row},{label(row)}" for row in range(200))]
    assert words in refused(write(rows))


@pytest.mark.parametrize(
    "label",
    [
        lambda row: f"{row % 5}.5",
        lambda row: str(row % 25),
        lambda row: f"{row % 20}.0",
        lambda row: ('"Doe, Jane"', '"Roe, John"')[row % 2],
        lambda row: ("a;b", "c")[row % 2],
    ],
)
def test_numbers_and_marks_may_be_classes(write, label):
    rows = ["x,label", *(f"{row},{label(row)}" for row in range(600))]
    assert len(load(write(rows)).labels) == 600


def test_a_class_may_be_called_none(write):
    assert load(write([row.replace("kind 1", "none").replace("kind 2", "NA") for row in PLAIN])).classes == (
        "NA",
        "kind 0",
        "none",
    )


def kinds(found):
    """Return what each column was taken for."""
    return {one.name: type(one).__name__ for one in Encoding.from_json(found.encoding).columns}


def test_columns_are_left_out_or_taken_for_what_the_caller_says(write):
    path = write(ROWS)
    assert "ignore=plant" not in str(load(path, ignore="plant, part").notes)
    assert kinds(load(path, ignore="plant, part")) == {"length": "Number", "width": "Number", "color": "Category"}
    codes = [f"{row},{'code' if number == 0 else number % 4}" for number, row in enumerate(PLAIN)]
    assert kinds(load(write(codes), label="label"))["code"] == "Number"
    assert kinds(load(write(codes), label="label", categorical="code"))["code"] == "Category"
    zeros = [f"{row},{'code' if number == 0 else f'0{number % 4}'}" for number, row in enumerate(PLAIN)]
    assert kinds(load(write(zeros), label="label"))["code"] == "Category"
    assert kinds(load(write(zeros), label="label", numeric="code"))["code"] == "Number"
    assert "has no such column" in refused(path, "ignore", ignore="colors")
    assert "is the column of label already" in refused(path, "ignore", ignore="label", label="label")
    assert "which is no number" in refused(path, "numeric", numeric="color", label="label")


def written(rows, how):
    """Return the bytes of a table as other programs write it."""
    text = "\n".join(rows) + "\n"
    return {
        "gzip": lambda: gzip.compress(text.encode()),
        "utf-16": lambda: text.encode("utf-16"),
        "utf-16 by gzip": lambda: gzip.compress(text.encode("utf-16")),
        "cp1252": lambda: text.replace("red", "rouge fonc\xe9").encode("cp1252"),
        "bars": lambda: text.replace(",", "|").encode(),
        "blanks": lambda: text.replace("kind ", "kind").replace(",", "   ").encode(),
        "commas": lambda: text.replace(",", ";").replace(".", ",").encode(),
        "index": lambda: "".join(f"{number - 1 if number else ''},{row}\n" for number, row in enumerate(rows)).encode(),
    }[how]()


@pytest.mark.parametrize("how", ["gzip", "utf-16", "utf-16 by gzip", "cp1252", "bars", "blanks", "commas", "index"])
def test_tables_as_other_programs_write_them(write, how):
    rows = [row for row in PLAIN if not row.startswith(",")]  # runs of blanks have no empty cells
    plain, found = load(write(rows)), load(write(written(rows, how)))
    assert np.array_equal(found.images, plain.images)
    assert np.array_equal(found.labels, plain.labels)
    remark = {
        "cp1252": "read as cp1252",
        "commas": "decimal commas in length, width",
        "index": "without its first column",
    }
    assert remark.get(how, "") in found.notes


def test_a_column_that_is_ignored_may_have_anything(write):
    rows = [row.replace(",", ";") + (";price" if number == 0 else ";1,234") for number, row in enumerate(PLAIN)]
    path = write(("\n".join(rows) + "\n").encode())
    assert "the comma may part thousands" in refused(path, label="label")
    assert np.array_equal(load(path, ignore="price", label="label").images, load(write(PLAIN), label="label").images)


@pytest.mark.parametrize("kind", ["cells", "numbers", "texts"])
def test_what_is_compressed_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch, kind):
    path = tmp_path / "bomb"
    if kind == "cells":
        path.write_bytes(gzip.compress(b"a,b,label\n" + b",,x\n" * 400_000))
    else:
        column = np.zeros(400_000, dtype=np.int8) if kind == "numbers" else ["x" * 100_000] * 1000
        pd.DataFrame({"a": column}).to_parquet(path)
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(table_file.psutil, "virtual_memory", lambda: SimpleNamespace(available=2 * 10**7))
    assert "times as much memory" in refused(path)


def test_damaged_and_odd_files_are_one_line(write, tmp_path):
    content = bytearray(gzip.compress("\n".join(PLAIN).encode()))
    content[40:60] = bytes(20)
    (tmp_path / "damaged.csv").write_bytes(content)
    assert "cannot be read as a table" in refused(tmp_path / "damaged.csv")
    far = pa.table({"when": pa.array([2**50] * 9, pa.timestamp("s")), "label": list("abcabcabc")})
    parquet.write_table(far, tmp_path / "far.parquet")
    assert "cannot be read as Parquet" in refused(tmp_path / "far.parquet")
    parquet.write_table(pa.table({"a": [[1]] * 9, "label": list("abcabcabc")}), tmp_path / "lists.parquet")
    assert "has lists or records in the column a" in refused(tmp_path / "lists.parquet")


def test_a_table_without_a_header_is_refused(write):
    flowers = b"5.1,3.5,setosa\n4.9,3.0,setosa\n6.1,2.8,virginica\n"
    assert "looks like a row ('setosa' is a value of rows below too)" in refused(write(flowers))
    assert "looks like a row" in refused(write(b"p,x\np,y\ne,x\np,x\n"))
    load(write([row.replace("length", "2020") for row in PLAIN]))  # a year may be a name


def test_a_comma_that_may_part_thousands_is_refused(write):
    rows = [row.replace(",", ";") for row in PLAIN]
    prices = [f"{row};{'price' if number == 0 else f'{number},500'}" for number, row in enumerate(rows)]
    assert "the comma may part thousands or decimals" in refused(write(prices), label="label")
    assert "commas in price" in load(write([*prices[:5], prices[5][:-1], *prices[6:]]), label="label").notes


def test_the_index_of_a_data_frame_is_not_learned_from(write, tmp_path):
    frame = pd.read_csv(write(PLAIN)).sample(frac=1, random_state=0)
    frame.to_parquet(tmp_path / "flowers.parquet")
    found = load(tmp_path / "flowers.parquet")
    assert set(kinds(found)) == {"length", "width", "color"}
    assert "without __index_level_0__" in found.notes


def test_parquet_is_read_as_its_text(write, tmp_path):
    frame = pd.read_csv(write(PLAIN), dtype={"length": str, "width": str})
    frame.to_parquet(tmp_path / "flowers.parquet")
    found = load(tmp_path / "flowers.parquet", name="flowers")
    assert found.digest == load(write(PLAIN)).digest
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "flowers.parquet").read_bytes()[:200])
    assert "cannot be read as Parquet" in refused(tmp_path / "cut.parquet")


def test_text_among_the_numbers_of_the_test_rows_is_named(write):
    test = np.flatnonzero(load(write(PLAIN)).test)
    width = PLAIN[test[0] + 1].split(",")[1]
    assert "has 'wide' in the column width, which is no number" in refused(write(changed(test[0] + 1, width, "wide")))


def test_columns_that_are_not_there_or_taken(write, tmp_path):
    path = write(ROWS)
    for parameter in ("label", "group", "split"):
        assert "has no such column; it has length, width" in refused(path, parameter, **{parameter: "colors"})
    assert "is the column of label already" in refused(path, "group", group="label", label="label")
    assert "line 2 has 'p0'; allowed are train, val and test" in refused(path, "split", split="plant")
    assert "no row has train" in refused(write([row.replace("train", "test") for row in ROWS]), "split", split="part")
    assert "no such file" in refused(tmp_path / "none.csv")
    assert "must be a file" in refused(tmp_path)


def test_too_few_rows_for_a_mode_say_how_many_are_needed(write):
    few = load(write(PLAIN[:10]))
    with pytest.raises(KdopsError, match=r"has 2 rows outside the test set.*needs at least 3.*transfer=shared"):
        make_split(few, "disjoint", 0)


def test_a_study_of_a_table_and_its_model_on_new_rows(write, empty_database, monkeypatch, capsys):
    import mlflow

    from tests.conftest import Place, copy_database

    path = write(without(lines(600), "plant", "part"))
    place = Place(path.parent)
    copy_database(empty_database, place.database)
    place.enter(monkeypatch)
    small = {"student": "mlp(hidden=20)", "teacher": "mlp(hidden=20)", "learning_rate": "0.01", "seeds": "1"}
    capsys.readouterr()
    place.plan("students", dataset=f"csv:{path}", **small)
    plan = capsys.readouterr()
    assert " rows, " in plan.out
    assert "image" not in plan.out + plan.err
    place.run("students", dataset=f"csv:{path}", temperatures="2,4", **small)
    assert {run.data.tags["kdops.dataset"] for run in place.children()} == {"flowers"}
    place.run("ensemble", dataset=f"csv:{path}", controls="false", temperatures="2,4", **small)
    new = [{"length": 0.5, "width": 0, "color": "blue"}, {"length": 4.5, "width": None, "color": "red"}]
    for name in ("kdops-flowers-teacher", "kdops-flowers-student", "kdops-flowers-ensemble"):
        model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
        scores = model.predict(new)
        assert [model.metadata.metadata["class_names"][best] for best in scores.argmax(axis=1)] == ["kind 0", "kind 2"]
    # The same from a file: rows that cannot be encoded are a line each, and can be left out.
    file = path.parent / "new.csv"
    file.write_text("color;width;length\nblue;0;0.5\ngreen;1;1\nred;;4.5\nred;wide;1\n")
    capsys.readouterr()
    ask = ("predict", "kdops-flowers-student@champion")
    assert main([*ask, str(file)]) == 2
    capsys.readouterr()
    assert main([*ask, str(file), "--skip-bad", "true"]) == 0
    told = capsys.readouterr()
    answers = [line.split("  ")[:2] for line in told.out.splitlines()]
    assert [answers[0], answers[2]] == [[f"{file}:2", "kind 0"], [f"{file}:4", "kind 2"]]
    assert answers[1][0] == f"{file}:3"
    assert "line 3 has 'green' in the column color, which no training row has" in told.err
    assert "line 5 has 'wide' in the column width, which is no number" in told.err
    odd = model.predict([*new, {**new[0], "color": "green"}], params={"output": "classes"})
    assert odd.remark.tolist() == ["", "", "row 2 has 'green' in the column color, which no training row has"]
    assert list(model.predict(new, params={"output": "classes"})) == ["class", "probability"]
    file.write_text("color,width\nblue,0\n")
    assert main([*ask, str(file), str(path.parent / "none.csv")]) == 2
    assert [line.rpartition(": ")[2] for line in capsys.readouterr().err.splitlines()] == [
        "has no column length",
        "there is no such file",
    ]
    # And as a file, which takes encoded rows and says how they are encoded.
    assert main(["export", ask[1], "--format", "pt2", "--output", str(path.parent / "a.pt2")]) == 0
    told = capsys.readouterr().out
    assert "encoded rows of flowers" in told
    assert "image" not in told
    page = mlflow.MlflowClient().get_model_version("kdops-flowers-student", "1").description
    assert "operations a row" in page
    assert "image" not in page
    extra = {"table.json": ""}
    exported = torch.export.load(path.parent / "a.pt2", extra_files=extra).module()
    given = exported(torch.from_numpy(Encoding.from_json(extra["table.json"]).encode(new)))
    served = mlflow.pyfunc.load_model("models:/kdops-flowers-student@champion").predict(new)
    np.testing.assert_allclose(given.detach().numpy(), served, rtol=1e-5)
