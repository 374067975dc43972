"""evaluate: the out-of-fold risks of the trained models against the baselines, on the same folds."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from mcti.params import EvaluateParams
from mcti.progress import Progress
from mcti.registry.pipeline_run import tracked
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location


class EvaluateResult(StepResult):
    """The main numbers of an evaluation; all numbers are in metrics.json.

    competing_events    patients with a competing event; None: the cohort has none
    late_entries        patients under observation only from a time after the origin; None: the cohort has none
    """

    patients: int
    events: int
    folds: int
    c_index: float | None
    c_index_low: float | None
    c_index_high: float | None
    primary_baseline: str
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    models: dict[str, dict[str, float | None]]
    skipped: dict[str, str]
    excluded: dict[str, dict[str, int]]
    median_follow_up: float | None
    warnings: tuple[str, ...]
    notice: str
    cohort_md5: str
    competing_events: int | None = Field(None, exclude_if=lambda count: count is None)
    late_entries: int | None = Field(None, exclude_if=lambda count: count is None)


@logged
@tracked
def evaluate(  # noqa: PLR0913  (a step: inputs, params, out, options)
    cohort: Location,
    features: Location | None,
    folds: Location,
    models: Location,
    params: EvaluateParams,
    out: Path,
    *,
    comparators: Sequence[Location] = (),
    slides: Location | None = None,
    progress: Progress | None = None,
) -> EvaluateResult:
    """Score the out-of-fold risks of MCTI, of the baselines and of further trained models.

    Reads   cohort/{patients,expression}.parquet and cohort.json, features (may be None), folds (patient_id, fold,
            role), models/fold_<k>/predictions.csv and the same of each folder in `comparators`; slides, a manifest or
            folder for images of the critical patches (None: the report lists their positions)
    Writes  out/{metrics.json, summary.json, predictions.csv, groups.csv, baselines.csv, report.html, result.json,
            excluded.csv, baseline_models.safetensors, case_mix.json, inputs.json, figures/, plots/}, with competing
            events also cumulative_incidence.csv: reproducibly, or nothing
    Raises  DataError when a test patient has no prediction or more than one, and when a model was trained on its test
            patients
            UsageError when a baseline does not exist, and when two models have one name
    """
    from mcti.steps.evaluate import evaluation

    return evaluation.run(cohort, features, folds, models, params, out, comparators, slides, progress)
