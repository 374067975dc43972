"""Where two runs differ."""

import pytest

from mcti.errors import DataError
from mcti.model import compatibility


def test_differences_are_named_by_their_dotted_path():
    one = {"a": 1, "b": {"c": (1, 2), "d": 0}, "e": {}}
    other = {"a": 1, "b": {"c": [1, 2], "d": 5}, "f": None}
    assert compatibility.differences(one, other) == [("b.d", 0, 5), ("e", {}, None)]


def test_of_many_differences_three_are_told():
    found = compatibility.differences(dict.fromkeys("abcde", 1), dict.fromkeys("abcde", 2))
    assert compatibility.told(found, "{key} {one}/{other}") == "a 1/2; b 1/2; c 1/2 and 2 more"


def test_folds_are_held_against_the_first_of_them_that_says_anything():
    said = {"params": {"seed": 1}}
    compatibility.check_folds({"fold_0": {}, "fold_1": said, "fold_2": said})
    compatibility.check_folds({})
    with pytest.raises(DataError, match=r"train\.seed is 2 here and 1 in the first in fold_3"):
        compatibility.check_folds({"fold_1": said, "fold_3": {"params": {"seed": 2}}})
