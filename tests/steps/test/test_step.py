"""External validation of a small model: numbers from independent sources, files, and every refusal."""

import json
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from sksurv.metrics import concordance_index_censored, concordance_index_ipcw
from sksurv.util import Surv

from mcti import storage
from mcti.cohort import tables
from mcti.dataset.loading import load_dataset
from mcti.errors import DataError
from mcti.evaluation import baselines
from mcti.evaluation.curves import KaplanMeier, censoring_curve
from mcti.params import PredictParams
from mcti.redaction import hashed
from mcti.registry import ensemble_files
from mcti.steps.evaluate import baseline_fits
from mcti.steps.predict.step import predict
from mcti.steps.test.step import test as step
from tests.steps.test.factories import PARAMS, changed, develop, read, scaled, validate, varied, write
from tests.training.factories import folders, settings

MONTHS = np.array([12.0, 36.0])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model of 70 patients with its evaluation, another cohort of 50 patients, and its validation."""
    root = tmp_path_factory.mktemp("a world")
    chosen = settings(epochs=4, workers=1, cox_weight=0.5, architecture={"covariates": ["age", "size_cm"]})
    develop(root, PARAMS, chosen, 70, lambda cohort: varied(cohort, 0, ""))
    other, other_features, _ = folders(root / "other", patients=50, seed=1)
    varied(other, 1, "N-")
    validate(root, other, other_features, root / "out")
    return root


def result_of(root):
    patients = read(root / "other" / "cohort").patients.set_index("patient_id")
    predicted = pd.read_csv(root / "out" / "predictions.csv", index_col="patient_id", float_precision="round_trip")
    assert list(predicted.index) == sorted(predicted.index)
    patients = patients.loc[predicted.index]
    metrics = json.loads((root / "out" / "metrics.json").read_text())
    return patients["event"].to_numpy() == 1, patients["time_months"].to_numpy(), predicted, metrics


def test_the_ranking_agrees_with_scikit_survival(world):
    """Oracle: scikit-survival 0.28; the follow-up has no ties, so that both weight a censoring alike."""
    event, time, predicted, metrics = result_of(world)
    harrell = concordance_index_censored(event, time, predicted["risk"].to_numpy())[0]
    assert metrics["mcti"]["c_index"]["value"] == pytest.approx(harrell, abs=1e-9)
    outcome, tau = Surv.from_arrays(event, time), np.quantile(time, 0.8)
    uno = concordance_index_ipcw(outcome, outcome, predicted["risk"].to_numpy(), tau=tau)[0]
    assert metrics["mcti"]["uno_c"]["value"] == pytest.approx(uno, abs=1e-9)


def test_brier_score_and_calibration_in_the_large_by_hand(world):
    event, time, predicted, metrics = result_of(world)
    curve = censoring_curve(event, time)
    for months in MONTHS:
        survival = predicted[f"S_{months:g}"].to_numpy()
        had, free = event & (time <= months), time > months
        weight = np.where(had, 1 / np.maximum(curve.before(time), 1e-9), 0) + free / float(curve.at(months))
        brier = float(np.mean(weight * np.where(had, survival**2, (1 - survival) ** 2)))
        assert metrics["mcti"][f"brier_{months:g}"]["value"] == pytest.approx(brier, abs=1e-9)
        observed = len(time) * (1 - float(KaplanMeier.fit(event, time).at(months)))
        ratio = observed / float((1 - survival).sum())
        assert metrics["mcti"][f"oe_{months:g}"]["value"] == pytest.approx(ratio, abs=1e-9)


def test_the_predictions_and_groups_are_those_of_predict(world, tmp_path):
    """Limits of the development: the risk groups of `mcti predict`; the same bits of the risks."""
    *_, predicted, metrics = result_of(world)
    cohort, features = world / "other" / "cohort", world / "other" / "features"
    predict(str(world / "models"), cohort, features, PredictParams(workers=1), tmp_path / "p.csv")
    usual = pd.read_csv(tmp_path / "p.csv", index_col="patient_id", float_precision="round_trip")
    assert list(predicted["risk"]) == list(usual["risk"])
    assert list(predicted["S_12"]) == list(usual["S_12"])
    assert list(predicted["risk_group"]) == list(usual["risk_group"])
    sizes = metrics["mcti"]["risk_groups"]["sizes"]
    assert sizes == dict(usual["risk_group"].value_counts().reindex(["low", "high"], fill_value=0))


def test_baselines_are_those_of_the_development(world):
    """Oracle: the Cox model fitted again on each training part of the development, mean of the risks and curves."""
    development, other = world / "development", world / "other"
    patients = tables.read_patients(development / "cohort")
    inputs = baseline_fits.read_inputs(development / "cohort", development / "features", patients)
    new = baseline_fits.read_inputs(
        other / "cohort", other / "features", tables.read_patients(other / "cohort").sort_values("patient_id")
    )
    folds = pd.read_csv(development / "folds.csv")
    parts = []
    for fold in range(3):
        trained = set(folds.loc[(folds["fold"] == fold) & (folds["role"] == "train"), "patient_id"])
        rows = np.flatnonzero(patients["patient_id"].isin(trained))
        parts.append(baselines.create("cox_clinical_genes").fit(inputs.rows(rows), PARAMS.seed).predict(new, MONTHS))
    written = pd.read_csv(world / "out" / "baselines.csv", float_precision="round_trip")
    written = written[written["model"] == "cox_clinical_genes"]
    np.testing.assert_allclose(written["risk"], np.mean([risk for risk, _ in parts], axis=0), atol=1e-9)
    np.testing.assert_allclose(written["S_36"], np.mean([curve[:, 1] for _, curve in parts], axis=0), atol=1e-9)


def test_the_figures_of_the_development_are_in_the_same_table(world):
    compared = pd.read_csv(world / "out" / "compared.csv", float_precision="round_trip").set_index(["model", "metric"])
    before = json.loads((world / "evaluation" / "metrics.json").read_text())
    _, _, _, metrics = result_of(world)
    row = compared.loc[("mcti", "c_index")]
    assert row["development_value"] == before["mcti"]["c_index"]["value"]
    assert row["difference"] == pytest.approx(row["validation_value"] - row["development_value"], abs=1e-12)
    assert compared.loc[("cox_clinical", "ibs"), "development_low"] == before["cox_clinical"]["ibs"]["low"]
    assert set(metrics["mcti"]["comparison"]) == {"kaplan_meier", "cox_clinical", "cox_clinical_genes"}
    document = json.loads((world / "out" / "external.json").read_text())
    assert "trees are not stored" in document["skipped_baselines"]["boosting"]
    assert document["transportability"]["development_c"]["value"] == before["mcti"]["c_index"]["value"]
    assert document["transportability"]["validation_c"] == pytest.approx(metrics["mcti"]["c_index"], abs=1e-12)
    assert document["case_mix"]["membership"]["all_variables"]["variables"] == [
        "linear predictor", "age", "is_female", "size_cm",
    ]  # fmt: skip
    assert document["case_mix"]["patients"] == {"development": 70, "validation": 50}


def test_the_files_have_the_same_bytes_on_every_run(world, tmp_path):
    files = {p.relative_to(world / "out"): p.read_bytes() for p in (world / "out").rglob("*") if p.is_file()}
    validate(world, world / "other" / "cohort", world / "other" / "features", tmp_path / "again")
    again = {p.relative_to(tmp_path / "again"): p.read_bytes() for p in (tmp_path / "again").rglob("*") if p.is_file()}
    assert files == again
    assert not any(str(world).encode() in content for content in files.values())


def test_the_report_has_every_part(world):
    page = (world / "out" / "report.html").read_text(encoding="utf-8")
    assert all(
        term in page for term in ("ICI (integrated calibration index)", "IBS: integrated Brier score", "Skill: ")
    )
    for part in ("compared", "performance", "models", "transportability", "case-mix", "kaplan_meier", "calibration",
                 "decision", "subgroups", "methods", "tripod"):  # fmt: skip
        assert f'id="{part}"' in page
    assert "external evaluation (validation) of models" in page
    assert "https://" not in page
    assert "fold 0" not in page


def test_a_folder_without_an_evaluation_has_no_figures_of_the_development(world, tmp_path):
    cohort, features = world / "other" / "cohort", world / "other" / "features"
    result = validate(world, cohort, features, tmp_path / "out", evaluation=None)
    assert result.development_c_index is None
    assert any("no evaluation of the development" in warning for warning in result.warnings)
    document = json.loads((tmp_path / "out" / "external.json").read_text())
    assert (document["case_mix"], document["transportability"], document["development"]) == (None, None, {})
    assert result.c_index == json.loads((world / "out" / "result.json").read_text())["c_index"]


def test_an_older_evaluation_without_stored_baselines_is_reported(world, tmp_path):
    shutil.copytree(world / "evaluation", tmp_path / "evaluation")
    (tmp_path / "evaluation" / "baseline_models.safetensors").unlink()
    (tmp_path / "evaluation" / "case_mix.json").unlink()
    cohort, features = world / "other" / "cohort", world / "other" / "features"
    result = validate(world, cohort, features, tmp_path / "out", evaluation=tmp_path / "evaluation")
    assert any("evaluate and register again" in warning for warning in result.warnings)
    assert result.membership_auc is None
    assert result.case_mix_loss is not None


def test_a_patient_without_slides_is_excluded_with_the_reason(world, tmp_path):
    features = tmp_path / "features"
    shutil.copytree(world / "other" / "features", features)
    (features / "P-003-S.h5").unlink()
    result = validate(world, world / "other" / "cohort", features, tmp_path / "out")
    assert result.patients == 49
    assert result.excluded == {"no slides, and the model was trained on patients with both": 1}
    excluded = pd.read_csv(tmp_path / "out" / "excluded.csv")
    assert list(excluded["patient_id"]) == ["N-P-003"]


def test_ids_are_hashed_with_redact(world, tmp_path, monkeypatch):
    monkeypatch.setenv("MCTI_REDACT", "1")
    validate(world, world / "other" / "cohort", world / "other" / "features", tmp_path / "out")
    for name in ("predictions.csv", "baselines.csv"):
        ids = set(pd.read_csv(tmp_path / "out" / name)["patient_id"])
        assert hashed("N-P-000") in ids
        assert not any(patient.startswith("N-") for patient in ids)


def test_one_subtype_is_no_obstacle(world, tmp_path):
    cohort, features = changed(world, tmp_path, lambda whole: whole.patients.__setitem__("subtype", "IDC"))
    validate(world, cohort, features, tmp_path / "out")
    ours = json.loads((tmp_path / "out" / "metrics.json").read_text())["mcti"]
    assert ours["c_within_subtype"]["value"] == ours["c_index"]["value"]


def refused(root, tmp_path, cohort, features, match):
    with pytest.raises(DataError, match=match) as caught:
        validate(root, cohort, features, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_cohort_with_development_patients_is_refused(world, tmp_path):
    def rename(whole):
        names = dict(zip(["N-P-000", "N-P-001"], ["P-000", "P-001"], strict=True))
        for frame in (whole.patients, whole.slides):
            frame["patient_id"] = frame["patient_id"].replace(names)
        whole.expression.index = whole.expression.index.to_series().replace(names)

    cohort, features = changed(world, tmp_path, rename)
    refused(world, tmp_path, cohort, features, "2 of 50 patients belong to the development of the model, .*'P-000'")


def test_development_patients_under_other_ids_are_refused(world, tmp_path):
    """All patients renamed: outcome and out-of-fold risk are those of the evaluation."""
    whole = read(world / "development" / "cohort")
    for frame in (whole.patients, whole.slides):
        frame["patient_id"] = "X-" + frame["patient_id"]
    whole.expression.index = "X-" + whole.expression.index
    write(tmp_path / "renamed", whole)
    features = world / "development" / "features"
    refused(world, tmp_path, tmp_path / "renamed", features, "70 of 70 patients have the risk, and the outcome or S")


def test_one_development_patient_with_longer_follow_up_is_refused(world, tmp_path):
    """The id and the outcome are new, the profile is that of a development patient: risk and S(t) are equal."""
    development, other = (read(world / name / "cohort") for name in ("development", "other"))
    name = "N-P-007"
    row, source = (table.patients["patient_id"] == key for table, key in ((other, name), (development, "P-007")))
    kept = ["age", "is_female", "size_cm"]
    for column in kept:
        other.patients.loc[row, column] = development.patients.loc[source, column].iloc[0]
    other.patients.loc[row, "time_months"] = 99.0
    other.expression.loc[name] = development.expression.loc["P-007"]
    write(tmp_path / "changed", other)
    features = tmp_path / "features"
    shutil.copytree(world / "other" / "features", features)
    shutil.copy(world / "development" / "features" / "P-007-S.h5", features / "P-007-S.h5")
    refused(world, tmp_path, tmp_path / "changed", features, "1 of 50 patients have the risk, .*'N-P-007'")


def test_the_predicted_subtypes_are_scored_where_the_classes_are_the_same(world):
    """Oracle: scikit-learn, the mean probability over the members."""
    ensemble = ensemble_files.load(world / "models")
    *_, metrics = result_of(world)
    assert len(ensemble.classes) == 2
    data = load_dataset(world / "other" / "cohort", world / "other" / "features", list(ensemble.genes))
    column = f"P_{ensemble.classes[0]}"
    shares = [
        [
            member.predict(bag.patches, bag.genes, [12.0], bag.covariates, subtypes=True)[column]
            for bag in data.bags.values()
        ]
        for member in ensemble.members.values()
    ]
    truth = [data.classes[bag.subtype] == ensemble.classes[0] for bag in data.bags.values()]
    area = roc_auc_score(truth, np.mean(shares, axis=0))
    assert metrics["mcti"]["subtype_auroc"]["value"] == pytest.approx(area, abs=1e-9)


def test_other_subtypes_are_not_scored_with_the_reason(world, tmp_path):
    def rename(whole):
        whole.patients["subtype"] = np.where(np.arange(len(whole.patients)) % 2, "X", "Y")

    cohort, features = changed(world, tmp_path, rename)
    result = validate(world, cohort, features, tmp_path / "out")
    assert "The predicted subtypes are not scored: the model does not predict X, Y." in result.warnings
    assert "subtype_auroc" not in json.loads((tmp_path / "out" / "metrics.json").read_text())["mcti"]


def test_another_endpoint_is_refused(world, tmp_path):
    cohort, features = changed(world, tmp_path, endpoint="PFI")
    refused(world, tmp_path, cohort, features, "the endpoint is PFI, that of the development OS")


def test_another_expression_scale_is_refused(world, tmp_path):
    cohort, features = changed(world, tmp_path, expression_scale="tpm")
    refused(world, tmp_path, cohort, features, "the expression scale is tpm, that of the development log2")


def test_expression_of_another_unit_is_refused_although_the_name_is_the_same(world, tmp_path):
    def exponentiate(whole):
        whole.expression[:] = 2.0**whole.expression + 50

    cohort, features = changed(world, tmp_path, exponentiate)
    refused(world, tmp_path, cohort, features, "the medians of 5 of 5 genes are outside the range")


def test_no_shared_gene_is_refused(world, tmp_path):
    cohort, features = changed(
        world, tmp_path, lambda whole: whole.expression.rename(columns=lambda g: f"x{g}", inplace=True)
    )
    refused(world, tmp_path, cohort, features, "the cohort has none of the 5 genes of the model")


@pytest.mark.parametrize("evaluation", ["with", "without"])
@pytest.mark.parametrize("factor", [30.0, 1 / 12])
def test_times_in_days_or_years_are_refused(world, tmp_path, factor, evaluation):
    """Days or years in place of months; without an evaluation the edges of the time bins are compared with."""

    def convert(whole):
        whole.patients["time_months"] = (whole.patients["time_months"] * factor).clip(upper=1100.0)

    cohort, features = changed(world, tmp_path, convert)
    median = f"{read(cohort).patients['time_months'].median():.4g}"
    options = {} if evaluation == "with" else {"evaluation": None}
    with pytest.raises(DataError, match=f"median of time_months is {median}, that of the development") as caught:
        validate(world, cohort, features, tmp_path / "out", **options)
    assert "ingest.time_unit" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_times_in_weeks_are_a_warning(world, tmp_path):
    cohort, features = changed(world, tmp_path, scaled("time_months", 30.4 / 7 * 1.2))
    result = validate(world, cohort, features, tmp_path / "out")
    assert any("times that of the development: check the unit" in warning for warning in result.warnings)


def test_a_covariate_of_another_unit_is_refused(world, tmp_path):
    cohort, features = changed(world, tmp_path, scaled("size_cm", 10))
    refused(world, tmp_path, cohort, features, "the median of size_cm is .*, that of the development .* do not overlap")


def test_an_age_in_days_is_refused(world, tmp_path):
    cohort, features = changed(world, tmp_path, scaled("age", 365.25))
    refused(world, tmp_path, cohort, features, "age")


def test_a_missing_covariate_is_refused(world, tmp_path):
    cohort, features = changed(world, tmp_path, lambda whole: whole.patients.drop(columns="size_cm", inplace=True))
    refused(world, tmp_path, cohort, features, "the cohort has no numeric covariate 'size_cm'")


def test_times_in_days_are_refused(world, tmp_path):
    cohort, features = changed(world, tmp_path, scaled("time_months", 30.4))
    refused(world, tmp_path, cohort, features, "time_months reaches")


def test_a_cohort_without_events_is_refused(world, tmp_path):
    cohort, features = changed(world, tmp_path, lambda whole: whole.patients.__setitem__("event", np.int8(0)))
    refused(world, tmp_path, cohort, features, "no patient has the event")


def test_another_encoder_is_refused(world, tmp_path):
    models, features = tmp_path / "models", tmp_path / "features"
    shutil.copytree(world / "models", models)
    shutil.copytree(world / "other" / "features", features)
    for fold in models.glob("fold_*"):
        spec = storage.read_json(fold / "model.json")
        storage.write_json(fold / "model.json", spec | {"features": {"encoder": "lite0"}})
    for file in features.glob("*.h5"):
        with h5py.File(file, "a") as handle:
            handle.attrs["encoder"] = "hed44"
    with pytest.raises(DataError, match="the features have encoder hed44, those of the training had lite0"):
        step(str(models), world / "other" / "cohort", features, PARAMS, tmp_path / "out")


def test_no_features_for_a_model_of_slides_is_refused(world, tmp_path):
    refused(world, tmp_path, world / "other" / "cohort", None, "no patient can be predicted, the first: no slides")


def test_the_evaluation_of_another_model_is_refused(world, tmp_path):
    shutil.copytree(world / "evaluation", tmp_path / "evaluation")
    table = pd.read_csv(tmp_path / "evaluation" / "predictions.csv")
    table.assign(risk=table["risk"] + 1).to_csv(tmp_path / "evaluation" / "predictions.csv", index=False)
    cohort, features = world / "other" / "cohort", world / "other" / "features"
    with pytest.raises(DataError, match="is not that of the fold's model"):
        validate(world, cohort, features, tmp_path / "out", evaluation=tmp_path / "evaluation")
    table.assign(patient_id="Z-" + table["patient_id"]).to_csv(tmp_path / "evaluation" / "predictions.csv", index=False)
    with pytest.raises(DataError, match="not those of the model's folds"):
        validate(world, cohort, features, tmp_path / "out", evaluation=tmp_path / "evaluation")


def test_a_model_without_a_reference_profile_is_refused(world, tmp_path):
    shutil.copytree(world / "models", tmp_path / "models")
    for fold in (tmp_path / "models").glob("fold_*"):
        spec = storage.read_json(fold / "model.json")
        storage.write_json(fold / "model.json", {k: v for k, v in spec.items() if k != "reference"})
    cohort, features = world / "other" / "cohort", world / "other" / "features"
    with pytest.raises(DataError, match="no reference profile"):
        step(str(tmp_path / "models"), cohort, features, PARAMS, tmp_path / "out")
