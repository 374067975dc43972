"""External validation of a BRCA model on the hospitals that it never saw, every number calculated again in this file.

The tables are those of TCGA in shared/data (README there); the test is skipped where that folder does not exist.
"""

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from mcti.cohort import tables
from mcti.params import EvaluateParams, SplitParams, TrainParams
from mcti.steps.evaluate.step import evaluate
from mcti.steps.split import split
from mcti.steps.test.step import test as step
from mcti.steps.train import train

DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "tcga"
GENES = 120
PARAMS = EvaluateParams(
    bootstrap=100,
    horizons_months=(36.0, 60.0),
    baselines=("kaplan_meier", "cox_clinical"),
    primary_baseline="cox_clinical",
    attribution_patients=0,
)
TRAIN = {
    "preset": "tiny", "epochs": 1, "batch_patients": 64, "learning_rate": 1e-3, "weight_decay": 1e-2, "workers": 1,
    "cox_weight": 0.5, "horizons_months": [36.0, 60.0], "architecture": {"covariates": ["age", "is_female"]},
}  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (DATA / "bags" / "brca.zip").exists(), reason=f"the TCGA tables are not at {DATA}"),
]


def write_cohort(folder: Path, clinical: pd.DataFrame, expression: pd.DataFrame, bags: dict) -> None:
    """The canonical tables of these patients and the features of all their slides, one file per patient."""
    patients = clinical.sort_values("patient_id").reset_index(drop=True)
    patients["is_female"] = patients["is_female"].astype("Int8")
    patients["event"] = patients["event"].astype("int8")
    slides = pd.DataFrame({"patient_id": patients["patient_id"], "slide_id": patients["patient_id"]})
    slides = slides.assign(path=None, mpp=0.5, stain=None, md5=None)
    info = tables.CohortInfo(
        name="brca", notice="", endpoint="OS", expression_scale="z-score", counts={"patients": len(patients)},
        covariates=(), sources={}, attrition=(), event_confirmed=True,
    )  # fmt: skip
    (folder / "cohort").mkdir(parents=True)
    (folder / "features").mkdir()
    genes = expression.loc[patients["patient_id"]].astype(np.float32)
    tables.write(tables.Cohort(patients, genes, slides[[c.name for c in tables.SLIDES]], info), folder / "cohort")
    for patient in patients["patient_id"]:
        with h5py.File(folder / "features" / f"{patient}.h5", "w") as file:
            file["features"] = bags[patient]
            file["coords"] = np.zeros((len(bags[patient]), 2), dtype=np.int64)


@pytest.fixture(scope="module")
def validation(tmp_path_factory):
    """(predictions, metrics, external, patients) of a model of half of the sites on the others."""
    from benchmarks.study_data import read_bags

    root = tmp_path_factory.mktemp("brca")
    clinical = pd.read_csv(DATA / "brca_clinical.csv", dtype={"patient_id": str, "site": str})
    expression = pd.read_parquet(DATA / "brca_expression.parquet").set_index("patient_id").iloc[:, :GENES]
    bags = read_bags(DATA, "brca")
    clinical = clinical[clinical["patient_id"].isin(bags)].iloc[::2]  # every other patient: enough for the formulas
    sites = sorted(clinical["site"].unique())
    held_out = clinical["site"].isin(sites[::2])
    write_cohort(root / "development", clinical[~held_out], expression, bags)
    write_cohort(root / "other", clinical[held_out], expression, bags)
    cohort, features = root / "development" / "cohort", root / "development" / "features"
    split(cohort, None, SplitParams(folds=2, inner_folds=2, min_test_events=0), root / "folds.csv")
    train(cohort, features, root / "folds.csv", TrainParams.model_validate(TRAIN), root / "models")
    evaluate(cohort, features, root / "folds.csv", root / "models", PARAMS, root / "evaluation")
    out = root / "out"
    step(
        str(root / "models"), root / "other" / "cohort", root / "other" / "features", PARAMS, out,
        evaluation=root / "evaluation",
    )  # fmt: skip
    predicted = pd.read_csv(out / "predictions.csv", float_precision="round_trip")
    documents = [json.loads((out / name).read_text()) for name in ("metrics.json", "external.json")]
    return predicted, documents[0], documents[1], clinical[held_out].set_index("patient_id")


def censoring_before(time, event, months, *, left: bool) -> float:
    """Kaplan-Meier estimate of being uncensored at `months` (left: just before), events first at tied times."""
    share = 1.0
    for moment in np.unique(time[~event]):
        if moment < months or (moment == months and not left):
            at_risk = (time > moment).sum() + ((time == moment) & ~event).sum()
            share *= 1 - ((time == moment) & ~event).sum() / at_risk
    return share


def outcome_of(predicted):
    return predicted["event"].to_numpy() == 1, predicted["time_months"].to_numpy(), predicted["risk"].to_numpy()


