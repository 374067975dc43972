"""A permutation test of the steps from tables to folds: Cox on noise scores one half, on a real signal it does not."""

import numpy as np
import pytest
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.metrics import concordance_index_censored
from sksurv.util import Surv

from mcti.cohort import tables
from mcti.cohort.folds import read_folds
from mcti.params import IngestParams, SplitParams
from mcti.steps.ingest import ingest
from mcti.steps.split import split
from tests.cohort import cases

PATIENTS, REPEATS = 150, 12


def out_of_fold_c(folder, seed, permuted, scheme):
    """Mean C over the test parts; genes are scaled on the training part. Oracle of fit and score: scikit-survival."""
    frames = cases.sources(patients=PATIENTS, genes=24, seed=seed)
    genes, rng = frames["expression"], np.random.default_rng([seed, 1])
    time = np.exp(3 - 0.8 * genes["G0"].to_numpy() + rng.gumbel(0, 0.5, PATIENTS))
    censor = rng.uniform(5, 80, PATIENTS)
    outcome = np.stack([np.minimum(time, censor) + 0.01, time <= censor], axis=1)
    outcome = rng.permutation(outcome) if permuted else outcome
    frames["clinical"]["time_months"], frames["clinical"]["event"] = outcome[:, 0], outcome[:, 1].astype(int)
    paths = cases.write_sources(frames, folder / "raw")
    params = IngestParams(expression_scale="z-score")
    ingest(paths["clinical"], paths["expression"], paths["slides"], params, folder / "cohort")
    split(folder / "cohort", None, SplitParams(seed=seed, scheme=scheme, folds=4), folder / "folds.csv")
    folds = read_folds(folder / "folds.csv")
    labels = tables.read_patients(folder / "cohort").set_index("patient_id")
    values = tables.read_expression(folder / "cohort").iloc[:, :5].astype(float)
    scores = []
    for number in folds.numbers:
        train, test = folds.train_patients(number), folds.test_patients(number)
        mean, sd = values.loc[train].mean(), values.loc[train].std()
        training = Surv.from_arrays(labels.loc[train, "event"] == 1, labels.loc[train, "time_months"])
        cox = CoxPHSurvivalAnalysis(alpha=1.0).fit(((values.loc[train] - mean) / sd).to_numpy(), training)
        risk = cox.predict(((values.loc[test] - mean) / sd).to_numpy())
        event, months = labels.loc[test, "event"].to_numpy() == 1, labels.loc[test, "time_months"].to_numpy()
        scores.append(concordance_index_censored(event, months, risk)[0])
    return float(np.mean(scores))


@pytest.mark.parametrize("scheme", ["stratified", "site"])
def test_cox_on_permuted_outcomes_scores_one_half(tmp_path, scheme):
    """The mean over permutations lies within three of its own standard errors of 0.5, and these are small."""
    scores = np.array([out_of_fold_c(tmp_path / str(s), s, True, scheme) for s in range(REPEATS)])
    error = scores.std(ddof=1) / np.sqrt(REPEATS)
    assert error < 0.02
    assert abs(scores.mean() - 0.5) < 3 * error


def test_cox_on_a_real_signal_scores_far_above(tmp_path):
    assert out_of_fold_c(tmp_path, 0, False, "stratified") > 0.65
