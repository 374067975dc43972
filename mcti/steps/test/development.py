"""The evaluation of a model at its development: figures, out-of-fold predictions, fitted baselines, case mix."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mcti import storage
from mcti.errors import DataError
from mcti.evaluation import case_mix, linear_predictor
from mcti.evaluation.case_mix import CaseMix
from mcti.evaluation.linear_predictor import StoredBaselines
from mcti.evaluation.outcomes import Outcomes
from mcti.redaction import hashed
from mcti.registry import ensemble_files, evidence, models, tracking
from mcti.storage import Location

if TYPE_CHECKING:
    from mcti.registry.ensemble import Ensemble

_FILES = ("metrics.json", "predictions.csv", linear_predictor.FILE, case_mix.FILE)
_REQUIRED = ("metrics.json", "predictions.csv")


@dataclass(frozen=True)
class Development:
    """What is known of the development; an empty or missing part is unknown.

    metrics      metrics.json;  predictions  out-of-fold, with outcomes: patient_id, fold, risk, S_<months>…
    baselines    as fitted in development;  moments  of the evaluated patients
    name, version  of the registered model, empty for a folder
    """

    metrics: Mapping[str, Any] = field(default_factory=dict)
    predictions: pd.DataFrame = field(default_factory=pd.DataFrame)
    baselines: StoredBaselines | None = None
    moments: CaseMix | None = None
    name: str = ""
    version: str = ""

    @property
    def known(self) -> bool:
        """Whether there is an evaluation."""
        return bool(self.metrics)

    def median_time(self) -> float:
        """Median of time_months of the evaluated patients, in months; NaN: unknown."""
        if "time_months" not in self.predictions:
            return math.nan
        median = float(self.predictions.drop_duplicates("patient_id")["time_months"].median())
        return median if median > 0 else math.nan

    def outcomes(self) -> Outcomes:
        """The tested patients of each fold, with rows in the order of `rows`."""
        patients = self.predictions.drop_duplicates("patient_id")
        tested: dict[int, tuple[list[str], list[str]]] = {
            int(str(fold)): ([], list(part["patient_id"])) for fold, part in self.predictions.groupby("fold", sort=True)
        }
        return Outcomes.from_folds(patients, tested)

    def rows(self) -> pd.DataFrame:
        """The predictions in the order of the test rows of `outcomes`."""
        position = {name: row for row, name in enumerate(self.predictions.drop_duplicates("patient_id")["patient_id"])}
        order = np.lexsort((self.predictions["patient_id"].map(position), self.predictions["fold"].astype(int)))
        return self.predictions.iloc[order]


def read(model: str, evaluation: Location | None, folder: Path, ensemble: "Ensemble", scratch: Path) -> Development:
    """The development of a model: of the registered version, or the folder `evaluation`; unknown without either.

    folder  of the ensemble;  scratch  an empty folder for downloads

    Raises
    DataError when a file is missing or malformed, or the evaluation is of another model.
    OperationalError when the registry does not respond.
    """
    name, version = ("", "")
    if model.startswith("models:/"):
        with tracking.service() as client:
            registered = models.version_at(client, model)
            name, version = str(registered.name), str(registered.version)
            if evaluation is None:
                run = models.run_of(registered)
                stored = set(evidence.names(run))
                for file in _FILES:
                    if file in stored or file in _REQUIRED:
                        evidence.fetch(run, file, scratch)
    if evaluation is None and not name:
        return Development()
    with _local(evaluation, scratch) as reports:
        return _read(reports, folder, ensemble, name, version)


@contextmanager
def _local(evaluation: Location | None, scratch: Path) -> Iterator[Path]:
    if evaluation is None:
        yield _folder_of("metrics.json", scratch)
        return
    with storage.local_copy(evaluation) as reports:
        yield reports


def _folder_of(name: str, scratch: Path) -> Path:
    """The folder below `scratch` into which MLflow downloaded a file."""
    return next(scratch.rglob(name)).parent


def _read(reports: Path, folder: Path, ensemble: "Ensemble", name: str, version: str) -> Development:
    for file in _REQUIRED:
        if not (reports / file).exists():
            raise DataError(f"{file} is missing", str(reports), "run `mcti evaluate` first")
    predictions = evidence.read_predictions(reports / "predictions.csv")
    _check_same_model(predictions, folder, ensemble, reports)
    baselines, moments = reports / linear_predictor.FILE, reports / case_mix.FILE
    return Development(
        metrics=storage.read_json(reports / "metrics.json"),
        predictions=predictions,
        baselines=StoredBaselines.load(baselines) if baselines.exists() else None,
        moments=CaseMix.from_dict(storage.read_json(moments), str(moments)) if moments.exists() else None,
        name=name,
        version=version,
    )


def _check_same_model(predictions: pd.DataFrame, folder: Path, ensemble: "Ensemble", reports: Path) -> None:
    """The evaluated patients must be those of the model; where the folds have predictions, the risks as well."""
    ids = set(predictions["patient_id"])
    if not all(patient in ensemble.assigned or hashed(patient) in ensemble.assigned for patient in ids):
        what = "the evaluation has patients who are not those of the model's folds"
        raise DataError(what, str(reports), "give the evaluation of this model (--evaluation)")
    folds = ensemble_files.fold_folders(folder)
    if all((fold / "predictions.csv").exists() for fold in folds):
        evidence.check_same_risks(folds, reports / "predictions.csv")
