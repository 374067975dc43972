"""A cohort of the real study as tables, bags and folds (benchmarks/tcga_study.py)."""

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from benchmarks.model_zoo import Patients, RowSplit
from mcti.dataset.bags import Dataset, PatientBag, digest
from mcti.errors import DataError
from mcti.evaluation.design_matrix import Inputs
from mcti.evaluation.outcomes import Outcomes

SCHEMES = ("site", "random")
PRIMARY = "site"
CLINICAL = ("age", "is_female")
ENCODER = {"encoder": "HIPT"}
"""Of the regions of all cohorts, as their makers published it."""


@dataclass(frozen=True, eq=False)
class Cohort:
    """patients: tables and bags;  folds {scheme: parts};  digest: MD5 of all data that the models read.

    subtype (n,) of each patient. A cohort of one class has no column of the subtype in its table.
    """

    name: str
    patients: Patients
    folds: dict[str, list[RowSplit]]
    covariates: tuple[str, ...]
    digest: str
    subtype: np.ndarray

    @property
    def table(self) -> pd.DataFrame:
        """The cohort's table, one row per patient."""
        return self.patients.inputs.patients

    @property
    def one_class(self) -> bool:
        """Whether all patients have the same subtype: there is no subtype task."""
        return len(self.patients.data.classes) == 1

    def outcomes(self, scheme: str) -> Outcomes:
        """The test patients of each fold with their outcomes."""
        ids = self.table["patient_id"].to_numpy()
        return Outcomes.from_folds(
            self.table, {p.fold: (list(ids[p.train]), list(ids[p.test])) for p in self.folds[scheme]}
        )


def names(folder: Path) -> list[str]:
    """The cohorts of a folder: NAME_clinical.csv, NAME_expression.parquet, NAME_slides.csv and bags/NAME.zip."""
    cohorts = sorted(file.name.removesuffix("_clinical.csv") for file in folder.glob("*_clinical.csv"))
    if not cohorts:
        raise DataError("no NAME_clinical.csv", str(folder), "give the folder of the cohorts (--data)")
    return cohorts


def read(folder: Path, name: str, folds: int, repeats: int, most: int | None = None) -> Cohort:
    """One cohort: the patients with slides and genes, sorted; `most`: the first of a fixed shuffle (for trials)."""
    table = pd.read_csv(folder / f"{name}_clinical.csv", dtype={"patient_id": str, "site": str})
    genes = pd.read_parquet(folder / f"{name}_expression.parquet").set_index("patient_id")
    bags = read_bags(folder, name)
    table = table[table["patient_id"].isin(bags) & table["patient_id"].isin(genes.index)]
    if most is not None:
        table = table.sample(n=min(most, len(table)), random_state=0)
    table = table.sort_values("patient_id").drop(columns="cohort", errors="ignore").reset_index(drop=True)
    classes = tuple(sorted(table["subtype"].unique()))
    columns = table if len(classes) > 1 else table.drop(columns="subtype")
    inputs = Inputs(columns, genes.loc[table["patient_id"]], np.stack([moments(bags[p]) for p in table["patient_id"]]))
    values = inputs.genes.to_numpy(dtype=np.float32)
    bag_list = [
        _bag({str(k): v for k, v in row.items()}, bags[row["patient_id"]], values[i], classes)
        for i, row in enumerate(table.to_dict("records"))
    ]
    identity = {"name": name, "endpoint": "overall survival"}
    genes_read = tuple(map(str, inputs.genes.columns))
    data = Dataset({bag.patient_id: bag for bag in bag_list}, genes_read, classes, ENCODER, identity)
    known = tuple(c for c in CLINICAL if c in table and table[c].nunique(dropna=True) > 1)
    data_digest = hashlib.md5((digest(bag_list, known) + ",".join(table["site"])).encode()).hexdigest()
    parts = {scheme: assign_folds(table, scheme, folds, repeats) for scheme in SCHEMES}
    return Cohort(name, Patients(inputs, data), parts, known, data_digest, table["subtype"].astype(str).to_numpy())


def sources(target: Cohort, others: Sequence[Cohort]) -> tuple[Dataset, ...]:
    """The other cohorts with the genes of the target: NaN for a gene that a cohort lacks.

    Raises DataError when a cohort has a patient of the target
    """
    of_target = set(target.patients.data.bags)
    for other in others:
        if common := sorted(of_target & set(other.patients.data.bags)):
            what = f"patient {common[0]!r} is also in cohort {target.name} ({len(common)} such patients)"
            raise DataError(what, f"source {other.name}", "leave this source out (--sources)")
    return tuple(other.patients.data.with_genes(target.patients.data.genes) for other in others)


def moments(bag: np.ndarray) -> np.ndarray:
    """(2 D,) mean and sd of a patient's patch features (N, D)."""
    return np.concatenate([bag.mean(axis=0), bag.std(axis=0)]).astype(np.float64)


def read_bags(folder: Path, name: str) -> dict[str, np.ndarray]:
    """All regions of each patient's slides, (N, D) float32, slides in the order of their names."""
    slides = pd.read_csv(folder / f"{name}_slides.csv").sort_values(["patient_id", "slide_id"])
    by_patient: dict[str, list[np.ndarray]] = {}
    with zipfile.ZipFile(folder / "bags" / f"{name}.zip") as archive:
        members = {Path(n).stem: n for n in archive.namelist() if n.endswith(".pt")}
        for patient, slide in zip(slides["patient_id"].astype(str), slides["slide_id"], strict=True):
            if (stem := str(slide).removesuffix(".svs")) in members:
                tensor = torch.load(io.BytesIO(archive.read(members[stem])), weights_only=True)
                by_patient.setdefault(patient, []).append(tensor.float().numpy())
    return {patient: np.concatenate(parts) for patient, parts in by_patient.items()}


def assign_folds(table: pd.DataFrame, scheme: str, folds: int, repeats: int) -> list[RowSplit]:
    """Folds stratified by event and subtype, as in evaluation_linear.py.

    scheme  "site": no site in both parts; a cohort of fewer sites than `folds` has one fold for each site

    Raises DataError when the folds are by site and there is one site
    """
    strata, splits = table["event"].astype(str) + table["subtype"], []
    if scheme == "site":
        folds = min(folds, table["site"].nunique())
        if folds < 2:
            raise DataError("all patients are of one site", "folds by site", "leave this cohort out (--cohorts)")
    for repeat in range(repeats):
        splitter = StratifiedKFold if scheme == "random" else StratifiedGroupKFold
        grouping = {} if scheme == "random" else {"groups": table["site"]}
        parts = splitter(folds, shuffle=True, random_state=repeat).split(table, strata, **grouping)
        splits += [RowSplit(folds * repeat + k, train, test) for k, (train, test) in enumerate(parts)]
    return splits


def _bag(row: Mapping[str, Any], patches: np.ndarray, genes: np.ndarray, classes: tuple[str, ...]) -> PatientBag:
    return PatientBag(
        patient_id=row["patient_id"],
        patches=torch.from_numpy(patches),
        genes=torch.from_numpy(genes),
        time_months=float(row["time_months"]),
        event=bool(row["event"]),
        subtype=classes.index(row["subtype"]),
        covariates={name: None if pd.isna(row[name]) else float(row[name]) for name in CLINICAL if name in row},
    )
