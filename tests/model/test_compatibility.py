"""Differences of settings and code between runs."""

import pytest

from mcti.errors import DataError
from mcti.model import compatibility


def test_differences_are_reported_by_their_dotted_key():
    one = {"a": 1, "b": {"c": (1, 2), "d": 0}, "e": {}}
    other = {"a": 1, "b": {"c": [1, 2], "d": 5}, "f": None}
    assert compatibility.differences(one, other) == [("b.d", 0, 5), ("e", {}, None)]


def test_at_most_three_differences_are_listed():
    changes = compatibility.differences(dict.fromkeys("abcde", 1), dict.fromkeys("abcde", 2))
    assert compatibility.describe_differences(changes, "{key} {one}/{other}") == "a 1/2; b 1/2; c 1/2 and 2 more"


def test_folds_are_compared_with_the_first_one_that_has_settings():
    spec = {"params": {"seed": 1}}
    compatibility.check_folds({"fold_0": {}, "fold_1": spec, "fold_2": spec})
    compatibility.check_folds({})
    with pytest.raises(DataError, match=r"train\.seed is 2 instead of 1 in fold_3"):
        compatibility.check_folds({"fold_1": spec, "fold_3": {"params": {"seed": 2}}})
