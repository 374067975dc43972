"""New patients before any outcome: a folder of tables and slides as the dataset that prediction reads."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mcti import redaction
from mcti.cohort import labels
from mcti.cohort.raw_tables import Matrix, RawTable, as_matrix, key_position
from mcti.cohort.reading import read_matrix, read_table
from mcti.dataset.bags import Dataset, PatientBag
from mcti.dataset.expression_file import ExpressionFile
from mcti.dataset.loading import check_single_encoder, patient_files
from mcti.dataset.slide_bags import load_bag
from mcti.errors import DataError, did_you_mean
from mcti.slides import manifest
from mcti.storage import Location, exists, join

Replaced = Mapping[str, str | None]
"""Cells of a categorical covariate and the levels that replace them; None: missing."""
KEY, AGE = "patient_id", "age"
"""Columns of the tables of new patients."""


def slide_list(folder: Path) -> Path | None:
    """The list of slides of a folder: slides.csv, slides.parquet or the folder slides; None: there is none.

    Raises DataError when the folder does not exist, or has a list in another format.
    """
    return _find_file(folder, "slides.csv", "slides.parquet", "slides")


def feature_folder(folder: Path, scratch: Path, extract: Callable[[Path, Path], object]) -> Path | None:
    """The feature files of the folder's slides: its own folder `features`, or extracted to `scratch`; None: no slides.

    extract  writes the features of the slides on a list (first argument) to a folder (second argument)
    """
    if (folder / "features").is_dir():
        return folder / "features"
    slides = slide_list(folder)
    if slides is None:
        return None
    extract(slides, scratch)
    return scratch


def slides_by_patient(folder: Path) -> dict[str, list[str]]:
    """The slide ids of each patient, sorted."""
    by_patient: dict[str, list[str]] = {}
    for slide, patient in sorted(_patient_by_slide(folder).items()):
        by_patient.setdefault(patient, []).append(slide)
    return by_patient


def slides_with_features(folder: Path, features: Location | None, patients: Iterable[str] = ()) -> dict[str, list[str]]:
    """As `slides_by_patient`, of the slides that have features; a patient without any is left out.

    patients  who may have no slides in the list, but an embedding features/<patient_id>.h5
    """
    if features is None:
        return {}
    slides = slides_by_patient(folder)
    by_patient = {
        patient: [slide for slide in names if exists(join(features, f"{slide}.h5"))]
        for patient, names in slides.items()
    }
    by_patient = {patient: names for patient, names in by_patient.items() if names}
    others = {*patients, *slides} - set(by_patient)
    return by_patient | patient_files(features, sorted(others))


def patient_ids(folder: Path) -> list[str]:
    """All patients who have genes, a slide or a row of covariates, sorted.

    Raises DataError when there is no patient, or an id cannot be part of a file name.
    """
    ids = set(_patient_by_slide(folder).values())
    genes, clinical = _expression(folder), _clinical_text(folder)
    ids |= set() if genes is None else set(genes.ids)
    ids |= set() if clinical is None else set(clinical.frame[KEY])
    if not ids:
        hint = "put expression.csv (patient_id and genes), slides.csv or a folder slides there"
        raise DataError("there is no patient", str(folder), hint)
    redaction.register_ids(ids)
    for patient in sorted(ids):
        if not patient.strip(".") or {"/", "\\", "\0"} & set(patient):  # it becomes the name of a report file
            raise DataError(f"{patient!r} cannot name a patient", str(folder), "leave slashes out of patient_id")
    return sorted(ids)


@dataclass(frozen=True)
class NewPatientTables:
    """The tables of a folder, read once; `load` reads the features of some of its patients.

    genes, covariates  rows by patient, with the columns gene_names and covariate_names
    categories         levels by patient, by the name of the categorical covariate
    slides             slide ids with features, by patient
    """

    features: Location | None
    genes: Mapping[str, NDArray[np.float32]]
    gene_names: tuple[str, ...]
    covariates: Mapping[str, NDArray[np.float32]]
    covariate_names: tuple[str, ...]
    slides: Mapping[str, Sequence[str]]
    categories: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        folder: Path,
        features: Location | None,
        age_values: Mapping[str, float] = MappingProxyType({}),
        category_values: Mapping[str, Replaced] = MappingProxyType({}),
        expression_file: Path | None = None,
    ) -> "NewPatientTables":
        """Read the tables of a folder.

        age_values       years of masked ages such as `>89` (ingest.age_values)
        category_values  the categorical covariates of the model by name, each with the cells to replace and their
                         levels (ingest.category_values)
        expression_file  of `write_expression`, which is mapped in place of reading the table

        Reads   folder/expression.csv|parquet (patient_id, one column per gene), clinical.csv|parquet (patient_id,
                covariates: numbers, and text for the categorical ones), slides.csv|parquet (patient_id, slide_id, path)
                or slides/ (each slide is named after its patient); each of them is optional

        Raises DataError when a table is malformed, naming the file and the row
        """
        numbers, levels = _clinical(folder, age_values, category_values)
        table = _expression(folder) if expression_file is None else ExpressionFile.read(expression_file)
        genes, covariates = _rows_by_patient(table), _rows_by_patient(numbers)
        patients = {*genes[0], *covariates[0]}
        return cls(features, *genes, *covariates, slides_with_features(folder, features, patients), levels)

    def load(self, patients: Sequence[str]) -> Dataset:
        """These patients with features/<slide_id>.h5 of their slides; time, event and subtype are placeholders.

        Raises DataError when a file is not a feature file, or the features come from two encoders.
        """
        bags: dict[str, PatientBag] = {}
        provenance: list[Mapping[str, Any]] = []
        for patient in patients:
            slides = load_bag(self.features, self.slides.get(patient, ()))
            provenance += slides.provenance
            bags[patient] = PatientBag(
                patient_id=patient,
                patches=slides.patches,
                genes=self._genes(patient),
                time_months=0.0,
                event=False,
                subtype=0,
                covariates=self._covariates(patient),
                quality=slides.quality,
                slides=slides.tiles,
                categories={name: column.get(patient) for name, column in self.categories.items()},
            )
        return Dataset(bags, self.gene_names, (), check_single_encoder(provenance, self.features))

    def _genes(self, patient: str) -> torch.Tensor | None:
        row = self.genes.get(patient)
        return None if row is None else torch.from_numpy(np.array(row, dtype=np.float32))

    def _covariates(self, patient: str) -> dict[str, float | None]:
        missing = np.full(len(self.covariate_names), np.nan)
        values = zip(self.covariate_names, self.covariates.get(patient, missing), strict=True)
        return {name: None if np.isnan(value) else float(value) for name, value in values}


def write_expression(folder: Path, out: Path) -> bool:
    """Write the expression of the patients to a new folder `out`, for `NewPatientTables.read`; False: there is none.

    Raises DataError when the table is malformed
    """
    table = _expression(folder)
    if table is not None:
        ExpressionFile.write(out, table.genes, [(table.ids, table.values)])
    return table is not None


def _rows_by_patient(table: Matrix | ExpressionFile | None) -> tuple[dict[str, NDArray[np.float32]], tuple[str, ...]]:
    """The rows of a table by patient, and the names of its columns."""
    return ({}, ()) if table is None else (dict(zip(table.ids, table.values, strict=True)), tuple(table.genes))


def _expression(folder: Path) -> Matrix | None:
    return _read_matrix(_find_file(folder, "expression.csv", "expression.parquet"))


def _read_matrix(path: Path | None) -> Matrix | None:
    if path is None:
        return None
    table = read_matrix(path, KEY)
    _check_unique(table.ids, path)
    return table


def _clinical(
    folder: Path, age_values: Mapping[str, float], category_values: Mapping[str, Replaced]
) -> tuple[Matrix | None, dict[str, dict[str, str | None]]]:
    """The numeric covariates, and the categorical ones by patient, by name."""
    table = _clinical_text(folder)
    if table is None:
        return None, {}
    if AGE in table.frame.columns:
        years = labels.ages(table, AGE, age_values)
        table = table.replace_column(AGE, years.map(lambda age: "" if np.isnan(age) else repr(float(age))))
    levels = _levels(table, category_values)
    numeric = replace(table, frame=table.frame.drop(columns=[name for name in category_values if name in table.frame]))
    return as_matrix(numeric, KEY), levels


def _levels(table: RawTable, category_values: Mapping[str, Replaced]) -> dict[str, dict[str, str | None]]:
    present = {name: replaced for name, replaced in category_values.items() if name in table.frame}
    ids = table.frame[KEY].tolist()
    return {
        name: dict(zip(ids, labels.levels(table, name, replaced), strict=True)) for name, replaced in present.items()
    }


def _clinical_text(folder: Path) -> RawTable | None:
    path = _find_file(folder, "clinical.csv", "clinical.parquet")
    if path is None:
        return None
    table = read_table(path)
    key_position(list(table.frame.columns), KEY, table.where)
    _check_unique(table.frame[KEY].tolist(), path)
    return table


def _check_unique(ids: Sequence[str], path: Path) -> None:
    if len(set(ids)) < len(ids):
        duplicate = min(name for name, rows in Counter(ids).items() if rows > 1)
        raise DataError(f"patient {duplicate!r} has two rows", str(path), "keep one row per patient")


def _patient_by_slide(folder: Path) -> dict[str, str]:
    slides = slide_list(folder)
    if slides is None:
        return {}
    if slides.is_dir():
        return {row.slide_id: row.patient_id for row in manifest.read(slides)}
    return manifest.read_patient_ids(slides)


def _find_file(folder: Path, *names: str) -> Path | None:
    """The first of these names in the folder; None: none is there.

    Raises DataError when the folder does not exist, or has such a table in a format that is not read.
    """
    if not folder.is_dir():
        raise DataError("no such folder", str(folder), "give the folder of the new patients")
    present = {path.name for path in folder.iterdir()}
    for name in names:
        if name in present:
            return folder / name
    stem = names[0].split(".")[0]
    unsupported = [name for name in present if name.split(".")[0].casefold() == stem and name not in names]
    if unsupported:
        raise DataError(f"{unsupported[0]!r} is not read", str(folder), did_you_mean(unsupported[0], names))
    return None
