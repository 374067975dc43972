"""explain: the contributions of modalities, tokens, genes and tiles to the risk of single patients."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from mcti.errors import UsageError
from mcti.params import ExplainParams, ExtractParams
from mcti.progress import Progress
from mcti.registry.pipeline_run import tracked
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location

if TYPE_CHECKING:  # it imports torch
    from mcti.dataset.new_patients import Replaced


class ExplainResult(StepResult):
    """Number of patients, and the largest completeness gap: in units of risk, and as a share of risk minus baseline."""

    patients: int
    steps: int
    largest_gap: float
    largest_gap_share: float
    gene_sets: int
    slides_without_coordinates: int
    model_digest: str


@logged
@tracked
def explain(  # noqa: PLR0913  (a step: inputs, params, out, options)
    model: str,
    cohort: Location | None,
    features: Location | None,
    params: ExplainParams,
    out: Path,
    *,
    new_patients: Location | None = None,
    patient_ids: Sequence[str] = (),
    extraction: ExtractParams = ExtractParams(),  # noqa: B008  (frozen)
    age_values: Mapping[str, float] = MappingProxyType({}),
    category_values: "Mapping[str, Replaced]" = MappingProxyType({}),
    gene_sets: Location | None = None,
    progress: Progress = lambda *_: None,
) -> ExplainResult:
    """Explain the risk of patients by the same models that `predict` uses for them.

    Reads   the model (models:/NAME@ALIAS, or a folder of folds); either cohort with features/<slide_id>.h5 (None: no
            slides are used), or the folder `new_patients` of patients without an outcome, as `predict` reads it
            (age_values: years of its masked ages; category_values: levels that replace cells of its categorical
            covariates); patient_ids: only these patients, empty: all of them;
            gene_sets: a GMT file
    Writes  out/{contributions,tokens,gene_groups,gene_sets,plans}.csv, genes.parquet, tiles/<slide_id>.csv (x, y,
            score, cluster, as `mcti heatmap` reads it), patients/<patient_id>.html, result.json: all or nothing; with
            `--redact` hashes replace the ids, also in the names of slides
    Raises  DataError when genes or slides of a patient do not fit the model, a patient does not exist, or the GMT file
            has no usable set
            UsageError unless exactly one of `cohort` and `new_patients` is set
    """
    if (cohort is None) == (new_patients is None):
        raise UsageError("exactly one source of patients is needed", "--cohort, --new-patients", "set one of the two")
    from mcti.steps.explain.explanations import run
    from mcti.steps.patient_selection import Selection

    patients = Selection(cohort, features, new_patients, patient_ids, extraction, age_values, category_values)
    return run(model, patients, params, out, gene_sets, progress)
