"""Pooling, goals and the choice of the default without a cohort."""

import pytest

from benchmarks import study_pool
from benchmarks.study_pool import Goal


def difference(value, width=0.04):
    return {"value": value, "low": value - width / 2, "high": value + width / 2}


def arm(cohort, **models):
    figures = {name.replace("_t", " transfer"): value for name, value in models.items()}
    return {
        "cohort": cohort,
        "scheme": "site",
        "models": {"linear_all": {"c_index": {"value": 0.6}}}
        | {n: {"c_index": {"value": 0.6 + v}, "minus_linear_all": difference(v)} for n, v in figures.items()},
    }


def test_equal_widths_pool_to_the_mean_and_an_undefined_difference_is_left_out():
    figures = study_pool.pooled([difference(0.01), difference(0.03), {"value": None, "low": None, "high": None}])
    assert figures["value"] == pytest.approx(0.02)
    assert (figures["cohorts"], figures["least"]) == (2, 0.01)


def test_models_that_agree_on_a_cohort_have_a_small_error_and_no_infinite_weight():
    figures = study_pool.pooled([difference(0.0, 0.0), difference(0.0, 0.0), difference(0.03)])
    assert figures["cohorts"] == 3
    assert 0 <= figures["value"] < 0.01


@pytest.mark.parametrize(
    ("values", "cohorts", "expected"),
    [
        ((0.05, 0.05, 0.05), 3, "yes"),
        ((0.05, 0.05, 0.05), 4, "not measured"),  # a cohort is missing
        ((0.02, 0.02, 0.02), 3, "no"),  # pooled too low
        ((0.20, 0.20, -0.02), 3, "no"),  # a cohort below the least value
        ((0.30, 0.05, 0.00), 3, "no"),  # interval not above 0
    ],
)
def test_a_goal_is_reached_by_pooled_value_lowest_cohort_and_interval(values, cohorts, expected):
    figures = study_pool.pooled([difference(value, 0.02) for value in values])
    assert study_pool.reached(Goal(pooled=0.03, cohort=-0.01, above_zero=True), figures, cohorts) == expected


def test_a_cohort_has_no_part_in_the_choice_of_its_default():
    """Late fusion is best by far on one cohort, and MCTI on the others."""
    arms = [arm("a", mcti=0.02, late_fusion=0.0), arm("b", mcti=0.02, late_fusion=0.0), arm("c", mcti=0, late_fusion=1)]
    chosen = study_pool.choices(arms, "site")["cohorts"]
    assert {name: row["model"] for name, row in chosen.items()} == {"a": "late_fusion", "b": "late_fusion", "c": "mcti"}
    assert chosen["c"]["difference"]["value"] == 0
    assert study_pool.choices(arms[:2], "site") == {}


def test_a_candidate_must_be_measured_on_all_cohorts():
    arms = [arm(name, mcti=0.01, **({"late_fusion": 0.5} if name != "c" else {})) for name in "abc"]
    assert {row["model"] for row in study_pool.choices(arms, "site")["cohorts"].values()} == {"mcti"}
    assert study_pool.pooled_models(arms, "site")["late_fusion"]["cohorts"] == 2
