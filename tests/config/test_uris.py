"""The URI of a registered version: what is written is read back, and a caller may leave out the scheme."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdops.config.uris import ModelUri, check_model
from kdops.errors import UsageError

names = st.from_regex(r"[A-Za-z0-9_.-]{1,20}", fullmatch=True)
uris = st.one_of(
    st.builds(ModelUri, names, st.integers(1, 999_999_999).map(str)), st.builds(ModelUri, names, st.just(""), names)
)


@given(uris)
def test_what_is_written_is_read_back(uri):
    assert ModelUri.fits(str(uri))
    assert ModelUri.parse(str(uri)) == check_model(str(uri)) == check_model(uri.short) == uri


def test_models_of_others_may_have_blanks_in_their_names():
    assert ModelUri.parse("models:/My model/3") == ModelUri("My model", "3")


@pytest.mark.parametrize("text", ["", "models:/a", "models:/m-0123456789abcdef", "runs:/1/model", "models:/a/x", "a/3"])
def test_what_is_no_version_is_refused(text):
    assert not ModelUri.fits(text)
    with pytest.raises(UsageError, match="must be models:/name/version or models:/name@alias"):
        ModelUri.parse(text)
