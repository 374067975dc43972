"""Columns of the baselines: imputation, encoding, scaling and components."""

import numpy as np
import pandas as pd
import pytest

from mcti.evaluation.design_matrix import Bags, Clinical, Genes, Inputs, Reduce, design


def test_missing_ages_become_the_training_median_and_are_flagged():
    patients = pd.DataFrame({"age": [40.0, 60.0, np.nan], "subtype": ["A", "B", "B"]})
    train = Inputs(patients, pd.DataFrame(index=range(3)))
    block = Clinical().fit(train)
    columns = block.columns(train)
    assert columns.shape == (3, 3)  # age, its flag, one column for two subtypes
    np.testing.assert_allclose(columns.mean(axis=0), 0, atol=1e-12)
    assert columns[2, 0] == pytest.approx(columns[:2, 0].mean())  # the median of 40 and 60


def test_a_category_that_is_not_in_training_is_encoded_as_zeros():
    words = pd.DataFrame({"grade": ["1", "2", "3", "2"]})
    block = Clinical(["grade"]).fit(Inputs(words, pd.DataFrame(index=range(4))))
    unseen = block.columns(Inputs(pd.DataFrame({"grade": ["9"]}), pd.DataFrame(index=range(1))))
    columns = block.columns(Inputs(words, pd.DataFrame(index=range(4))))
    assert (unseen[0] == columns.min(axis=0)).all()


def test_components_have_unit_variance_in_training():
    generator = np.random.default_rng(0)
    genes = pd.DataFrame(generator.normal(size=(100, 12)))
    train = Inputs(pd.DataFrame(index=range(100)), genes, generator.normal(size=(100, 8)))
    for block in (Genes(5), Bags(5)):
        columns = block.fit(train).columns(train)
        assert columns.shape == (100, 5)
        np.testing.assert_allclose(columns.std(axis=0), 1, atol=1e-9)


def test_a_constant_column_becomes_zero():
    table = pd.DataFrame({"is_female": pd.array([1, 1, 1], dtype="Int8")})
    block = Clinical(["is_female"]).fit(Inputs(table, pd.DataFrame(index=range(3))))
    other = pd.DataFrame({"is_female": pd.array([0], dtype="Int8")})
    assert (block.columns(Inputs(other, pd.DataFrame(index=range(1)))) == 0).all()


def test_missing_values_become_the_training_median():
    table = np.array([[1.0, 5.0], [3.0, np.nan], [5.0, 7.0]])
    reduce = Reduce(None).fit(table)
    other = reduce.apply(np.array([[np.nan, np.nan]]))
    np.testing.assert_allclose(other, reduce.apply(np.array([[3.0, 6.0]])))


def test_the_design_has_the_columns_of_all_blocks():
    patients = pd.DataFrame({"age": [40.0, 60.0]})
    inputs = Inputs(patients, pd.DataFrame({"g0": [1.0, 3.0], "g1": [2.0, 8.0]}))
    blocks = [Clinical(["age"]).fit(inputs), Genes().fit(inputs)]
    np.testing.assert_allclose(design(blocks, inputs), [[-1, -1, -1], [1, 1, 1]])


def ordered(*values):
    levels = pd.Categorical(values, categories=["I", "II", "III", "IV"], ordered=True)
    return Inputs(pd.DataFrame({"stage": levels}), pd.DataFrame(index=range(len(values))))


def test_an_ordered_covariate_has_one_step_per_level_and_an_indicator_of_unknown_ones():
    train = ordered("I", "II", "III", "III", None)
    columns = Clinical(["stage"]).fit(train).columns(train)
    raw = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 0], [0, 0, 1.0]])  # at least II, at least III, unknown
    np.testing.assert_allclose(columns, (raw - raw.mean(axis=0)) / raw.std(axis=0), atol=1e-12)


def test_an_unseen_level_of_an_ordered_covariate_is_encoded_as_a_missing_one():
    block = Clinical(["stage"]).fit(ordered("I", "II", "III", None))
    columns = block.columns(ordered("IV", None))
    assert (columns[0] == columns[1]).all()


def test_the_terms_of_an_ordered_covariate_are_its_columns_times_the_coefficients():
    train = ordered("I", "II", "III", "III", None)
    block, coefficients = Clinical(["stage"]).fit(train), np.array([0.3, 0.5, -0.2])
    other = ordered("III", "IV", None, "I", "II")
    np.testing.assert_allclose(block.terms(coefficients).risk(other), block.columns(other) @ coefficients, atol=1e-12)
