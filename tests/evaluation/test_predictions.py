"""Reading of predictions, and every error in the predictions of a fold."""

import numpy as np
import pandas as pd
import pytest

from mcti.errors import DataError
from mcti.evaluation import predictions
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.predictions import Predictions
from tests.evaluation.factories import make_folds, make_patients

HORIZONS = np.array([12.0, 36.0])


@pytest.fixture
def models(tmp_path):
    """Folders of two folds with valid predictions, and their outcomes."""
    patients = make_patients(20)
    folds = make_folds(patients, 2)
    for k, (_, test) in folds.items():
        folder = tmp_path / f"fold_{k}"
        folder.mkdir()
        frame = pd.DataFrame(
            {"patient_id": test, "fold": k, "risk": np.random.default_rng(k).normal(size=len(test)) / 3}
        )
        predictions.write_csv(frame.assign(S_12=0.9, S_36=0.5), folder / "predictions.csv")
    return tmp_path, Outcomes.from_folds(patients, folds)


def test_risks_are_read_without_loss(models, tmp_path):
    folder, outcomes = models
    read = predictions.read_models(folder, outcomes, HORIZONS)
    first = outcomes.patient_ids[outcomes.patient[0]]
    frame = pd.read_csv(folder / "fold_0" / "predictions.csv", float_precision="round_trip").set_index("patient_id")
    assert read.risk[0] == frame.loc[first, "risk"]
    predictions.write_csv(predictions.with_outcomes(outcomes, read, HORIZONS), tmp_path / "all.csv")
    written = pd.read_csv(tmp_path / "all.csv", float_precision="round_trip")
    assert list(written) == ["patient_id", "fold", "risk", "S_12", "S_36", "time_months", "event"]
    assert sorted(written["risk"]) == sorted(read.risk)
    assert list(written["patient_id"]) == sorted(outcomes.patient_ids)
    truth = make_patients(20).set_index("patient_id")
    assert list(written["event"]) == list(truth.loc[written["patient_id"], "event"])
    assert list(written["time_months"]) == list(truth.loc[written["patient_id"], "time_months"])


def _without_a_row(frame):
    return frame.iloc[1:]


def _twice(frame):
    return pd.concat([frame, frame.iloc[:1]])


def _foreign(frame):
    return pd.concat([frame, frame.iloc[:1].assign(patient_id="X")])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_a_row, "has no prediction"),
        (_twice, "more than one prediction"),
        (_foreign, "patient X is not a test patient"),
        (lambda f: f.drop(columns="S_36"), "column 'S_36' is missing.*survival columns of the file: S_12;"),
        (lambda f: f.assign(risk=np.nan), "not a finite number.*patient P"),
        (lambda f: f.assign(S_12=1.2), r"S_12 is .*1.2.*not in \[0, 1\]"),
        (lambda f: f.assign(S_12=0.4), r"S_36 is above S_12: a survival curve never rises.*patient P"),
        (lambda f: f.assign(fold=0), "a row belongs to fold 0, not 1"),
        (lambda f: f.set_axis([*"abcde"], axis=1)[["a"]], "a single column.*separate the columns by commas"),
    ],
)
def test_each_error_names_file_and_patient(models, change, message):
    folder, outcomes = models
    path = folder / "fold_1" / "predictions.csv"
    predictions.write_csv(change(pd.read_csv(path)), path)
    with pytest.raises(DataError, match=message) as caught:
        predictions.read_models(folder, outcomes, HORIZONS)
    assert "fold_1" in str(caught.value)


def test_a_missing_fold_and_a_truncated_file_are_errors(models):
    folder, outcomes = models
    (folder / "fold_1" / "predictions.csv").write_text("")
    with pytest.raises(DataError, match="not a CSV table"):
        predictions.read_models(folder, outcomes, HORIZONS)
    (folder / "fold_1" / "predictions.csv").unlink()
    with pytest.raises(DataError, match="no such file"):
        predictions.read_models(folder, outcomes, HORIZONS)


def test_text_in_a_column_of_numbers_is_an_error(models):
    folder, outcomes = models
    path = folder / "fold_0" / "predictions.csv"
    predictions.write_csv(pd.read_csv(path).astype({"risk": str}).assign(risk="high"), path)
    with pytest.raises(DataError, match="'high'"):
        predictions.read_models(folder, outcomes, HORIZONS)


def test_folds_must_belong_to_the_cohort_and_keep_training_and_test_apart():
    patients = make_patients(10)
    with pytest.raises(DataError, match="'Q' is not in the cohort"):
        Outcomes.from_folds(patients, {0: (["P0001"], ["Q"])})
    with pytest.raises(DataError, match="'P0001' is in the training part and in the test part"):
        Outcomes.from_folds(patients, {0: (["P0001", "P0002"], ["P0001"])})


def test_survival_columns_are_named_by_their_months():
    outcomes = Outcomes.from_folds(make_patients(4), {0: (["P0000", "P0001"], ["P0002", "P0003"])})
    frame = predictions.table(outcomes, Predictions(np.zeros(2), np.ones((2, 2))), np.array([7.5, 36.0]))
    assert list(frame) == ["patient_id", "fold", "risk", "S_7.5", "S_36"]
