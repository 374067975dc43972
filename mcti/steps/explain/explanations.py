"""The work of the step `explain` (mcti/steps/explain/step.py), which imports this module when it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mcti import storage
from mcti.cohort import tables
from mcti.dataset import new_patients as new_patient_folder
from mcti.dataset.bags import Dataset
from mcti.dataset.loading import load_dataset
from mcti.errors import DataError, did_you_mean
from mcti.explanation import gene_sets as gene_set_files
from mcti.params import ExplainParams
from mcti.progress import Progress
from mcti.registry import ensemble_files, models
from mcti.registry.ensemble import Ensemble
from mcti.steps.explain.case import explain_patient
from mcti.steps.explain.files import ExplanationFiles
from mcti.steps.explain.step import ExplainResult
from mcti.steps.patient_selection import Selection
from mcti.storage import Location

CAUSE_SPECIFIC = (
    "The risk is that of the event alone: in the training a patient with a competing event was censored. It does not "
    "order patients by the probability of the event, F(t) of mcti predict."
)
"""On the pages of a model of a cohort with competing events."""


@dataclass(frozen=True)
class _Source:
    """The patients to explain, and the name and notice of their cohort for the pages."""

    data: Dataset
    name: str
    notice: str


def run(
    model: str, patients: Selection, params: ExplainParams, out: Path, gene_sets: Location | None, progress: Progress
) -> ExplainResult:
    """Explain the selected patients; files, result and errors of `explain`."""
    with TemporaryDirectory(prefix="mcti-explain-") as scratch:
        ensemble = ensemble_files.load(models.fetch(model, Path(scratch, "model")))
        sets = {} if gene_sets is None else gene_set_files.read_gmt(gene_sets, ensemble.genes)
        source = _read(patients, ensemble, Path(scratch, "features"), progress)
        ensemble.check_features(source.data.provenance, str(patients.features))
        bags, gaps = source.data.bags, []
        with storage.replacing(out) as draft:
            notice = " ".join(filter(None, [source.notice, CAUSE_SPECIFIC if ensemble.competing else ""]))
            files = ExplanationFiles(draft, ensemble.genes, sets, params.group_genes, source.name, notice)
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


def _read(patients: Selection, ensemble: Ensemble, scratch: Path, progress: Progress) -> _Source:
    features = patients.feature_folder(scratch, progress)
    if patients.new_patients is None:
        return _read_cohort(str(patients.cohort), features, patients.patient_ids)
    cells = {name: patients.category_values.get(name, {}) for name in ensemble.levels}
    return _read_new_patients(Path(patients.new_patients), features, patients.patient_ids, patients.age_values, cells)


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
