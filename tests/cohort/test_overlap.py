import numpy as np
import pandas as pd
import pytest

from mcti.cohort.overlap import Members, Overlap, overlaps

GENES = [f"g{number}" for number in range(200)]


def members(prefix, count, seed, shift=0.0, scale=1.0):
    draw = np.random.default_rng(seed)
    ids = [f"{prefix}-{number}" for number in range(count)]
    values = shift + scale * draw.normal(size=(count, len(GENES)))
    slides = pd.DataFrame({"patient_id": ids, "slide_id": [f"{name}-S" for name in ids], "md5": None})
    return Members(tuple(ids), slides, pd.DataFrame(values.astype(np.float32), index=ids, columns=GENES))


def with_profile(one, patient, values):
    expression = one.expression.copy()
    expression.loc[patient] = values
    return Members(one.patients, one.slides, expression)


def test_two_independent_cohorts_share_no_patient():
    assert overlaps(members("A", 80, 0), members("B", 60, 1, shift=4, scale=3)) == []


def test_a_patient_id_is_found_once_even_if_the_slide_and_the_profile_are_equal_too():
    one = members("A", 40, 0)
    other = members("B", 30, 1)
    ids = ["A-7", *other.patients[1:]]
    slides = other.slides.assign(patient_id=ids, slide_id=["A-7-S", *other.slides["slide_id"][1:]])
    expression = other.expression.set_axis(ids)
    expression.loc["A-7"] = one.expression.loc["A-7"]
    assert overlaps(one, Members(tuple(ids), slides, expression)) == [Overlap("A-7", "A-7", "patient id")]


@pytest.mark.parametrize(("column", "value"), [("slide_id", "A-3-S"), ("md5", "0" * 32)])
def test_a_slide_is_recognised_by_its_id_and_by_its_contents(column, value):
    one, other = members("A", 20, 0), members("B", 20, 1)
    one.slides.loc[3, column] = value
    other.slides.loc[5, column] = value
    [case] = overlaps(one, other)
    assert (case.one, case.other) == ("A-3", "B-5")
    assert value in case.evidence


def test_a_rounded_copy_of_a_profile_under_another_id_is_found_in_a_cohort_of_other_level_and_spread():
    one = members("A", 100, 0)
    copied = with_profile(members("B", 90, 1, shift=2, scale=2), "B-4", one.expression.loc["A-9"].round(2))
    assert overlaps(one, copied) == [Overlap("A-9", "B-4", "expression profile")]


def test_a_cohort_that_was_standardised_again_is_recognised():
    """The same patients under other ids, as z-scores of one source and in the unit of another one."""
    one = members("A", 60, 0)
    draw = np.random.default_rng(7)
    changed = one.expression * draw.uniform(0.5, 3, len(GENES)) + draw.normal(size=len(GENES)) * 5
    ids = [f"B-{number}" for number in range(60)]
    slides = one.slides.assign(patient_id=ids, slide_id=[f"{name}-S" for name in ids])
    cases = overlaps(one, Members(tuple(ids), slides, changed.set_axis(ids)))
    assert [(case.one, case.other) for case in cases] == sorted(
        ((f"A-{number}", f"B-{number}") for number in range(60)), key=lambda pair: pair[1]
    )
