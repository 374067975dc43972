"""Cohorts of the tests of external validations: varied, and changed in one respect."""

import shutil

import numpy as np
import pandas as pd

from mcti.cohort import tables
from mcti.params import EvaluateParams
from mcti.steps.test.step import test as step

PARAMS = EvaluateParams(
    bootstrap=100,
    horizons_months=(12.0, 36.0),
    baselines=("kaplan_meier", "cox_clinical", "cox_clinical_genes", "boosting"),
)


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


def varied(cohort, seed: int, prefix: str) -> None:
    """Ages, sexes, sites and a size in cm; ids with a prefix."""
    whole, random = read(cohort), np.random.default_rng(seed)
    count = len(whole.patients)
    for frame in (whole.patients, whole.slides):
        frame["patient_id"] = prefix + frame["patient_id"]
    whole.expression.index = prefix + whole.expression.index
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
