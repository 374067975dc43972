"""predict: risk and survival of patients, with a registered model or with the folds in a folder."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from mcti.errors import UsageError
from mcti.params import ExtractParams, PredictParams, TrustParams
from mcti.progress import Progress
from mcti.registry.pipeline_run import tracked
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location

if TYPE_CHECKING:  # they import torch and pandas
    import pandas as pd

    from mcti.dataset.bags import PatientBag
    from mcti.dataset.new_patients import Replaced


class PredictResult(StepResult):
    """Counts of patients.

    patients             predicted;  refused  not predicted, since their data do not fit the model
    known                in the development cohort, with their out-of-fold risk
    in_sources           in a source or the prior of the model, whose outcome was used in the training of all members
    out_of_distribution  flagged as different from the training patients;  incomplete  without slides or genes
    calculation          version of the arithmetic (mcti/registry/ensemble.py)
    """

    patients: int
    known: int
    in_sources: int
    out_of_distribution: int
    incomplete: int
    refused: int
    model_digest: str
    calculation: int


@dataclass(frozen=True)
class PatientPages:
    """Where the patient pages are written. explanation: output folder of `mcti explain`; pdf: also as PDF."""

    folder: Path
    explanation: Location | None = None
    pdf: bool = False


@logged
@tracked
def predict(  # noqa: PLR0913  (a step: inputs, params, out, options)
    model: str,
    cohort: Location | None,
    features: Location | None,
    params: PredictParams,
    out: Path,
    *,
    new_patients: Location | None = None,
    patient_ids: Sequence[str] = (),
    extraction: ExtractParams = ExtractParams(),  # noqa: B008  (frozen)
    age_values: Mapping[str, float] = MappingProxyType({}),
    category_values: "Mapping[str, Replaced]" = MappingProxyType({}),
    pages: PatientPages | None = None,
    trust: TrustParams | None = None,
    progress: Progress = lambda *_: None,
) -> PredictResult:
    """Predict patients one at a time on one thread, in several processes: the same bits in a batch and alone.

    trust   what the model must prove; None: the policy in the environment of a pipeline's task

    Reads   the model (models:/NAME@ALIAS, a bundle, or a folder of folds); either
            cohort/{patients,expression,slides}.parquet with features/<slide_id>.h5 (None: no slides are used), or the
            folder `new_patients` of patients without an outcome (mcti/dataset/new_patients.py), whose slides are
            extracted with the settings `extraction` where the folder has no features; age_values: years of its masked
            ages (ingest.age_values); category_values: levels that replace cells of its categorical covariates
            (ingest.category_values); patient_ids: only these patients, empty: all of them;
            pages.explanation: the output folder of `mcti explain`
    Writes  out (.csv, or .json for any other reader), sorted by patient: the columns of docs/serving.md;
            <out>.refused.csv (.json) with patient_id and reason of each patient who cannot be predicted;
            pages.folder/<patient_id>.html per patient, with `pages.pdf` also .pdf; with `--redact` hashes replace the
            ids, also in file names

    Raises
    UsageError unless exactly one of `cohort` and `new_patients` is set.
    DataError when no patient can be predicted (nothing is written), or a larger share is refused than
    params.max_refused_share (all is written); the message names the first patient and what does not fit the model.
    Untrusted when the model does not satisfy `trust`.
    OperationalError when the registry does not respond.
    """
    if (cohort is None) == (new_patients is None):
        raise UsageError("exactly one source of patients is needed", "--cohort, --new-patients", "set one of the two")
    from mcti.steps.patient_selection import Selection
    from mcti.steps.predict.batch import run

    patients = Selection(cohort, features, new_patients, patient_ids, extraction, age_values, category_values)
    return run(model, patients, params, out, pages, trust, progress)


def frame(cohort: Location, features: Location | None) -> "pd.DataFrame":
    """The patients of a cohort as the input of the served model (`mlflow.pyfunc.load_model(uri).predict(frame)`).

    One row per patient; columns patient_id, genes ({name: value}), features (N patches of D numbers, as lists) and
    covariates ({name: value}), which a model without covariates ignores.

    Raises DataError when the tables and the features do not fit together.
    """
    import pandas as pd

    from mcti.dataset.loading import load_dataset

    data = load_dataset(cohort, features)
    rows = [
        {
            "patient_id": patient,
            "genes": expression_by_gene(bag, data.genes),
            "features": None if bag.patches is None else bag.patches.tolist(),
            "covariates": {name: math.nan if value is None else value for name, value in bag.clinical.items()},
        }
        for patient, bag in sorted(data.bags.items())
    ]
    return pd.DataFrame(rows)


def expression_by_gene(bag: "PatientBag", genes: tuple[str, ...]) -> dict[str, float] | None:
    """The expression (G,) of a patient as {gene: value}, NaN where not measured; None: no expression."""
    return None if bag.genes is None else dict(zip(genes, bag.genes.tolist(), strict=True))
