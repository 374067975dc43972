"""The tables of the demo cohort: GSE7390, real patients, genes and follow-up, part of scikit-survival.

Desmedt et al., Clinical Cancer Research 13 (2007) 3207-3214: 198 node-negative breast cancers, 76 gene probes, time
to distant metastasis. The cohort has no slides; mcti/demo/painting.py paints one per patient.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

NAME = "GSE7390"
DAYS_PER_MONTH = 30.4375
GRADES = {"well differentiated": 1, "intermediate": 2, "poorly differentiated": 3}


class DemoTables(NamedTuple):
    """The three source tables in the form that `ingest` reads; paths of slides are relative to the manifest."""

    clinical: pd.DataFrame
    expression: pd.DataFrame
    slides: pd.DataFrame


@dataclass(frozen=True)
class DemoPatient:
    """A demo patient with the traits that determine the painted slide. `grade` is 1-3, None for two patients."""

    patient_id: str
    slide_id: str
    path: str
    grade: int | None
    er_positive: bool


def demo_tables() -> DemoTables:
    """Clinical, expression and slide tables of the demo cohort; the same on every machine."""
    genes, clinical = _load()
    ids = clinical["patient_id"]
    slides = pd.DataFrame({"patient_id": ids, "slide_id": ids, "path": [f"slides/{name}.tif" for name in ids]})
    genes.insert(0, "patient_id", ids)
    return DemoTables(clinical, genes, slides)


def demo_patients() -> list[DemoPatient]:
    """The demo patients with the traits that determine their slides."""
    clinical, _, slides = demo_tables()
    rows = zip(slides.to_dict("records"), clinical.to_dict("records"), strict=True)
    return [
        DemoPatient(
            patient_id=str(slide["patient_id"]),
            slide_id=str(slide["slide_id"]),
            path=str(slide["path"]),
            grade=None if pd.isna(row["grade"]) else int(row["grade"]),
            er_positive=row["subtype"] == "ER+",
        )
        for slide, row in rows
    ]


def _load() -> tuple[pd.DataFrame, pd.DataFrame]:
    from sksurv.datasets import load_breast_cancer

    features, outcome = load_breast_cancer()
    probes = [name for name in features.columns if name.startswith("X")]
    clinical = pd.DataFrame(
        {
            "patient_id": [f"{NAME}-{number:03d}" for number in range(1, len(features) + 1)],
            "cohort": NAME,
            "site": NAME,
            "age": features["age"].to_numpy(),
            "is_female": 1,
            "subtype": features["er"].map({"positive": "ER+", "negative": "ER-"}).astype(str).to_numpy(),
            "time_months": outcome["t.tdm"] / DAYS_PER_MONTH,
            "event": outcome["e.tdm"].astype(int),
            "grade": _grades(features["grade"]),
            "size_cm": features["size"].to_numpy(),
        }
    )
    return features[probes].reset_index(drop=True), clinical


def _grades(words: "pd.Series[Any]") -> pd.Series:
    """Grade 1-3 as nullable integers; an unknown grade (spelled `unkown` in the source) is missing."""
    return words.astype(str).map(GRADES).astype("Int64").reset_index(drop=True)
