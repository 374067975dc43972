"""Raw tables and features of a real cohort as files, so that the commands of `mcti` can be run and measured on it."""

import math
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from benchmarks import study_data

PATIENTS = 561
"""Of BRCA in ../shared/data/tcga, drawn once: the size of a usual cohort of one hospital network."""


def write(source: Path, out: Path, name: str = "brca", patients: int = PATIENTS) -> Path:
    """Write out/{clinical.csv,expression.parquet,slides.csv,features/<slide_id>.h5} and out/params.yaml; returns `out`.

    source  folder of the cohorts, as benchmarks/tcga_study.py reads it;  name: of the cohort;  patients: at most
    """
    bags = study_data.read_bags(source, name)
    table = pd.read_csv(source / f"{name}_clinical.csv", dtype={"patient_id": str, "site": str})
    genes = pd.read_parquet(source / f"{name}_expression.parquet").set_index("patient_id")
    table = table[table["patient_id"].isin(bags) & table["patient_id"].isin(genes.index)]
    table = table.sample(n=min(patients, len(table)), random_state=0).sort_values("patient_id")
    (out / "features").mkdir(parents=True)
    table.drop(columns="cohort").to_csv(out / "clinical.csv", index=False)
    genes.loc[table["patient_id"]].reset_index().to_parquet(out / "expression.parquet")
    names = pd.DataFrame({"patient_id": table["patient_id"], "slide_id": table["patient_id"]})
    names.to_csv(out / "slides.csv", index=False)
    for patient in table["patient_id"]:
        with h5py.File(out / "features" / f"{patient}.h5", "w") as file:
            file["features"] = bags[patient]
            file["coords"] = _grid(len(bags[patient]))
    (out / "params.yaml").write_text(_settings(name, out), encoding="utf-8")
    return out


def write_new_patients(raw: Path, out: Path, patients: int) -> None:
    """The first patients of `write` as a folder of new patients, with other ids: every member predicts them."""
    (out / "features").mkdir(parents=True)
    table = pd.read_csv(raw / "clinical.csv").head(patients)
    genes = pd.read_parquet(raw / "expression.parquet").head(patients)
    names = "N-" + table["patient_id"]
    for old, new in zip(table["patient_id"], names, strict=True):
        (out / "features" / f"{new}.h5").symlink_to(raw / "features" / f"{old}.h5")
    genes.assign(patient_id=names.to_numpy()).to_parquet(out / "expression.parquet")
    table.assign(patient_id=names)[["patient_id", "age", "is_female"]].to_csv(out / "clinical.csv", index=False)
    pd.DataFrame({"patient_id": names, "slide_id": names}).to_csv(out / "slides.csv", index=False)


def _grid(tiles: int) -> np.ndarray:
    """Positions (tiles, 2) in a square grid: commit b427cb5 does not read a feature file without them."""
    rows, columns = np.divmod(np.arange(tiles), math.isqrt(tiles - 1) + 1)
    return np.stack([columns, rows], 1) * 256


def _settings(name: str, out: Path) -> str:
    """Settings for the commands, with the defaults of the product and the covariates that the cohort has."""
    return (
        f"ingest: {{name: {name}, clinical: {out}/clinical.csv, expression: {out}/expression.parquet, "
        f"slides: {out}/slides.csv, expression_scale: z-score}}\n"
        "split: {seed: 7, folds: 5}\n"
        "train: {architecture: {covariates: [age, is_female]}, device: cpu}\n"
    )
