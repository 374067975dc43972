"""The cohort's patients to folds."""

from collections import Counter
from pathlib import Path

import pandas as pd

from mcti.cohort import folds as cohort_folds
from mcti.cohort import leakage, tables
from mcti.cohort.expression_blocks import ExpressionBlocks
from mcti.cohort.reading import read_table
from mcti.errors import DataError
from mcti.params import SplitParams
from mcti.progress import Progress
from mcti.registry.pipeline_run import tracked
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location, join, local_copy

NO_FEATURES = "no features of a slide"


class SplitResult(StepResult):
    """How the patients were dealt; counts of each test part beside its number."""

    scheme: str
    patients: int
    folds: int
    test_patients: tuple[int, ...]
    test_events: tuple[int, ...]
    excluded: dict[str, int]
    sha256: str
    warnings: tuple[str, ...]


@logged
@tracked
def split(
    cohort: Location, features: Location | None, params: SplitParams, out: Path, *, progress: Progress | None = None
) -> SplitResult:
    """Deal the patients of a cohort to folds.

    Reads   cohort/{patients,slides,expression}.parquet; features/slides.csv (None: nobody leaves for want of features)
    Writes  out (folds.csv) and the description beside it (folds.json: hash, balance, who left)
    Raises  DataError when the cohort cannot fill the folds, or a test patient's data stand in a training part
            UsageError when a setting that the scheme needs is missing
    """
    with local_copy(cohort) as folder:
        patients = tables.read_patients(folder)
        gone = _without_features(patients, features) if params.missing_modality == "drop" else []
        kept = patients[~patients["patient_id"].isin(gone)].reset_index(drop=True)
        folds = cohort_folds.assign_folds(kept, params)
        blocks = ExpressionBlocks(folder, leakage.PASSES, progress)
        leakage.check(folds, folder, blocks)
        blocks.close()
    result = _result(folds, kept, gone, params)
    description = {**result.model_dump(mode="json"), "excluded": dict.fromkeys(gone, NO_FEATURES)}
    cohort_folds.write_folds(folds, description, Path(out))
    return result


def _without_features(patients: pd.DataFrame, features: Location | None) -> list[str]:
    """Patients none of whose slides gave features, sorted."""
    if features is None:
        return []
    table = read_table(join(features, "slides.csv"))
    table.need("patient_id", "status")
    with_features = set(table.frame["patient_id"][_with_tiles(table.frame)])
    gone = sorted(set(patients["patient_id"]) - with_features)
    if len(gone) == len(patients):
        raise DataError("no patient of the cohort has features", table.where, "extract the slides of this cohort")
    return gone


def _with_tiles(table: pd.DataFrame) -> "pd.Series[bool]":
    """Which slides have features: status OK, and at least one tile where the table counts them."""
    usable = table["status"] == "OK"
    if "tiles" in table:
        usable &= pd.to_numeric(table["tiles"], errors="coerce") != 0
    return usable


def _result(folds: cohort_folds.Folds, patients: pd.DataFrame, gone: list[str], params: SplitParams) -> SplitResult:
    event = dict(zip(patients["patient_id"], patients["event"], strict=True))
    tests = [folds.test_patients(number) for number in folds.numbers]
    events = [sum(int(event[patient_id]) for patient_id in part) for part in tests]
    few = [
        f"fold {k}: {count} events in the test part" for k, count in enumerate(events) if count < params.min_test_events
    ]
    unseen = len(patients) - len(set().union(*tests))
    if unseen:
        few.append(f"{unseen} patients are tested in no fold")
    return SplitResult(
        scheme=params.scheme,
        patients=len(patients),
        folds=len(tests),
        test_patients=tuple(map(len, tests)),
        test_events=tuple(events),
        excluded=dict(Counter([NO_FEATURES] * len(gone))),
        sha256=folds.digest(),
        warnings=tuple(few),
    )
