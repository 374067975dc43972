"""Tables and features of a cohort as the dataset that training and prediction read."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mcti.cohort import left_truncation, tables
from mcti.dataset.bag_store import BagStore
from mcti.dataset.bags import Dataset, PatientBag
from mcti.dataset.expression_file import ExpressionFile
from mcti.dataset.slide_bags import load_bag
from mcti.errors import DataError, did_you_mean
from mcti.storage import Location, exists, join


def load_dataset(
    cohort: Location,
    features: Location | None,
    genes: list[str] | None = None,
    patients: Sequence[str] = (),
    *,
    store: Path | None = None,
) -> Dataset:
    """The patients of a cohort with their genes and the features of all their slides.

    Reads   cohort/{patients,expression,slides}.parquet, features/<slide_id>.h5, or features/<patient_id>.h5 of a
            patient without such a file (None: no patient has slides)
    genes     only these, in this order; None: all of the table
    patients  only these; none: all of the cohort
    store     folder of a BagStore of this cohort, which is mapped in place of reading the feature files
    Covariates are age, is_female and the cohort's own, numeric ones and categories, None where missing.
    A patient none of whose slides has features has no patches; one without a row in the expression has no genes.

    Raises DataError when features are given and no patient has any, when a file is not a feature file, when the
    features come from two encoders, and when a requested patient is not in the cohort
    """
    stored = None if store is None else BagStore(store)
    data = CohortTables.read(cohort, features, genes).load(patients, stored)
    if features is not None and not patients and all(bag.patches is None for bag in data.bags.values()):
        raise DataError("no slide of the cohort has features", str(features), "extract the slides of this cohort")
    return data


@dataclass(frozen=True)
class CohortTables:
    """The tables of a cohort, read once; `load` reads the features of some of its patients.

    patients    sorted by patient_id
    slides      slide ids with features, by patient
    covariates  names of the numeric covariates;  categories  of the categorical ones
    """

    cohort: Location
    features: Location | None
    patients: pd.DataFrame
    expression: pd.DataFrame
    slides: Mapping[str, Sequence[str]]
    covariates: tuple[str, ...]
    categories: tuple[str, ...] = ()

    @classmethod
    def read(
        cls,
        cohort: Location,
        features: Location | None,
        genes: list[str] | None = None,
        expression_file: Path | None = None,
    ) -> "CohortTables":
        """Read the tables; arguments and errors as in `load_dataset`.

        expression_file  of `write_expression`, which is mapped in place of reading the table
        """
        patients = tables.read_patients(cohort).sort_values("patient_id")
        columns = tables.covariate_columns(patients)
        covariates = tuple(name for name, numeric in columns.items() if numeric)
        categories = tuple(name for name, numeric in columns.items() if not numeric)
        if expression_file is None:
            expression = tables.read_expression(cohort, genes)
        else:
            file = ExpressionFile.read(expression_file)
            expression = pd.DataFrame(file.values, index=list(file.ids), columns=list(file.genes), copy=False)
        slides = slides_with_features(cohort, features, patients["patient_id"])
        return cls(cohort, features, patients, expression, slides, covariates, categories)

    def load(self, patients: Sequence[str] = (), store: BagStore | None = None) -> Dataset:
        """These patients (none: all) as a dataset; arguments and errors as in `load_dataset`."""
        bags: dict[str, PatientBag] = {}
        provenance: list[Mapping[str, Any]] = []
        for row in self._rows(patients):
            patient = str(row["patient_id"])
            names = self.slides.get(patient, ())
            slides = load_bag(self.features, names) if store is None else store.bag(patient)
            provenance += slides.provenance
            bags[patient] = PatientBag(
                patient_id=patient,
                patches=slides.patches,
                genes=_genes(self.expression, patient),
                time_months=float(row["time_months"]),
                event=bool(row["event"]),
                subtype=self.classes.index(str(row["subtype"])),
                covariates={name: _number(row[name]) for name in self.covariates},
                quality=slides.quality,
                slides=slides.tiles,
                categories={name: _level(row[name]) for name in self.categories},
                entry_months=float(row.get(left_truncation.COLUMN, 0.0)),
                competing=bool(row["competing"]) if "competing" in row else None,
            )
        encoder = check_single_encoder(provenance, self.features)
        return Dataset(bags, self.genes, self.classes, encoder, self.cohort_identity, self._info.ordered_levels)

    @cached_property
    def cohort_identity(self) -> dict[str, str]:
        """Name, endpoint and expression scale of the cohort, as model.json records them."""
        info = self._info
        return {"name": info.name, "endpoint": info.endpoint, "expression_scale": info.expression_scale}

    @cached_property
    def _info(self) -> tables.CohortInfo:
        return tables.read_info(self.cohort)

    @cached_property
    def genes(self) -> tuple[str, ...]:
        """The columns of the expression, in their order; computed once, since a prediction loads single patients."""
        return tuple(map(str, self.expression.columns))

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The subtypes of the cohort, sorted."""
        return tuple(sorted(str(name) for name in self.patients["subtype"].unique()))

    @cached_property
    def _by_id(self) -> dict[str, dict[str, Any]]:
        rows: list[dict[str, Any]] = self.patients.to_dict("records")  # type: ignore[assignment]
        return {str(row["patient_id"]): row for row in rows}

    def _rows(self, patients: Sequence[str]) -> list[dict[str, Any]]:
        """The rows of these patients, in the order of the table."""
        if not patients:
            return list(self._by_id.values())
        for patient in patients:
            if patient not in self._by_id:
                hint = did_you_mean(patient, sorted(self._by_id))
                raise DataError(f"there is no patient {patient!r}", str(self.cohort), hint)
        return [self._by_id[patient] for patient in sorted(set(patients))]


