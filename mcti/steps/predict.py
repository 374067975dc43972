"""predict: risk and survival of the patients of a cohort, by a registered model or by the folds of a folder."""

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mcti import storage
from mcti.errors import MctiError
from mcti.registry import ensemble, models
from mcti.steps.gather import gather
from mcti.steps.result import StepResult
from mcti.storage import Location
from mcti.training.bags import PatientBag

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[int, int, str], None]


class PredictResult(StepResult):
    """How many patients; `known` of them belong to the development cohort and got their out-of-fold risk."""

    patients: int
    known: int
    model_digest: str


def predict(
    model: str, cohort: Location, features: Location | None, out: Path, *, progress: Progress = lambda *_: None
) -> PredictResult:
    """Predict every patient of a cohort, one at a time: the same bits in a batch and alone.

    Reads   the model (models:/NAME@ALIAS, or a folder of folds), cohort/{patients,expression,slides}.parquet,
            features/<slide_id>.h5 (None: nobody has slides)
    Writes  out (.csv, or .json for any other reader): patient_id, risk, S_<months>, model; sorted by patient
    Raises  DataError naming the patient whose genes or slides do not fit the model
            EnvironmentTrouble when the registry does not answer
    """
    with tempfile.TemporaryDirectory(prefix="mcti-predict-") as scratch:
        loaded = ensemble.load(models.fetch(model, Path(scratch)))
    data = gather(cohort, features)
    rows = []
    for done, patient in enumerate(sorted(data.bags), start=1):
        rows.append(_one(loaded, data.bags[patient], data.genes))
        progress(done, len(data.bags), "patients predicted")
    _write(rows, out)
    known = sum(row["model"] != ensemble.EVERYBODY for row in rows)
    return PredictResult(patients=len(rows), known=known, model_digest=loaded.digest)


def frame(cohort: Location, features: Location | None) -> "pd.DataFrame":
    """The patients of a cohort as the input of the served model (`mlflow.pyfunc.load_model(uri).predict(frame)`).

    Columns patient_id, genes ({name: value}), features (N patches of D numbers, as lists) and covariates
    ({name: value}), which a model that reads none leaves aside.
    """
    import pandas as pd

    data = gather(cohort, features)
    rows = [
        {
            "patient_id": patient,
            "genes": by_name(bag, data.genes),
            "features": None if bag.patches is None else bag.patches.tolist(),
            "covariates": {name: math.nan if value is None else value for name, value in bag.covariates.items()},
        }
        for patient, bag in sorted(data.bags.items())
    ]
    return pd.DataFrame(rows)


def by_name(bag: PatientBag, genes: tuple[str, ...]) -> dict[str, float] | None:
    """The expression of a patient as {gene: value}, NaN where not measured; None: no expression."""
    return None if bag.genes is None else dict(zip(genes, bag.genes.tolist(), strict=True))


def _one(loaded: ensemble.Ensemble, bag: PatientBag, genes: tuple[str, ...]) -> dict[str, object]:
    try:
        return loaded.predict(bag.patient_id, bag.patches, by_name(bag, genes), covariates=bag.covariates)
    except MctiError as error:
        raise type(error)(error.what, f"{error.where}, patient {bag.patient_id}", error.mend) from error


def _write(rows: list[dict[str, object]], out: Path) -> None:
    if out.suffix == ".json":
        storage.write_json(out, rows)
        return
    import pandas as pd

    storage.write_text(out, pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))
