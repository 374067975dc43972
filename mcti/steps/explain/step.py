"""explain: the contributions of modalities, tokens, genes and tiles to the risk of single patients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

from mcti import storage
from mcti.cohort import tables
from mcti.dataset import new_patients as new_patient_folder
from mcti.dataset.bags import Dataset
from mcti.dataset.loading import load_dataset
from mcti.errors import DataError, UsageError, did_you_mean
from mcti.explanation import gene_sets as gene_set_files
from mcti.params import ExplainParams, ExtractParams
from mcti.progress import Progress
from mcti.registry import ensemble_files, models
from mcti.registry.pipeline_run import tracked
from mcti.steps.explain.case import explain_patient
from mcti.steps.explain.files import ExplanationFiles
from mcti.steps.extract import extract
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location


class ExplainResult(StepResult):
    """Number of patients, and the largest completeness gap: in units of risk, and as a share of risk minus baseline."""

    patients: int
    steps: int
    largest_gap: float
    largest_gap_share: float
    gene_sets: int
    slides_without_coordinates: int
    model_digest: str


@dataclass(frozen=True)
class _Source:
    """The patients to explain, and the name and notice of their cohort for the pages."""

    data: Dataset
    name: str
    notice: str


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
    category_values: Mapping[str, new_patient_folder.Replaced] = MappingProxyType({}),
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
    with TemporaryDirectory(prefix="mcti-explain-") as scratch:
        ensemble = ensemble_files.load(models.fetch(model, Path(scratch, "model")))
        sets = {} if gene_sets is None else gene_set_files.read_gmt(gene_sets, ensemble.genes)
        if new_patients is not None:
            features = new_patient_folder.feature_folder(
                Path(new_patients),
                Path(scratch, "features"),
                lambda slides, out: extract(slides, extraction, out, progress=progress),
            )
            cells = {name: category_values.get(name, {}) for name in ensemble.levels}
            source = _read_new_patients(Path(new_patients), features, patient_ids, age_values, cells)
        else:
            source = _read_cohort(str(cohort), features, patient_ids)
        ensemble.check_features(source.data.provenance, str(features))
        bags, gaps = source.data.bags, []
        with storage.replacing(out) as draft:
            files = ExplanationFiles(draft, ensemble.genes, sets, params.group_genes, source.name, source.notice)
            for done, patient in enumerate(sorted(bags), start=1):
                explained = explain_patient(ensemble, bags[patient], source.data.genes, params)
                files.add(explained)
                gaps.append((abs(explained.numbers["gap"]), explained.gap_share))
                progress(done, len(bags), "patients")
            files.close()
            return ExplainResult(
                patients=len(gaps),
                steps=params.steps,
                largest_gap=max(gap for gap, _ in gaps),
                largest_gap_share=max(share for _, share in gaps),
                gene_sets=len(sets),
                slides_without_coordinates=files.slides_without_coordinates,
                model_digest=ensemble.digest,
            ).save(draft)


def _read_cohort(cohort: Location, features: Location | None, patient_ids: Sequence[str]) -> _Source:
    info = tables.read_info(cohort)
    return _Source(load_dataset(cohort, features, patients=patient_ids), info.name, info.notice)


def _read_new_patients(
    folder: Path,
    features: Location | None,
    patient_ids: Sequence[str],
    age_values: Mapping[str, float],
    category_values: Mapping[str, new_patient_folder.Replaced],
) -> _Source:
    known = new_patient_folder.patient_ids(folder)
    for patient in patient_ids:
        if patient not in known:
            raise DataError(f"patient {patient!r} does not exist", str(folder), did_you_mean(patient, known))
    table = new_patient_folder.NewPatientTables.read(folder, features, age_values, category_values)
    return _Source(table.load(sorted(patient_ids) or known), folder.name, "")
