import numpy as np
import pytest
import torch

from mcti.training.cox_strata import fit_strata
from mcti.training.cox_transfer import Part


def cohort(seed, patients=300, baseline=1.0):
    """A cohort in which only the first of four genes has an effect, log hazard ratio 1 per standard deviation."""
    random = np.random.default_rng(seed)
    genes = random.normal(size=(patients, 4))
    genes = (genes - genes.mean(0)) / genes.std(0)
    times = random.exponential(np.exp(-genes[:, 0])) * baseline
    return Part({"genes": torch.from_numpy(genes)}, random.random(patients) < 0.7, times)


def tables(parts, shift=0.0):
    rows = torch.cat([part.tables["genes"] + number * shift for number, part in enumerate(parts)])
    return {"genes": (rows - rows.mean(0)) / rows.std(0, correction=0)}


def test_the_effect_that_two_cohorts_share_is_found():
    parts = [cohort(0), cohort(1)]
    ratios = fit_strata(tables(parts), parts, seed=7).ratios["genes"]
    assert float(ratios[0]) == pytest.approx(1, abs=0.25)
    assert float(ratios[1:].abs().max()) < 0.15


def test_a_difference_between_cohorts_has_no_influence():
    """Another unit of the times of one cohort changes nothing: patients of two cohorts are not compared."""
    parts, later = [cohort(0), cohort(1)], [cohort(0), cohort(1, baseline=1000.0)]
    assert torch.equal(
        fit_strata(tables(parts), parts, 7).ratios["genes"], fit_strata(tables(later), later, 7).ratios["genes"]
    )
    shifted = fit_strata(tables(parts, shift=5.0), later, seed=7).ratios["genes"]
    assert float(shifted[0]) == pytest.approx(1, abs=0.25), "per standard deviation within a cohort"


def test_opposite_effects_cancel():
    parts = [cohort(0), cohort(0)]
    opposite = Part({"genes": -parts[1].tables["genes"]}, parts[1].event, parts[1].time_months)
    parts = [parts[0], opposite]
    assert float(fit_strata(tables(parts), parts, seed=7).ratios["genes"].abs().max()) < 0.05
