"""The fast encoder against the one of the standard library."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcti import storage
from mcti.registry import canonical_json

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30)


@pytest.mark.slow
@given(st.dictionaries(st.text(), TREES))
def test_the_bytes_are_those_of_the_standard_library(tree):
    assert canonical_json.to_bytes(tree) == storage.to_json(tree).encode()


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-05, "1e-05"), (1e16, "1e+16"), (0.1, "0.1"), (True, "true"), ([], "[]"), ({}, "{}"), ("\x1f\x7fé\n", None)],
)
def test_numbers_and_texts_as_python_writes_them(value, text):
    expected = storage.to_json({"key": value}).encode()
    assert canonical_json.to_bytes({"key": value}) == expected
    assert text is None or text.encode() in expected


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="is not a number of JSON"):
        canonical_json.to_bytes({"key": value})


def test_another_type_is_refused():
    with pytest.raises(TypeError, match="tuple is not a type of JSON"):
        canonical_json.to_bytes({"key": (1, 2)})
