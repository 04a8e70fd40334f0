"""Numbers as text."""

import math

import pytest

from kdops.utils.text import accuracy_interval, csv_text, duration, file_size, number_ranges, two_digits


@pytest.mark.parametrize(
    ("values", "text"),
    [((), ""), ((3,), "3"), ((0, 1), "0, 1"), ((0, 1, 2), "0-2"), ((0, 1, 2, 6, 7.5, 8.5), "0-2, 6, 7.5, 8.5")],
)
def test_three_whole_numbers_in_a_row_are_a_range(values, text):
    assert number_ranges(values) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.25, 0.5, "0.2500 to 0.5000"),
        (-0.1, 1.2, "0.0000 to 1.0000"),
        (math.nan, math.nan, "needs 2 replicates"),
        (None, None, "needs 2 replicates"),
    ],
)
def test_an_interval_of_accuracies_lies_in_0_to_1(low, high, text):
    assert accuracy_interval(low, high) == text


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (5e12, "5000.0 GB")])
def test_sizes_have_the_unit_that_fits(size, text):
    assert file_size(size) == text


@pytest.mark.parametrize(("seconds", "text"), [(89, "89 s"), (90, "2 min"), (5400, "1.5 h")])
def test_durations_have_the_unit_that_fits(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(0.0774, "0.077"), (1.44, "1.4"), (9.96, "10"), (138.2, "138"), (0, "0")])
def test_two_digits_are_no_powers_of_ten(value, text):
    assert two_digits(value) == text


def test_a_table_as_csv_has_no_formula_and_no_nan():
    text = csv_text(["file", "x"], [["=1+1", -0.5], ["@a", float("nan")], ["b,c", None], ["-", 2], ["-1", 3]])
    assert text == "file,x\n'=1+1,-0.5\n'@a,\n\"b,c\",\n'-,2\n-1,3\n"
