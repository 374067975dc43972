"""Oracle: scikit-learn's principal components."""

import numpy as np
import torch
from sklearn.decomposition import PCA

from mcti.training.cox_design import AxesKind, Design, Scaled


def tables(patients, seed=0):
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(6, 6)) * np.array([5, 3, 2, 1, 1, 0.5])[:, None]
    genes = generator.normal(size=(patients, 6)) @ mixing + 4
    sizes = {"genes": genes, "slides": generator.normal(3, 2, (patients, 4)), "covariates": np.ones((patients, 2))}
    return {name: torch.from_numpy(values) for name, values in sizes.items()}


def test_each_cohort_is_scaled_within_itself_and_a_constant_column_is_0():
    scaled = Scaled.fit(tables(50))
    for name in ("genes", "slides"):
        np.testing.assert_allclose(scaled.tables[name].mean(0), 0, atol=1e-12)
        np.testing.assert_allclose(scaled.tables[name].std(0, correction=0), 1, atol=1e-12)
    assert not scaled.tables["covariates"].any()


def test_the_variance_left_to_an_axis_is_its_own_to_the_power_of_what_is_not_whitened():
    scaled = Scaled.fit(tables(200))
    variances = PCA(3).fit(scaled.tables["genes"].numpy()).explained_variance_
    for whitening in (0.0, 0.5, 1.0):
        design = Design.fit([scaled], AxesKind(3, 2, whitening, 3.0))
        columns = design.columns(scaled)
        expected = (variances / variances[0]) ** (1 - whitening)
        np.testing.assert_allclose(columns[:, :3].var(axis=0), expected, rtol=1e-6)


def test_the_axes_are_those_of_all_cohorts_together():
    parts = [Scaled.fit(tables(80, seed)) for seed in (0, 1)]
    stacked = np.concatenate([part.tables["genes"].numpy() for part in parts])
    ours = Design.fit(parts, AxesKind(2, 2, 1.0, 1.0)).maps["genes"].numpy()
    other = PCA(2).fit(stacked).components_
    cosines = (ours * other).sum(1) / np.linalg.norm(ours, axis=1)
    np.testing.assert_allclose(np.abs(cosines), 1, atol=1e-9)


def test_ratios_of_the_unscaled_tables_give_the_score_of_the_columns():
    raw = tables(60)
    scaled = Scaled.fit(raw)
    design = Design.fit([scaled], AxesKind(4, 3, 0.5, 3.0))
    beta = np.random.default_rng(1).normal(size=design.columns(scaled).shape[1])
    ratios = design.ratios(beta, scaled)
    ours = sum(raw[name] @ ratios[name] for name in raw).numpy()
    score = design.columns(scaled) @ beta
    np.testing.assert_allclose(ours - ours.mean(), score - score.mean(), atol=1e-9)
