import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mcti.dataset.scaling import (
    MIN_LEVEL_SD,
    fit_clinical_scale,
    fit_competing,
    fit_covariates,
    fit_feature_scale,
    fit_scale,
)
from mcti.errors import DataError
from mcti.model.categories import Category
from tests.training import factories


def test_scales_agree_with_numpy_and_leave_missing_values_out():
    """Oracle: numpy's nanmean and nanstd in float64."""
    values = torch.tensor([[1.0, 5.0, 7.0], [3.0, 5.0, float("nan")], [8.0, 5.0, 9.0]])
    scale = fit_scale(values)
    np.testing.assert_allclose(scale.mean, np.nanmean(values.double().numpy(), axis=0), rtol=1e-6)  # float32 storage
    np.testing.assert_allclose(scale.sd[[0, 2]], np.nanstd(values.double().numpy(), axis=0)[[0, 2]], rtol=1e-6)
    standard = scale(values)
    assert standard[:, 1].tolist() == [0, 0, 0]  # constant: silent
    assert standard[1, 2] == 0  # missing: the mean
    np.testing.assert_allclose(standard[:, 0].numpy().std(), 1, rtol=1e-6)


def test_every_patient_weighs_the_same_in_the_scale_of_features():
    many, one = torch.zeros(99, 1), torch.full((1, 1), 2.0)
    scale = fit_feature_scale([many, one])
    assert scale.mean.tolist() == [1.0]
    assert scale.sd.tolist() == [1.0]


def test_the_competing_hazard_exists_where_the_cohort_records_competing_events():
    """Worked out: at month 10 one of 3 patients at risk, at month 40 one of one; 100 steps of 0.4 months."""
    outcomes = [(10.0, True, 0.0), (20.0, False, 0.0), (5.0, False, 0.0), (40.0, True, 15.0), (12.0, None, 2.0)]
    people = [
        dataclasses.replace(bag, time_months=time, event=False, competing=competing, entry_months=entry)
        for bag, (time, competing, entry) in zip(factories.bags(5), outcomes, strict=True)
    ]
    hazard = fit_competing(people)
    assert hazard.months == pytest.approx((10.0, 40.0))
    assert hazard.cumulative == pytest.approx((1 / 3, 4 / 3))
    assert fit_competing([dataclasses.replace(bag, competing=None) for bag in people]) is None


def test_a_covariate_without_any_value_is_refused():
    bags = [dataclasses.replace(bag, covariates={"age": None}) for bag in factories.bags(3)]
    with pytest.raises(DataError, match="no patient has a value of covariate 'age'"):
        fit_covariates(bags, ("age",))


def test_the_column_of_a_rare_level_has_a_smallest_standard_deviation():
    """One of 100 patients has the level: its sd would be 0.0995, and its value 9.95 standard deviations."""
    stage = Category(name="stage", levels=("I", "II"), ordered=True)
    table = torch.tensor([[1.0], *[[0.0]] * 99])
    scale = fit_clinical_scale(table, (stage,))
    assert scale.sd.tolist() == pytest.approx([MIN_LEVEL_SD])
    assert scale.standardised(table)[0].item() == pytest.approx(0.99 / MIN_LEVEL_SD)
    assert fit_clinical_scale(table, ("age",)).sd.tolist() == pytest.approx([0.01**0.5 * 0.99**0.5])


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_the_memory_of_the_feature_scale_does_not_grow_with_the_patients():
    """In a process of its own: 300 patients who share one bag of 1.5 MB; before, each left 3 MB that nothing used."""
    code = """
import torch
from pathlib import Path
from mcti.dataset.scaling import fit_feature_scale
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
torch.set_num_threads(1)
bag = torch.zeros(2000, 192)
fit_feature_scale([bag] * 10)
before = resident()
fit_feature_scale([bag] * 300)
print(resident() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 100 * 2**20