def write_expression(cohort: Location, folder: Path) -> None:
    """Write the expression of a cohort to a new folder, for `CohortTables.read`; errors as in `load_dataset`."""
    ExpressionFile.write(folder, tables.gene_names(cohort), tables.expression_blocks(cohort))


def check_covariates(cohort: Location, names: Iterable[str]) -> None:
    """Check that each of `names` (train.architecture.covariates) is a covariate of the cohort, numeric or categorical.

    Raises DataError for the first that is absent
    """
    columns = tables.covariate_columns(tables.read_patients(cohort))
    where, leave_out = f"{cohort}, patients.parquet", "or remove it from train.architecture.covariates"
    for name in names:
        if name not in columns:
            hint = did_you_mean(name, list(columns))
            raise DataError(f"the cohort has no covariate {name!r}", where, f"{hint.removesuffix('?')}, {leave_out}")


def slides_with_features(
    cohort: Location, features: Location | None, patients: Iterable[str] | None = None
) -> dict[str, list[str]]:
    """Names of the feature files by patient, sorted: the order in which their rows fill the bag.

    patients  of the cohort; None: read from its table
    The file of a slide is `<slide_id>.h5`. A patient none of whose slides has one is represented by `<patient_id>.h5`,
    the embedding of the patient, where it exists.
    """
    if features is None:
        return {}
    table = tables.read_slides(cohort).sort_values(["patient_id", "slide_id"])
    by_patient: dict[str, list[str]] = {}
    for patient, slide in zip(table["patient_id"], table["slide_id"], strict=True):
        if exists(join(features, f"{slide}.h5")):
            by_patient.setdefault(str(patient), []).append(str(slide))
    names = tables.read_patients(cohort)["patient_id"] if patients is None else patients
    return by_patient | patient_files(features, (str(name) for name in names if str(name) not in by_patient))


def patient_files(features: Location, patients: Iterable[str]) -> dict[str, list[str]]:
    """`[patient_id]` of each of these patients who has a feature file of their own."""
    return {patient: [patient] for patient in patients if exists(join(features, f"{patient}.h5"))}


def _genes(expression: pd.DataFrame, patient: str) -> torch.Tensor | None:
    if patient not in expression.index:
        return None
    return torch.from_numpy(np.ascontiguousarray(expression.loc[patient].to_numpy(dtype=np.float32, copy=True)))


def _level(value: object) -> str | None:
    return None if pd.isna(value) else str(value)  # type: ignore[call-overload]


def _number(value: object) -> float | None:
    return None if pd.isna(value) else float(value)  # type: ignore[call-overload, arg-type]


def check_single_encoder(provenance: Iterable[Mapping[str, Any]], features: Location | None) -> dict[str, Any]:
    """How all features were extracted: each attribute with its value, or with the sorted list of its values.

    Raises DataError when they come from two encoders: their numbers have different meanings even at equal width.
    """
    values: dict[str, set[Any]] = {}
    for attributes in provenance:
        for name, value in attributes.items():
            values.setdefault(name, set()).add(value)
    for name in ("encoder", "encoder_weights_sha256"):
        if len(encoders := sorted(map(str, values.get(name, ())))) > 1:
            what = f"features of two encoders ({name} {encoders[0]} and {encoders[1]})"
            raise DataError(what, str(features), "extract all slides with one encoder")
    return {name: min(group) if len(group) == 1 else sorted(group) for name, group in sorted(values.items())}
