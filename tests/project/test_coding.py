"""Units, codings and scales. The expected readings were written by the author of the test."""

import numpy as np
import pandas as pd
import pytest

from mcti.project import coding


def column(*cells):
    return pd.Series([str(cell) for cell in cells])


@pytest.mark.parametrize(
    ("name", "cells", "unit", "sure"),
    [
        ("OS_days", (12, 340, 25), "days", True),  # by its name, although the values are small
        ("time", (1203, 36, 4000), "days", True),
        ("time", (12.5, 131.57, 48), "months", True),
        ("time", (1.25, 9.5, 3.75), "years", False),
        ("time", (3, 20, 11), "months", False),
        ("survival_months", (400, 3000), "days", False),  # 250 years
        ("Follow-up (Jahre)", (1, 9, 3), "years", True),
        ("time", ("", "NA"), "months", False),
    ],
)
def test_the_unit_is_that_of_the_name_or_of_the_distribution(name, cells, unit, sure):
    guess = coding.time_unit(name, column(*cells))
    assert (guess.value, guess.is_sure) == (unit, sure)


@pytest.mark.parametrize(
    ("name", "cells", "values", "needed"),
    [
        ("event", (0, 1, 1), {"0": 0, "1": 1}, {}),
        ("event", ("1.0", "0.0"), {"0.0": 0, "1.0": 1}, {}),
        ("status", (1, 2, 2), {"1": 0, "2": 1}, {"1": 0, "2": 1}),
        ("censorship", (0, 1, 1), {"0": 1, "1": 0}, {"0": 1, "1": 0}),
        ("censored", ("yes", "no"), {"no": 1, "yes": 0}, {"no": 1, "yes": 0}),
        ("vital_status", ("Dead", "Alive", ""), {"alive": 0, "dead": 1}, {"alive": 0, "dead": 1}),
        ("OS_STATUS", ("1:DECEASED", "0:LIVING"), {"0:living": 0, "1:deceased": 1}, {"0:living": 0, "1:deceased": 1}),
        ("OS.censored", (0, 1, 1), {"0": 1, "1": 0}, {"0": 1, "1": 0}),
        ("is_alive", ("TRUE", "FALSE"), {"false": 1, "true": 0}, {"false": 1, "true": 0}),
        ("death", ("Y", "N"), {"n": 0, "y": 1}, {"n": 0, "y": 1}),
        ("status", ("censored", "uncensored"), {"censored": 0, "uncensored": 1}, {"censored": 0, "uncensored": 1}),
        ("survival_status", (0, 1), {"0": 0, "1": 1}, {}),
        ("censoring", ("alive", "dead"), {"alive": 0, "dead": 1}, {"alive": 0, "dead": 1}),  # the words state it
    ],
)
def test_the_coding_of_events(name, cells, values, needed):
    events = coding.event_coding(name, column(*cells))
    assert (dict(events.values), events.needed(), events.unknown) == (values, needed, ())


def test_one_and_two_of_a_column_of_censoring_are_unknown():
    assert coding.event_coding("censored", column(1, 2, 2)).unknown == ("1", "2")


def test_unknown_words_are_not_guessed_and_counts_are_shown():
    events = coding.event_coding("status", column("dead", "dead", "lost"))
    assert events.unknown == ("lost",)
    assert events.text() == "dead = observed (2)"


def test_sex_is_read_from_words_and_refused_where_it_is_ambiguous():
    flags, text = coding.female_flags("Sex", column("F", "male", "", "w"))
    assert flags.tolist() == ["1", "0", "", "1"]
    assert text == "2 female, 1 male"
    assert coding.female_flags("sex", column(1, 2)) is None
    assert coding.female_flags("sex", column(0, 1)) is None
    assert coding.female_flags("is_female", column(1, 0))[0].tolist() == ["1", "0"]
    assert coding.female_flags("male", column(1, 0, ""))[0].tolist() == ["0", "1", ""]


@pytest.mark.parametrize(
    ("make", "scale", "sure"),
    [
        (lambda g: g.standard_normal((50, 40)), "z-score", True),
        (lambda g: g.normal(3, 2, (50, 40)), "log2", True),  # negative values that are not centred
        (lambda g: g.gamma(2, 3, (50, 40)).clip(0, 39), "log2", True),
        (lambda g: g.poisson(500, (50, 40)).astype(float), "counts", True),
        (lambda g: (lambda x: x / x.sum(1, keepdims=True) * 1e6)(g.gamma(1, 1, (50, 40))), "tpm", True),
        (lambda g: g.gamma(1, 300, (50, 40)), "tpm", False),
    ],
)
def test_the_scale_of_expression(make, scale, sure):
    guess = coding.expression_scale(make(np.random.default_rng(0)))
    assert (guess.value, guess.is_sure) == (scale, sure)
