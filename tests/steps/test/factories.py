"""Cohorts of the tests of external validations: varied, and changed in one respect."""

import shutil

import numpy as np
import pandas as pd

from mcti.cohort import tables
from mcti.params import EvaluateParams, PromoteParams
from mcti.steps.evaluate.step import evaluate
from mcti.steps.test.step import test as step
from mcti.steps.train import train
from tests.training.factories import folders

PARAMS = EvaluateParams(
    bootstrap=100,
    horizons_months=(12.0, 36.0),
    baselines=("kaplan_meier", "cox_clinical", "cox_clinical_genes", "boosting"),
    attribution_patients=0,
)


EVALUATE = EvaluateParams(
    bootstrap=100,
    horizons_months=(12.0, 36.0),
    baselines=("cox_clinical",),
    primary_baseline="cox_clinical",
    attribution_patients=0,
)
PROMOTE = PromoteParams(external=True, require_contract=False, min_events=10, bootstrap=100)


def read(cohort):
    return tables.Cohort(
        tables.read_patients(cohort),
        tables.read_expression(cohort),
        tables.read_slides(cohort),
        tables.read_info(cohort),
    )


def write(cohort, whole):
    shutil.rmtree(cohort, ignore_errors=True)
    cohort.mkdir()
    tables.write(whole, cohort)


def develop(root, params, chosen, patients, change=lambda cohort: None):
    """A model with these settings and its evaluation: root/{development,models,evaluation}; change: of the cohort."""
    cohort, features, folds = folders(root / "development", patients=patients, folds=3)
    change(cohort)
    train(cohort, features, folds, chosen, root / "models")
    evaluate(cohort, features, folds, root / "models", params, root / "evaluation")


def renamed(cohort) -> None:
    """New patients: their ids are not those of the development cohort."""
    whole = read(cohort)
    _prefix_ids(whole, "N-")
    write(cohort, whole)


def shortened(cohort) -> None:
    """All times are a third as long, so that survival is worse than the model predicts."""
    whole = read(cohort)
    whole.patients["time_months"] = (whole.patients["time_months"] / 3).round(3) + 0.001
    write(cohort, whole)


def _prefix_ids(whole, prefix: str) -> None:
    for frame in (whole.patients, whole.slides):
        frame["patient_id"] = prefix + frame["patient_id"]
    whole.expression.index = prefix + whole.expression.index


def varied(cohort, seed: int, prefix: str) -> None:
    """Ages, sexes, sites and a size in cm; ids with a prefix."""
    whole, random = read(cohort), np.random.default_rng(seed)
    count = len(whole.patients)
    _prefix_ids(whole, prefix)
    whole.patients["age"] = random.normal(60, 8, count).round(1)
    whole.patients["is_female"] = pd.array(random.integers(0, 2, count), dtype="Int8")
    whole.patients["site"] = np.where(np.arange(count) % 2, "A", "B")
    whole.patients["size_cm"] = random.uniform(1, 5, count).round(1)
    write(cohort, whole)


def validate(root, cohort, features, out, **options):
    options.setdefault("evaluation", root / "evaluation")
    return step(str(root / "models"), cohort, features, PARAMS, out, **options)


def changed(root, tmp_path, change=lambda whole: None, **info):
    """The other cohort after a change to its tables or to cohort.json, with its features."""
    whole = read(root / "other" / "cohort")
    change(whole)
    whole = tables.Cohort(whole.patients, whole.expression, whole.slides, whole.info.model_copy(update=info))
    write(tmp_path / "changed", whole)
    return tmp_path / "changed", root / "other" / "features"


def scaled(column, factor):
    """A change of a numeric column of the patients."""

    def change(whole):
        whole.patients[column] *= factor

    return change
