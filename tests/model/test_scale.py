"""Transforms of genes before standardisation. Oracles: numpy's clip and quantiles, scipy's normal quantile."""

import numpy as np
import pytest
import torch
from scipy import stats

from mcti.dataset.bags import PatientBag
from mcti.dataset.scaling import fit_inputs, fit_scale
from mcti.model.trained import Scale
from mcti.params import BinParams


def table(seed=0, patients=400, genes=6):
    values = np.random.default_rng(seed).normal(size=(patients, genes))
    values[3, 2], values[5, 1] = 17036.0, np.nan
    return values.astype(np.float32)


def test_winsor_cuts_at_the_quantiles_of_the_training_part():
    values = table()
    scale = fit_scale(torch.from_numpy(values), "winsor")
    cut = np.clip(values, *np.nanquantile(values.astype(np.float64), [0.01, 0.99], axis=0))
    expected = (cut - np.nanmean(cut, axis=0)) / np.nanstd(cut, axis=0)
    np.testing.assert_allclose(scale.standardised(torch.from_numpy(values)).numpy(), expected, atol=1e-5)
    extreme = scale(torch.full((1, 6), 1e6))
    assert float(extreme.max()) < 4  # values outside the training range


def test_rank_gives_normal_scores():
    """49 grid points against the empirical distribution of 2,000 values: within a hundredth of a level."""
    values = np.random.default_rng(1).gamma(0.5, size=(2000, 3)).astype(np.float32)
    scale = fit_scale(torch.from_numpy(values), "rank")
    levels = stats.norm.cdf(scale.transformed(torch.from_numpy(values)).numpy())
    level = (stats.rankdata(values, axis=0) - 0.5) / len(values)
    inside = (level > 0.02) & (level < 0.98)
    assert np.abs(levels - level)[inside].max() < 0.01
    assert levels.min() == pytest.approx(0.02, abs=1e-6)
    assert levels.max() == pytest.approx(0.98, abs=1e-6)


def test_rank_at_between_and_beyond_grid_points():
    """Grid points 1, 2, 2, 4 at levels 0.2, 0.4, 0.6, 0.8: 2 is at 0.5, 3 halfway between 0.6 and 0.8."""
    grid = torch.tensor([[1.0], [2.0], [2.0], [4.0]])
    scale = Scale(torch.zeros(1), torch.ones(1), quantile_grid=grid)
    scores = scale(torch.tensor([[-9.0], [1.0], [1.5], [2.0], [3.0], [4.0], [99.0]]))[:, 0]
    expected = stats.norm.ppf([0.2, 0.2, 0.3, 0.5, 0.7, 0.8, 0.8])
    np.testing.assert_allclose(scores.numpy(), expected, atol=1e-6)
    assert scale.standardised(torch.tensor([float("nan")])).isnan().all()


@pytest.mark.parametrize("transform", ["none", "winsor", "rank"])
def test_a_scale_survives_json(transform):
    values = torch.from_numpy(table())
    scale = fit_scale(values, transform)
    assert torch.equal(Scale.from_spec(scale.spec())(values), scale(values))
    assert set(scale.spec()) == {
        "mean",
        "sd",
        *{"none": (), "winsor": ("limits",), "rank": ("quantile_grid",)}[transform],
    }


def test_without_a_transform_nothing_changes():
    values = torch.from_numpy(table()[:, :1])
    plain = fit_scale(values)
    np.testing.assert_array_equal(plain(values).numpy(), ((values - plain.mean) / plain.sd).numpy())


@pytest.mark.parametrize("transform", ["winsor", "rank"])
def test_the_transform_is_fitted_on_the_training_part_only(transform):
    """Later patients are transformed but do not change the fit."""
    values = table()
    patients = [
        PatientBag(f"P{i}", None, torch.from_numpy(row), 1.0 + i, i % 2 == 0, 0) for i, row in enumerate(values)
    ]
    fitted = fit_inputs(patients[:200], BinParams(), 6, transform)
    alone = fit_scale(torch.from_numpy(values[:200]), transform)
    assert torch.equal(fitted.genes(torch.from_numpy(values[200:])), alone(torch.from_numpy(values[200:])))


@pytest.mark.parametrize("transform", ["winsor", "rank"])
def test_an_unmeasured_gene_and_a_constant_gene_become_zero(transform):
    values = torch.full((30, 2), 7.25)
    values[:, 0] = float("nan")
    scale = fit_scale(values, transform)
    assert scale(values).abs().max() == 0
