"""Rows become values between 0 and 255 in one way, for training and for rows to come."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdops.config.datasets import parse_dataset
from kdops.data.tabular.fit_encoding import fit_encoding
from kdops.data.tabular.rows import Encoding, RowError
from kdops.errors import UsageError


def fit(columns):
    return fit_encoding(columns, parse_dataset({"dataset": "csv:rows.csv"}))


finite = st.floats(allow_nan=False, allow_infinity=False)


def refused(act, *arguments, **named):
    with pytest.raises((UsageError, RowError)) as caught:
        act(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@given(st.lists(finite, min_size=1, max_size=300))
def test_numbers_keep_their_order_and_fill_the_range(numbers):
    encoding = fit({"x": [repr(number) for number in numbers]})
    codes = encoding.encode([{"x": number} for number in numbers])
    assert (codes.dtype, codes.shape) == (np.uint8, (len(numbers), 1, 1, 1))
    in_order = codes.ravel()[np.argsort(numbers, kind="stable")].astype(int)
    assert np.all(np.diff(in_order) >= 0)


def test_numbers_spread_evenly_whatever_their_scale():
    wild = np.exp(np.random.default_rng(0).normal(0, 4, 5000))
    codes = fit({"x": list(map(str, wild))}).encode([{"x": number} for number in wild]).ravel()
    counts = np.bincount(codes // 32, minlength=8)
    assert counts.min() > 550
    assert counts.max() < 700
    assert (codes.min(), codes.max()) == (0, 255)


def test_what_lies_beyond_the_training_rows_counts_as_their_ends():
    encoding = fit({"x": ["1", "2", "3"]})
    assert encoding.encode([{"x": -1e300}, {"x": 2}, {"x": 1e300}]).ravel().tolist() == [0, 128, 255]


def test_a_missing_number_is_the_median_and_flagged():
    encoding = fit({"x": ["1", "NA", "3", "2", ""], "y": ["5", "6", "7", "8", "9"]})
    codes = encoding.encode([{"x": None, "y": 7}, {"x": "2", "y": float("nan")}, {"x": pd.NA, "y": "?"}])
    assert codes[:, :, 0, 0].tolist() == [[128, 255, 128], [128, 0, 128], [128, 255, 128]]


def test_categories_are_one_of_many_and_missing_is_one_of_them():
    encoding = fit({"color": ["red", "blue", "", "red"]})
    assert encoding.columns[0].values == ("", "blue", "red")
    assert encoding.encode([{"color": "red"}, {"color": "none"}])[:, :, 0, 0].tolist() == [[0, 0, 255], [255, 0, 0]]


cells = st.one_of(st.integers(-99, 99).map(str), st.sampled_from(["", "a", "b", "NaN", "1e3"]))


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=20))
def test_json_gives_the_same_encoding_back(rows):
    columns = {"first": [row[0] for row in rows], "second": [row[1] for row in rows]}
    try:
        encoding = fit(columns)
    except UsageError:
        return
    again = Encoding.from_json(encoding.to_json())
    assert again == encoding
    assert again.to_json() == encoding.to_json()
    records = [dict(zip(columns, row, strict=True)) for row in rows]
    np.testing.assert_array_equal(again.encode(records), encoding.encode(records))
    np.testing.assert_array_equal(encoding.encode(pd.DataFrame(records)), encoding.encode(records))
    assert encoding.encode(records).shape == (len(rows), encoding.width, 1, 1)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "{}", '{"format":2,"columns":[]}', '{"format":1,"columns":[{"kind":"x"}]}',
             '{"format":1,"columns":[{"kind":"number","name":"a"}]}', '{"format":1,"columns":[3]}']
)  # fmt: skip
def test_what_is_no_encoding_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        Encoding.from_json(text)


def test_rows_that_do_not_fit_are_named():
    encoding = fit({"age": ["1", "2"], "color": ["red", "blue"]})
    good = {"age": 1, "color": "red", "other": "left alone"}
    assert encoding.encode([good]).shape == (1, 3, 1, 1)
    assert encoding.encode([]).shape == (0, 3, 1, 1)
    assert "row 1 has no column age" in refused(encoding.encode, [good, {"color": "red"}])
    assert "row 1 has 'old' in the column age, which is no number" in refused(
        encoding.encode, [good, {**good, "age": "old"}]
    )
    assert "'inf'" in refused(encoding.encode, [{**good, "age": float("inf")}])


def test_a_category_that_was_not_seen_is_remarked_on_and_is_none_of_the_known_ones():
    encoding = fit({"age": ["1", "2"], "color": ["red", "blue"]})
    rows, remarks = [{"age": 1, "color": color} for color in ("red", "green", "")], {}
    encoded = encoding.encode(rows, remark=remarks.setdefault)
    assert encoded[1:, 1:].sum() == 0
    assert encoded[0, 1:].sum() == 255
    assert remarks == {
        1: "row 1 has 'green' in the column color, which no training row has",
        2: "row 2 has no value in the column color, which no training row has",
    }


def test_what_pandas_reads_as_a_number_is_the_category_that_it_was():
    text = {"code": ["0123", "0045", "7", ""], "open": ["true", "false", "true", ""], "month": ["4", "12", "", "4"]}
    encoding = fit_encoding(text, parse_dataset({"dataset": "csv:rows.csv"}), categorical=["month"])
    frame, remarks = pd.DataFrame(text), {}
    read = pd.read_csv(io.StringIO(frame.to_csv(index=False)))
    assert {kind.kind for kind in read.dtypes} == {"f", "O"}  # codes and months are floats, and truth values are none
    assert (encoding.encode(read, remark=remarks.setdefault) == encoding.encode(frame)).all()
    assert remarks == {}
    # Where several may be meant it is none of them, and text is what it says.
    other = fit({"code": ["07", "7", "0123", "x"]})
    for cell, seen in ((7.0, False), (7, True), ("123", False), (123, True)):
        assert other.encode([{"code": cell}]).any() == seen


def test_columns_that_teach_nothing_are_named():
    assert "the column x has no value in the training rows" in refused(fit, {"x": ["", "NA"]})
    names = [f"name {number}" for number in range(101)]
    assert "101 different values that are not all numbers (such as 'name 0')" in refused(fit, {"x": names})
    assert fit({"x": names[:100]}).width == 100
    many = {f"c{number}": names[:100] for number in range(41)}
    assert "4100 values a row" in refused(fit, many)


def test_the_encoding_is_small_and_plain():
    wild = {
        f"c{number}": [str(value) for value in np.random.default_rng(number).normal(size=500)] for number in range(20)
    }
    text = fit(wild).to_json()
    assert len(text) < 20 * 4000
    assert set(json.loads(text)) == {"format", "columns"}