def concordance(time, event, risk, weight, before=np.inf) -> float:
    """Weighted share of ordered pairs in plain loops over the patients with the event."""
    correct = total = 0.0
    for i in np.flatnonzero(event & (time < before)):
        later = (time > time[i]) | ((time == time[i]) & ~event)
        gap = risk[i] - risk[later]
        correct += weight[i] * ((gap > 1e-8).sum() + 0.5 * (np.abs(gap) <= 1e-8).sum())
        total += weight[i] * later.sum()
    return correct / total


def status(time, event, months):
    """Event by `months`, and the weight of each patient for censoring."""
    had = event & (time <= months)
    at = censoring_before(time, event, months, left=False)
    weight = [
        1 / censoring_before(time, event, t, left=True) if h else (t > months) / at
        for t, h in zip(time, had, strict=True)
    ]
    return had.astype(float), np.array(weight)


def test_the_patients_and_outcomes_are_those_of_the_held_out_sites(validation):
    predicted, _, document, clinical = validation
    assert sorted(predicted["patient_id"]) == sorted(clinical.index)
    np.testing.assert_array_equal(predicted["event"], clinical.loc[predicted["patient_id"], "event"])
    np.testing.assert_array_equal(predicted["time_months"], clinical.loc[predicted["patient_id"], "time_months"])
    assert document["events"] == int(clinical["event"].sum()) > 20


def test_the_concordance_to_nine_digits(validation):
    predicted, metrics, document, _ = validation
    event, time, risk = outcome_of(predicted)
    c = concordance(time, event, risk, np.ones(len(time)))
    assert metrics["mcti"]["c_index"]["value"] == pytest.approx(c, abs=1e-9)
    assert document["transportability"]["validation_c"]["value"] == pytest.approx(c, abs=1e-9)
    weight = np.array(
        [censoring_before(time, event, t, left=True) ** -2.0 if e else 0.0 for t, e in zip(time, event, strict=True)]
    )
    uno = concordance(time, event, risk, weight, before=np.quantile(time, 0.8))
    assert metrics["mcti"]["uno_c"]["value"] == pytest.approx(uno, abs=1e-9)


@pytest.mark.parametrize("months", [36.0, 60.0])
def test_brier_score_and_calibration_to_nine_digits(validation, months):
    predicted, metrics, _, _ = validation
    event, time, _ = outcome_of(predicted)
    survival = predicted[f"S_{months:g}"].to_numpy()
    had, weight = status(time, event, months)
    ours = {key: metrics["mcti"][f"{key}_{months:g}"]["value"] for key in ("brier", "oe", "intercept", "slope")}
    assert ours["brier"] == pytest.approx(np.mean(weight * (1 - had - survival) ** 2), abs=1e-9)
    assert ours["oe"] == pytest.approx((weight * had).sum() / (1 - survival).sum(), abs=1e-9)
    probability = np.clip(1 - survival, 1e-4, 1 - 1e-4)
    logit = np.log(probability / (1 - probability))

    def score(beta):
        residual = weight * (had - 1 / (1 + np.exp(-(beta[0] + beta[1] * logit))))
        return [residual.sum(), (residual * logit).sum()]

    slope = optimize.root(score, [0.0, 1.0], tol=1e-13).x[1]
    intercept = optimize.brentq(lambda b: score([b, 1.0])[0], -10, 10, xtol=1e-13)
    assert ours["slope"] == pytest.approx(slope, abs=1e-7)  # Newton ends below a step of 1e-8
    assert ours["intercept"] == pytest.approx(intercept, abs=1e-9)


def test_the_decision_curve_to_nine_digits(validation):
    predicted, metrics, _, _ = validation
    event, time, _ = outcome_of(predicted)
    had, weight = status(time, event, 60.0)
    for row in metrics["mcti"]["decision"]["rows"]:
        odds = row["threshold"] / (1 - row["threshold"])
        treated = 1 - predicted["S_60"].to_numpy() >= row["threshold"]
        benefit = (weight * treated * (had - odds * (1 - had))).sum() / len(time)
        assert row["mcti"] == pytest.approx(benefit, abs=1e-9)


def test_the_integrated_brier_score_and_the_model_based_concordance_to_nine_digits(validation):
    _, metrics, document, _ = validation
    scores = [metrics["mcti"][f"brier_{months}"]["value"] for months in (36, 60)]
    assert metrics["mcti"]["ibs"]["value"] == pytest.approx(np.mean(scores), abs=1e-9)  # one trapezoid
    parts = document["transportability"]
    loss = parts["development_c"]["value"] - parts["validation_c"]["value"]
    assert parts["loss"]["value"] == pytest.approx(loss, abs=1e-9)
    mixture = parts["development_expected"]["value"] - parts["validation_expected"]["value"]
    assert parts["case_mix"]["value"] == pytest.approx(mixture, abs=1e-9)
    assert parts["other"]["value"] == pytest.approx(loss - mixture, abs=1e-9)
