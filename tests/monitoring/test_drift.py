"""Drift from a reference profile: false alarms, detected shifts, and the numbers of each test."""

import numpy as np
import pytest
import torch
from scipy import stats

from mcti.dataset.bags import PatientBag
from mcti.model import reference_profile
from mcti.model.reference_profile import ColumnProfile, ReferenceProfile
from mcti.model.trained import Fitted, Scale
from mcti.monitoring import drift
from mcti.params import MonitorParams

GENES, FEATURES = 60, 10


def columns(patients, random, shift=0.0, gap=0.02):
    """Genes that are correlated in groups of ten, features, quality: with the correlation of real data."""
    common = np.repeat(random.normal(size=(patients, GENES // 10)), 10, axis=1)
    genes = 0.7 * common + 0.7 * random.normal(size=(patients, GENES)) + shift
    genes[:, :10][random.random((patients, 10)) < gap] = np.nan
    features = random.normal(size=(patients, FEATURES)) ** 3
    return {
        "genes": {f"g{i}": column for i, column in enumerate(genes.T)},
        "features": {str(i): column for i, column in enumerate(features.T)},
        "slides": {"patches": random.poisson(40, patients).astype(float), "spread": random.gamma(5, size=patients)},
        "covariates": {"age": random.normal(60, 9, patients)},
        "modalities": {"slides": np.ones(patients), "genes": np.ones(patients)},
    }


def profile_of(table, risk):
    families = {name: {c: ColumnProfile.fit(v) for c, v in part.items()} for name, part in table.items()}
    return ReferenceProfile(len(risk), len(risk) // 2, families, {}, ColumnProfile.fit(risk, between=2))


def run(random, *, later=60, shift=0.0, risk_shift=0.0, gap=0.02, params=None):
    profile = profile_of(columns(150, random), random.normal(size=150))
    risks = drift.MemberRisks(
        {f"fold_{k}": ColumnProfile.fit(random.normal(k, 1 + k, 30), between=2) for k in range(5)},
        {f"fold_{k}": random.normal(k + risk_shift * (1 + k), 1 + k, later // 5) for k in range(5)},
    )
    families = drift.compare(profile, columns(later, random, shift, gap), risks, params or MonitorParams())
    return {family.name: family for family in families}


def test_without_drift_a_run_raises_an_alarm_no_more_often_than_alpha():
    """200 runs at alpha 0.05; the limit is the 99th percentile of Binomial(200, 0.05)."""
    random = np.random.default_rng(1)
    params = MonitorParams(alpha=0.05, min_effect=0.0)
    alarms = sum(any(f.drifted for f in run(random, params=params).values()) for _ in range(200))
    assert alarms <= stats.binom.ppf(0.99, 200, 0.05)


def scanned(patients, random, blurred):
    """Bags with slide quality: the share of blurred tiles has a beta distribution with mean `blurred`."""
    return [
        PatientBag(
            str(number), torch.from_numpy(random.normal(size=(20, 3)).astype(np.float32)), None, 1.0, True, 0, {},
            {"tissue": random.beta(80, 20), "blurred": random.beta(20 * blurred, 20 * (1 - blurred)), "failed": 0.0},
        )
        for number in range(patients)
    ]  # fmt: skip


def test_a_scanner_out_of_focus_is_detected_by_the_quality_of_the_slides():
    """The features are unaffected, since blurred tiles are not in the bag. Beta(2, 18) against Beta(5, 15)."""
    random = np.random.default_rng(3)
    fitted = Fitted(*(Scale(torch.zeros(n), torch.ones(n)) for n in (0, 3)), (0.0, 1.0))
    profile = ReferenceProfile.fit(scanned(150, random, 0.1), (), 75, fitted, random.normal(size=50))
    for blurred, drifted in ((0.1, []), (0.25, ["slides"])):
        later = reference_profile.column_values(scanned(60, random, blurred), ())
        families = {
            family.name: family for family in drift.compare(profile, later, drift.MemberRisks({}, {}), MonitorParams())
        }
        assert [name for name, family in families.items() if family.drifted] == drifted
        assert {column.column for column in families["slides"].columns} == {
            "patches", "spread", "tissue", "blurred", "failed",
        }  # fmt: skip
    assert families["slides"].columns[0].column == "blurred"
    assert families["slides"].columns[0].shift > 0


@pytest.mark.parametrize(
    ("change", "family"),
    [({"shift": 0.9}, "genes"), ({"risk_shift": 1.0}, "risk"), ({"gap": 0.4}, "missingness")],
)
def test_a_shift_is_detected_in_nine_of_ten_runs_with_its_family(change, family):
    random = np.random.default_rng(2)
    drifted = [{name for name, f in run(random, **change).items() if f.drifted} for _ in range(30)]
    assert sum(family in names for names in drifted) >= 27
    assert sum(bool(names - {family}) for names in drifted) <= 2


def test_the_distance_is_never_larger_than_that_of_scipy_and_its_p_never_smaller():
    """Oracle: scipy.stats.ks_2samp(method="asymp") on the values that the profile does not contain."""
    random = np.random.default_rng(3)
    before, later = random.normal(size=150), random.normal(0.5, size=60)
    oracle = stats.ks_2samp(before, later, method="asymp")
    profile = profile_of({"genes": {"g": before}}, before)
    family = drift.compare(profile, {"genes": {"g": later}}, drift.MemberRisks({}, {}), MonitorParams())[0]
    (column,) = family.columns
    assert 0.8 * oracle.statistic < column.effect <= oracle.statistic + 1e-12
    assert column.p >= oracle.pvalue
    assert column.p == pytest.approx(stats.kstwo.sf(column.effect, round(150 * 60 / 210)), rel=0.1)


def test_adjusted_values_are_those_of_scipy():
    """Oracle: scipy.stats.fisher_exact and false_discovery_control, computed manually."""
    random = np.random.default_rng(4)
    later, gap = columns(60, random, gap=0.0), np.r_[np.full(20, np.nan), np.ones(40)]
    later["genes"]["g0"], later["modalities"]["slides"] = gap, gap
    profile = profile_of(columns(150, random, gap=0.0), random.normal(size=150))
    missingness = {f.name: f for f in drift.compare(profile, later, drift.MemberRisks({}, {}), MonitorParams())}[
        "missingness"
    ]
    assert {f.column for f in missingness.columns} == {"genes g0", "modalities slides"}
    p = stats.fisher_exact([[20, 40], [0, 150]]).pvalue
    assert [f.p for f in missingness.columns] == pytest.approx([p, p])
    assert [f.q for f in missingness.columns] == pytest.approx([p, p])  # two equal p: unchanged by Benjamini-Hochberg
    assert missingness.columns[0].effect == pytest.approx(1 / 3)
    assert missingness.drifted


def test_few_patients_are_not_tested_and_the_reason_is_given():
    families = run(np.random.default_rng(5), later=25, shift=5.0)
    assert not any(family.drifted or family.tested for family in families.values())
    assert families["genes"].not_tested.startswith("fewer than 30 patients")


def test_a_small_effect_is_no_drift_at_any_p_value():
    random = np.random.default_rng(6)
    before, later = random.normal(size=20000), random.normal(0.1, size=20000)
    profile = profile_of({"genes": {"g": before}}, before)
    family = drift.compare(profile, {"genes": {"g": later}}, drift.MemberRisks({}, {}), MonitorParams())[0]
    assert family.p < 1e-6
    assert not family.drifted


def test_holm_agrees_with_manually_computed_values():
    assert drift.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": float("nan")}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": float("nan")}, nan_ok=True
    )
