"""Cohorts, predictions, evaluations and explanations as objects, for notebooks: a thin layer over the steps.

Each function calls the step of the same name (docs/python-api.md) and returns what it wrote as tables and matplotlib
figures.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcti import storage
from mcti.params import EvaluateParams, ExplainParams, PredictParams
from mcti.storage import Location

if TYPE_CHECKING:
    import pandas as pd

    from mcti.cohort.tables import Cohort
    from mcti.evaluation.outcomes import Outcomes
    from mcti.evaluation.predictions import Predictions
    from mcti.steps.evaluate.step import EvaluateResult


@dataclass(frozen=True)
class Evaluation:
    """An evaluation: its folder (report.html), metrics.json, and the table of out-of-fold predictions.

    predictions     patient_id, fold, risk (higher: earlier event), S_<months>, time_months, event; one row per test row
    """

    folder: Location
    metrics: dict[str, Any]
    predictions: "pd.DataFrame"

    @classmethod
    def read(cls, folder: Location) -> "Evaluation":
        """The evaluation in an output folder of `evaluate`, local or s3://.

        Raises DataError when a file is missing.
        """
        from mcti.registry import evidence

        metrics = storage.read_json(storage.join(folder, "metrics.json"))
        with storage.local_copy(storage.join(folder, "predictions.csv")) as path:
            return cls(folder, metrics, evidence.read_predictions(path))

    @property
    def result(self) -> "EvaluateResult":
        """The main numbers: C-index with its interval, difference to the primary baseline, counts."""
        from mcti.steps.evaluate.step import EvaluateResult

        return EvaluateResult.model_validate(storage.read_json(storage.join(self.folder, "result.json")))

    def kaplan_meier(self, risk_groups: int = 2) -> Any:
        """A matplotlib figure: Kaplan-Meier curve of each of 2 to 4 risk groups, in months, with numbers at risk."""
        from mcti.evaluation import figures
        from mcti.evaluation.risk_groups import form_groups
        from mcti.steps.evaluate.report_files import FOLLOW_UP_SHOWN

        outcomes, predicted = self._scored()
        groups = form_groups(outcomes, predicted.risk, risk_groups)
        horizon = float(self.predictions["time_months"].quantile(FOLLOW_UP_SHOWN))
        return figures.kaplan_meier(groups, horizon).drawing

    def calibration(self) -> Any:
        """A matplotlib figure: observed by predicted event probability at each horizon, in fifths of the patients."""
        from mcti.evaluation import calibration, figures

        outcomes, predicted = self._scored()
        months = self._horizons()
        points = {
            t: calibration.calibration_groups(outcomes, predicted.survival[:, k], t) for k, t in enumerate(months)
        }
        return figures.calibration(points).drawing

    def c_index(self) -> Any:
        """A matplotlib figure: C-index of every model with its interval, and of each fold."""
        from mcti.evaluation import figures
        from mcti.evaluation.scores import as_interval

        intervals = {name: as_interval(numbers["c_index"]) for name, numbers in self.metrics.items()}
        undefined = float("nan")
        folds = {
            name: [undefined if fold["c_index"] is None else fold["c_index"] for fold in numbers["folds"]]
            for name, numbers in self.metrics.items()
        }
        return figures.forest({name: (one.value, one.low, one.high) for name, one in intervals.items()}, folds).drawing

    def _horizons(self) -> list[float]:
        return sorted(float(str(name)[2:]) for name in self.predictions if str(name).startswith("S_"))

    def _scored(self) -> "tuple[Outcomes, Predictions]":
        """The test parts of the folds with the predictions of their rows."""
        from mcti.evaluation.predictions import Predictions, survival_column
        from mcti.steps.test.development import Development

        development = Development(predictions=self.predictions)
        rows = development.rows()
        survival = rows[[survival_column(months) for months in self._horizons()]]
        return development.outcomes(), Predictions(rows["risk"].to_numpy(), survival.to_numpy())


@dataclass(frozen=True)
class Explanation:
    """Contributions to the risk of single patients; the columns are those of the files (docs/explain.md).

    contributions   of the modalities, one row per patient and model;  tokens  of each token
    genes           one row per patient, model and gene;  tiles  {slide_id: x, y (level-0 pixels), score, cluster}
    """

    contributions: "pd.DataFrame"
    tokens: "pd.DataFrame"
    genes: "pd.DataFrame"
    tiles: "dict[str, pd.DataFrame]"


def load_cohort(folder: Location) -> "Cohort":
    """The tables of a cohort that `ingest` wrote: patients, expression, slides, and their description.

    Raises DataError when a file is missing, or `ingest` did not write it.
    """
    from mcti.cohort import tables

    patients, slides = tables.read_patients(folder), tables.read_slides(folder)
    return tables.Cohort(patients, tables.read_expression(folder), slides, tables.read_info(folder))


def predict(
    model: str, cohort: Location | None, features: Location | None, params: PredictParams | None = None, **options: Any
) -> "pd.DataFrame":
    """Risk and survival of patients as a table, one row per patient (the columns of docs/serving.md).

    options     as of `mcti.steps.predict.step.predict`, such as new_patients and patient_ids

    Raises as the step does.
    """
    from mcti.registry import evidence
    from mcti.steps.predict.step import predict as step

    with tempfile.TemporaryDirectory(prefix="mcti-api-") as scratch:
        out = Path(scratch, "predictions.csv")
        step(model, cohort, features, params or PredictParams(), out, **options)
        return evidence.read_predictions(out)


def evaluate(
    cohort: Location,
    features: Location | None,
    folds: Location,
    models: Location,
    params: EvaluateParams,
    out: Path,
    **options: Any,
) -> Evaluation:
    """Score the out-of-fold risks of trained models; the report is written to `out`.

    Arguments, options and errors as of `mcti.steps.evaluate.step.evaluate`.
    """
    from mcti.steps.evaluate.step import evaluate as step

    step(cohort, features, folds, models, params, out, **options)
    return Evaluation.read(out)


def explain(
    model: str,
    cohort: Location | None,
    features: Location | None,
    params: ExplainParams | None = None,
    *,
    patient_ids: Sequence[str] = (),
    **options: Any,
) -> Explanation:
    """The contributions of modalities, tokens, genes and tiles to the risk of patients, as tables.

    Arguments, options and errors as of `mcti.steps.explain.step.explain`, which also writes a page per patient.
    """
    import pandas as pd

    from mcti.steps.explain.step import explain as step

    with tempfile.TemporaryDirectory(prefix="mcti-api-") as scratch:
        out = Path(scratch, "explanation")
        step(model, cohort, features, params or ExplainParams(), out, patient_ids=patient_ids, **options)
        contributions, tokens = (pd.read_csv(out / f"{name}.csv", dtype={"patient_id": str}) for name in _TABLES)
        tiles = {path.stem: pd.read_csv(path) for path in sorted((out / "tiles").glob("*.csv"))}
        return Explanation(contributions, tokens, pd.read_parquet(out / "genes.parquet"), tiles)


_TABLES = ("contributions", "tokens")


def read_anndata(file: Location) -> Any:
    """The features of one slide (a file of `extract` or of `features import`) as an AnnData object.

    obs: tiles;  X: features (N, D);  obsm["spatial"]: top-left corners (N, 2) in level-0 pixels, as in wsidata

    Raises
        DataError: the file is missing or broken.
        OperationalError: anndata is not installed.
    """
    from mcti.slides import exchange
    from mcti.slides.feature_sets import anndata_files

    return anndata_files.to_anndata(exchange.from_store(file))
