"""The parameter ``keep_epochs``."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdops.config.kept_epochs import MOST, KeptEpochs
from kdops.config.settings import Settings
from kdops.errors import UsageError


@given(st.sets(st.integers(0, 60)))
def test_what_is_written_is_read_back(epochs):
    chosen = KeptEpochs.of(epochs)
    assert chosen.listed == tuple(sorted(epochs))
    assert KeptEpochs.read(str(chosen)) == chosen


def test_of_a_shorter_training_those_are_kept_that_there_are():
    assert KeptEpochs.read("1-3,5,9", 9).up_to(6) == (1, 2, 3, 5)
    assert KeptEpochs.read("none").up_to(6) == ()
    assert KeptEpochs.read("0,2-4").up_to(3) == (0, 2, 3)
    assert KeptEpochs.read("all").up_to(3) == (1, 2, 3)
    assert str(KeptEpochs.read("all")) == "all"


@pytest.mark.parametrize("text", ["", "3-1", "1,,2", "-1", "two", "1.5", f"{MOST + 1}"])
def test_anything_else_is_refused(text):
    with pytest.raises(UsageError, match=r"^keep_epochs="):
        KeptEpochs.read(text)


def test_an_epoch_that_no_training_has_is_refused():
    epochs = "teacher=6,student=10,middle=3"
    assert Settings.parse("teacher", epochs=epochs, keep_epochs="10").keep_epochs.listed == (10,)
    with pytest.raises(UsageError, match=r"^keep_epochs=11: must be at most 10, the epochs of the longest training"):
        Settings.parse("teacher", epochs=epochs, keep_epochs="11")
