"""The out-of-distribution score: rate of flagged ordinary patients, and wrong units."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats

from mcti.dataset.bags import PatientBag
from mcti.dataset.scaling import fit_covariates, fit_inputs
from mcti.errors import DataError
from mcti.model import reference_profile
from mcti.model.categories import Category
from mcti.model.reference_profile import ReferenceProfile
from mcti.params import BinParams

NAMES = ("age", "is_female", "size_cm")


def patients(random, count):
    """Heavy-tailed genes (t with 2 degrees of freedom), features, and a rare sex: 1 in 100 is male."""
    genes, means = random.standard_t(2, size=(count, 40)), random.normal(size=(count, 1, 8))
    sizes, ages = random.gamma(4, 0.6, count), random.normal(60, 10, count)
    return [
        PatientBag(
            f"P{i}",
            torch.from_numpy((means[i] + random.normal(size=(9, 8))).astype(np.float32)),
            torch.from_numpy(genes[i].astype(np.float32)),
            float(random.exponential(30)) + 0.1,
            bool(i % 2),
            0,
            {"age": float(ages[i]), "is_female": float(random.random() > 0.01), "size_cm": float(sizes[i])},
        )
        for i in range(count)
    ]  # fmt: skip


def fitted_to(chosen):
    fitted = fit_inputs(chosen, BinParams(), 40)
    return dataclasses.replace(fitted, covariates=fit_covariates(chosen, NAMES))


def score(profile, fitted, bag, **changes):
    covariates = {**bag.covariates, **changes}
    return profile.ood_score(reference_profile.mean_patch(bag.patches), bag.genes, fitted, covariates, NAMES)


def profile_and_scales(random, count=300):
    chosen = patients(random, count)
    fitted = fitted_to(chosen)
    return ReferenceProfile.fit(chosen, [f"G{i}" for i in range(40)], count // 2, fitted, [0.0, 1.0], (), NAMES), fitted


def test_one_ordinary_patient_in_a_hundred_is_flagged():
    """20 models of 300 patients, 150 later ones each; the limits are the 99.9 % interval of Binomial(3000, 0.01)."""
    random, flagged = np.random.default_rng(0), 0
    for _ in range(20):
        profile, fitted = profile_and_scales(random)
        flagged += sum(score(profile, fitted, bag) > 1 for bag in patients(random, 150))
    # The draw of the training patients adds to the binomial spread: twice its width below, and above.
    low, high = stats.binom.ppf([0.0005, 0.9995], 3000, 0.01)
    assert low / 2 <= flagged <= high


def test_wrong_units_are_flagged_and_a_rare_sex_is_not():
    random = np.random.default_rng(1)
    profile, fitted = profile_and_scales(random)
    assert profile.continuous == ("age", "size_cm")
    for bag in patients(random, 30):
        assert score(profile, fitted, bag, age=bag.covariates["age"] * 365.25) > 1
        assert score(profile, fitted, bag, size_cm=bag.covariates["size_cm"] * 10 + 20) > 1
        assert score(profile, fitted, dataclasses.replace(bag, genes=bag.genes * 50 + 200)) > 1


def test_training_distances_use_the_scale_of_the_other_patients():
    """Oracle: fit to all but one, for each of 30 patients."""
    random = np.random.default_rng(2)
    chosen = patients(random, 30)
    fitted = fitted_to(chosen)
    z = np.stack([fitted.genes.standardised(bag.genes).numpy() for bag in chosen]).astype(np.float64)
    for i, bag in enumerate(chosen):
        others = fitted_to(chosen[:i] + chosen[i + 1 :])
        scaled = reference_profile._left_out("genes", z[i], np.full(40, 30.0))
        np.testing.assert_allclose(scaled, others.genes.standardised(bag.genes).numpy(), rtol=2e-3, atol=2e-4)


def test_a_profile_survives_json_and_its_distances_are_clipped():
    profile, fitted = profile_and_scales(np.random.default_rng(3))
    spec = profile.spec()
    assert ReferenceProfile.from_spec(spec, "x") == profile
    bag = dataclasses.replace(patients(np.random.default_rng(4), 1)[0], covariates={})
    extreme = dataclasses.replace(bag, genes=bag.genes * 1000)
    size = float(np.sqrt(np.mean(fitted.genes.standardised(extreme.genes).double().numpy() ** 2)))
    unclipped = dataclasses.replace(profile, clip=float("inf"))
    assert score(unclipped, fitted, extreme) == pytest.approx(size / spec["cuts"]["genes"])
    assert score(profile, fitted, extreme) <= 10 / spec["cuts"]["genes"]


@pytest.mark.parametrize("key", ["families", "cuts", "risk", "training_risk", "clip", "continuous"])
def test_a_profile_without_one_of_its_keys_is_refused(key):
    spec = profile_and_scales(np.random.default_rng(3), 20)[0].spec()
    del spec[key]
    with pytest.raises(DataError, match=f"the reference profile is malformed .*{key}.* in model.json: train"):
        ReferenceProfile.from_spec(spec, "model.json")


def test_the_levels_that_the_model_reads_are_columns_and_have_no_distance():
    random, stage = np.random.default_rng(0), Category(name="stage", levels=("I", "II"), ordered=True)
    chosen = [
        dataclasses.replace(bag, categories={"stage": ("I", "II", None, "IV")[row % 4], "free": str(row)})
        for row, bag in enumerate(patients(random, 40))
    ]
    inputs = ("age", stage)
    fitted = dataclasses.replace(fit_inputs(chosen, BinParams(), 40), covariates=fit_covariates(chosen, inputs))
    genes = [f"G{i}" for i in range(40)]
    profile = ReferenceProfile.fit(chosen, genes, 20, fitted, [0.0, 1.0], (), inputs)
    assert set(profile.families["covariates"]) == {"age", "is_female", "size_cm", "stage>=II"}
    column = profile.families["covariates"]["stage>=II"]
    assert (column.rows, column.known, column.missing) == (40, 20, 20), "missing and unseen levels are missing values"
    assert profile.continuous == ("age",)
    patch = reference_profile.mean_patch(chosen[0].patches)
    scores = {
        profile.ood_score(patch, chosen[0].genes, fitted, {"age": 50.0, "stage": level}, inputs)
        for level in ("I", "II", "IV", None)
    }
    assert len(scores) == 1
