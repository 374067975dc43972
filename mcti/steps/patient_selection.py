"""The patients to predict or to explain, as the arguments of both steps name them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcti.dataset import new_patients as new_patient_folder
from mcti.params import ExtractParams
from mcti.progress import Progress
from mcti.steps.extract import extract
from mcti.storage import Location


@dataclass(frozen=True)
class Selection:
    """Patients of a cohort with its features, or of a folder of new patients; the other one is None."""

    cohort: Location | None
    features: Location | None
    new_patients: Location | None
    patient_ids: Sequence[str]
    extraction: ExtractParams
    age_values: Mapping[str, float]
    category_values: Mapping[str, new_patient_folder.Replaced]

    def feature_folder(self, scratch: Path, progress: Progress) -> Location | None:
        """Where the features are; they are extracted to `scratch` where a folder of slides has none."""
        if self.new_patients is None:
            return self.features
        return new_patient_folder.feature_folder(
            Path(self.new_patients),
            scratch,
            lambda slides, out: extract(slides, self.extraction, out, progress=progress),
        )
