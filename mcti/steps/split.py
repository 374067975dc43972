"""Step `split`: assigns the patients of a cohort to folds."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from mcti import storage
from mcti.errors import DataError
from mcti.params import SplitParams
from mcti.progress import Progress
from mcti.registry.pipeline_run import tracked
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location

if TYPE_CHECKING:  # they import pandas, which a wrong option or the first line of the log does not need
    import pandas as pd

    from mcti.cohort.folds import Folds

NO_FEATURES = "no features of a slide"


class SplitResult(StepResult):
    """Size and balance of the folds.

    test_patients, test_events  of each fold
    excluded                    {reason: number of patients}
    sha256                      of folds.csv
    """

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
    """Assign the patients of a cohort to folds.

    Reads   cohort/{patients,slides,expression}.parquet; features/slides.csv (None: no patient is excluded for missing
            features)
    Writes  out (folds.csv) and its description (folds.json: hash, balance, excluded patients)
    Raises
        DataError when the cohort cannot fill the folds, or data of a test patient are in a training part.
        UsageError when a setting that the scheme needs is missing.
    """
    from mcti.cohort import folds as cohort_folds
    from mcti.cohort import leakage, tables
    from mcti.cohort.expression_blocks import ExpressionBlocks

    with storage.local_copy(cohort) as folder:
        patients = tables.read_patients(folder)
        excluded = _without_features(patients, features) if params.missing_modality == "drop" else []
        included = patients[~patients["patient_id"].isin(excluded)].reset_index(drop=True)
        folds = cohort_folds.assign_folds(included, params)
        blocks = ExpressionBlocks(folder, leakage.PASSES, progress)
        leakage.check(folds, folder, blocks)
        blocks.close()
    result = _result(folds, included, len(excluded), params)
    description = {**result.model_dump(mode="json"), "excluded": dict.fromkeys(excluded, NO_FEATURES)}
    cohort_folds.write_folds(folds, description, Path(out))
    return result


def _without_features(patients: "pd.DataFrame", features: Location | None) -> list[str]:
    """Patients without a slide with features, sorted."""
    if features is None:
        return []
    from mcti.cohort.reading import read_table

    table = read_table(storage.join(features, "slides.csv"))
    table.require("patient_id", "status")
    with_features = set(table.frame["patient_id"][_has_tiles(table.frame)])
    without = sorted(set(patients["patient_id"]) - with_features)
    if len(without) == len(patients):
        raise DataError("no patient of the cohort has features", table.where, "extract the slides of this cohort")
    return without


def _has_tiles(slides: "pd.DataFrame") -> "pd.Series[bool]":
    """Which slides have features: status OK, and at least one tile where the table counts the tiles."""
    import pandas as pd

    usable = slides["status"] == "OK"
    if "tiles" in slides:
        usable &= pd.to_numeric(slides["tiles"], errors="coerce") != 0
    return usable


def _result(folds: "Folds", patients: "pd.DataFrame", excluded: int, params: SplitParams) -> SplitResult:
    event = dict(zip(patients["patient_id"], patients["event"], strict=True))
    tests = [folds.test_patients(number) for number in folds.numbers]
    events = [sum(int(event[patient_id]) for patient_id in part) for part in tests]
    warnings = [
        f"fold {k}: {count} events in the test part" for k, count in enumerate(events) if count < params.min_test_events
    ]
    untested = len(patients) - len(set().union(*tests))
    if untested:
        warnings.append(f"{untested} patients are in the test part of no fold")
    return SplitResult(
        scheme=params.scheme,
        patients=len(patients),
        folds=len(tests),
        test_patients=tuple(map(len, tests)),
        test_events=tuple(events),
        excluded=dict(Counter([NO_FEATURES] * excluded)),
        sha256=folds.digest(),
        warnings=tuple(warnings),
    )
