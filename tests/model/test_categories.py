"""Levels of categorical covariates, and their columns."""

import json
import math
from dataclasses import replace

import pytest

from mcti.errors import DataError
from mcti.model.categories import (
    MAX_LEVELS,
    Category,
    encoded_row,
    indicator_positions,
    input_columns,
    input_names,
)
from mcti.model.presets import ModelConfig
from tests.model.cases import config

STAGE = Category(name="stage", levels=("I", "II", "III"), ordered=True)
GRADE = Category(name="grade", levels=("high", "low", "middle"))
INPUTS = ("age", STAGE, GRADE)


def learn(values, order=()):
    return Category.learn("stage", values, order, "the training part")


def test_levels_are_those_that_occur_in_the_given_order_or_sorted():
    assert learn(["III", None, "I", "III"], ("I", "II", "III")).levels == ("I", "III")
    assert learn(["b", "a", None]) == Category(name="stage", levels=("a", "b"), ordered=False)


def test_no_known_value_a_free_text_and_a_level_without_a_rank_are_refused():
    with pytest.raises(DataError, match="no patient has a value of covariate 'stage' in the training part"):
        learn([None, None])
    with pytest.raises(DataError, match=f"{MAX_LEVELS + 1} levels, more than {MAX_LEVELS}"):
        learn([str(number) for number in range(MAX_LEVELS + 1)])
    with pytest.raises(DataError, match="level 'IV', which is not among the ordered levels"):
        learn(["I", "IV"], ("I", "II"))


@pytest.mark.parametrize(
    ("value", "ordered", "nominal"),
    [("I", (0, 0), None), ("II", (1, 0), None), ("III", (1, 1), None), ("low", None, (0, 1, 0))],
)
def test_an_ordered_level_includes_the_lower_steps_and_a_nominal_one_is_alone(value, ordered, nominal):
    assert ordered is None or STAGE.encode(value) == ordered
    assert nominal is None or GRADE.encode(value) == nominal


@pytest.mark.parametrize("value", [None, math.nan, "IV", "i"])
def test_missing_and_unseen_levels_are_unknown_in_every_column(value):
    assert all(math.isnan(number) for number in STAGE.encode(value))


def test_two_levels_need_one_column_and_so_does_a_single_one():
    assert Category(name="smoker", levels=("no", "yes")).columns == ("smoker=yes",)
    assert Category(name="smoker", levels=("no",)).columns == ("smoker=no",)
    assert Category(name="stage", levels=("I",), ordered=True).columns == ("stage>=I",)


def test_the_row_has_one_column_per_number_and_the_columns_of_each_category():
    assert input_names(INPUTS) == ("age", "stage", "grade")
    assert input_columns(INPUTS) == ("age", "stage>=II", "stage>=III", "grade=high", "grade=low", "grade=middle")
    assert indicator_positions(INPUTS) == (0, 1, 3)
    row = encoded_row({"age": 50, "stage": "II", "grade": "high"}, INPUTS, "P-1")
    assert row == [50.0, 1.0, 0.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"age": "old", "stage": "I", "grade": "low"}, "covariate 'age' is the text 'old', not a number in P-1"),
        ({"age": 1.0, "stage": 2, "grade": "low"}, "covariate 'stage' is the number 2, not a level in P-1"),
    ],
)
def test_text_for_a_number_and_a_number_for_a_level_are_refused(values, message):
    with pytest.raises(DataError, match=message):
        encoded_row(values, INPUTS, "P-1")


def test_the_description_shows_the_order():
    assert STAGE.describe() == "stage (I < II < III)"
    assert GRADE.describe() == "grade (high, low, middle)"


def test_a_configuration_keeps_its_categories_and_does_not_mention_absent_ones():
    with_levels = replace(config(covariates=("age", "stage", "grade")), categories=(STAGE, GRADE))
    assert ModelConfig.from_json(with_levels.to_json()) == with_levels
    assert with_levels.clinical_inputs == INPUTS
    assert with_levels.clinical_width == 6 + 3
    assert "categories" not in config(covariates=("age",)).to_json()


def test_categories_must_be_among_the_covariates():
    tree = json.loads(replace(config(covariates=("stage",)), categories=(STAGE,)).to_json())
    with pytest.raises(DataError, match="list each of them in covariates"):
        ModelConfig.from_json(json.dumps(tree | {"covariates": ["age"]}))
