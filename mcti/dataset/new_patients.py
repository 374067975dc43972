"""New patients as they come, before any outcome: a folder of tables and slides into the bags that prediction reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mcti import redaction
from mcti.cohort import reading
from mcti.dataset.bags import PatientBag
from mcti.dataset.loading import bag_of, one_way
from mcti.errors import DataError, did_you_mean
from mcti.params import ExtractParams
from mcti.progress import Progress
from mcti.slides import manifest
from mcti.steps.extract import extract
from mcti.storage import Location, exists, join
from mcti.training.folds import Dataset

Floats = NDArray[np.float32]


def listed(folder: Path) -> Path | None:
    """The list of slides of a folder: slides.csv, slides.parquet or the folder slides; None: there is none."""
    return _first(folder, "slides.csv", "slides.parquet", "slides")


def extracted(folder: Path, params: ExtractParams, scratch: Path, progress: Progress) -> Path | None:
    """Where the features of the folder's slides lie: its own folder `features`, or freshly extracted in `scratch`."""
    if (folder / "features").is_dir():
        return folder / "features"
    found = listed(folder)
    if found is None:
        return None
    extract(found, params, scratch, progress=progress)
    return scratch


def slides(folder: Path) -> dict[str, list[str]]:
    """The slides of each patient, sorted."""
    found: dict[str, list[str]] = {}
    for slide, owner in sorted(_owners(folder).items()):
        found.setdefault(owner, []).append(slide)
    return found


def slides_in(folder: Path, features: Location | None) -> dict[str, list[str]]:
    """Those of them that have features; who has none is left out."""
    if features is None:
        return {}
    there = {p: [s for s in owned if exists(join(features, f"{s}.h5"))] for p, owned in slides(folder).items()}
    return {patient: found for patient, found in there.items() if found}


def patients(folder: Path) -> list[str]:
    """Everybody who has genes, a slide or a row of covariates, sorted.

    Raises
        DataError: there is nobody, or an id that cannot name a file.
    """
    found = set(_owners(folder).values())
    for table in (_expression(folder), _clinical(folder)):
        found |= set() if table is None else set(table.ids)
    if not found:
        hint = "put expression.csv (patient_id and genes), slides.csv or a folder slides there"
        raise DataError("there is no patient", str(folder), hint)
    redaction.learn(found)
    for name in sorted(found):
        if not name.strip(".") or {"/", "\\", "\0"} & set(name):  # it becomes the name of a page
            raise DataError(f"{name!r} cannot name a patient", str(folder), "leave slashes out of patient_id")
    return sorted(found)


@dataclass(frozen=True)
class Tables:
    """The tables of a folder, read once; `bags` takes some of its patients at a time, whose features it then reads.

    genes, covariates   rows by patient, their columns named by `names`;  slides  with features, of each patient
    """

    features: Location | None
    genes: Mapping[str, Floats]
    gene_names: tuple[str, ...]
    covariates: Mapping[str, Floats]
    covariate_names: tuple[str, ...]
    slides: Mapping[str, Sequence[str]]

    @classmethod
    def read(cls, folder: Path, features: Location | None) -> "Tables":
        """None of the patients has an outcome yet.

        Reads   folder/expression.csv|parquet (patient_id, one column a gene), clinical.csv|parquet (patient_id, numeric
                covariates), slides.csv|parquet (patient_id, slide_id, path) or slides/ (a slide is its patient's name);
                each of them may be missing
        Raises  DataError naming file and row of what is wrong
        """
        genes, covariates = _by_patient(_expression(folder)), _by_patient(_clinical(folder))
        return cls(features, *genes, *covariates, slides_in(folder, features))

    def bags(self, chosen: Sequence[str]) -> Dataset:
        """The chosen patients, with features/<slide_id>.h5 of their slides."""
        bags, none = {}, np.full(len(self.covariate_names), np.nan)
        made: dict[str, set[Any]] = {}
        for patient in chosen:
            row, values = self.genes.get(patient), self.covariates.get(patient, none)
            patches, quality = bag_of(self.features, list(self.slides.get(patient, ())), made)
            bags[patient] = PatientBag(
                patient_id=patient,
                patches=patches,
                genes=None if row is None else torch.from_numpy(np.ascontiguousarray(row, dtype=np.float32)),
                time_months=0.0,
                event=False,
                subtype=0,
                covariates={
                    name: None if np.isnan(value) else float(value)
                    for name, value in zip(self.covariate_names, values, strict=True)
                },
                quality=quality,
            )
        return Dataset(bags, self.gene_names, (), one_way(made, self.features))


def _by_patient(table: reading.Matrix | None) -> tuple[dict[str, Floats], tuple[str, ...]]:
    """The rows of a table by patient, and the names of its columns."""
    return ({}, ()) if table is None else (dict(zip(table.ids, table.values, strict=True)), tuple(table.genes))


def _expression(folder: Path) -> reading.Matrix | None:
    return _matrix(_first(folder, "expression.csv", "expression.parquet"))


def _clinical(folder: Path) -> reading.Matrix | None:
    return _matrix(_first(folder, "clinical.csv", "clinical.parquet"))


def _matrix(path: Path | None) -> reading.Matrix | None:
    if path is None:
        return None
    table = reading.read_matrix(path, "patient_id")
    twice = (
        sorted({name for name in table.ids if table.ids.count(name) > 1})
        if len(set(table.ids)) < len(table.ids)
        else []
    )
    if twice:
        raise DataError(f"patient {twice[0]!r} has two rows", str(path), "keep one row a patient")
    return table


def _owners(folder: Path) -> dict[str, str]:
    found = listed(folder)
    if found is None:
        return {}
    if found.is_dir():
        return {row.slide_id: row.patient_id for row in manifest.read(found)}
    return manifest.read_patient_ids(found)


def _first(folder: Path, *names: str) -> Path | None:
    if not folder.is_dir():
        raise DataError("no such folder", str(folder), "name the folder of the new patients")
    known = {path.name for path in folder.iterdir()}
    for name in names:
        if name in known:
            return folder / name
    strange = [n for n in known if n.split(".")[0].casefold() == names[0].split(".")[0] and n not in names]
    if strange:
        raise DataError(f"{strange[0]!r} is not read", str(folder), did_you_mean(strange[0], names))
    return None
