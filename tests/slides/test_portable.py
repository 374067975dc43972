"""Shapes and values of the features of one file."""

import numpy as np
import pytest

from mcti.errors import DataError
from mcti.slides.portable import from_arrays

ROWS = np.arange(80, dtype=np.float32).reshape(40, 2)
CORNERS = np.stack([np.arange(40) * 256, np.zeros(40)], 1)


def test_rows_that_are_not_finite_are_removed_with_their_coordinates():
    values = ROWS.copy()
    values[3, 1], values[7, 0] = np.nan, np.inf
    slide = from_arrays("S1", "file", values, CORNERS)
    keep = [i for i in range(40) if i not in (3, 7)]
    np.testing.assert_array_equal(slide.features, ROWS[keep])
    np.testing.assert_array_equal(slide.coords, CORNERS[keep])
    assert slide.removed == 2
    values[:3] = np.nan  # 5 of 40: more than 5 %
    with pytest.raises(DataError, match="not finite in 5 of 40 rows"):
        from_arrays("S1", "file", values, CORNERS)


def test_a_vector_with_a_value_that_is_not_finite_is_refused():
    with pytest.raises(DataError, match="not finite in 1 of 1 rows"):
        from_arrays("S1", "file", np.array([1.0, np.nan]))


@pytest.mark.parametrize(
    ("values", "level", "message"),
    [
        (np.ones((2, 2), int), "", "type int64"),
        (np.ones((2, 3, 4)), "", r"shape \(2, 3, 4\), not \(N, D\)"),
        (np.ones((0, 3)), "", r"shape \(0, 3\)"),
        (np.ones((2, 3)), "slide", "not one vector for the slide"),
    ],
)
def test_shapes_that_are_no_features(values, level, message):
    with pytest.raises(DataError, match=message):
        from_arrays("S1", "file", values, level=level)


def test_coordinates_of_another_number_of_rows_are_refused():
    with pytest.raises(DataError, match=r"40 rows of features, coords of shape \(39, 2\)"):
        from_arrays("S1", "file", ROWS, CORNERS[1:])
