"""Small cohorts for the tests of this package."""

from pathlib import Path

import numpy as np
import pandas as pd

from mcti.cohort import tables
from mcti.cohort.tables import Cohort, CohortInfo


def sources(patients: int = 40, genes: int = 30, seed: int = 0) -> dict[str, pd.DataFrame]:
    """Clinical, expression and slide tables that `ingest` accepts without a warning."""
    rng = np.random.default_rng(seed)
    ids = [f"P-{i:04d}" for i in range(patients)]
    clinical = pd.DataFrame(
        {
            "patient_id": ids,
            "cohort": "MADE",
            "site": [f"S{i % 8}" for i in range(patients)],
            "age": rng.integers(30, 80, patients).astype(float),
            "is_female": rng.integers(0, 2, patients),
            "subtype": rng.choice(["a", "b"], patients),
            "time_months": rng.uniform(1, 120, patients).round(2),
            "event": rng.permutation(np.arange(patients) % 3 == 0).astype(int),
        }
    )
    values = rng.standard_normal((patients, genes)).round(4)
    expression = pd.DataFrame(values, columns=[f"G{j}" for j in range(genes)])
    expression.insert(0, "patient_id", ids)
    slides = pd.DataFrame({"patient_id": ids, "slide_id": [f"{p}-1" for p in ids], "path": [f"s/{p}.tif" for p in ids]})
    return {"clinical": clinical, "expression": expression, "slides": slides}


def patient_table(seed: int = 0, patients: int = 120, site_count: int = 12, subtypes: int = 3) -> pd.DataFrame:
    """Patients with site, subtype, time, event and year, as `split` reads them."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "patient_id": [f"P-{i:04d}" for i in range(patients)],
            "site": [f"S{s:02d}" for s in np.minimum(rng.geometric(0.25, patients) - 1, site_count - 1)],
            "subtype": rng.choice([f"k{j}" for j in range(subtypes)], patients),
            "time_months": rng.uniform(1, 100, patients),
            "event": (rng.random(patients) < 0.4).astype(int),
            "year": rng.integers(1990, 2020, patients).astype(float),
        }
    )


def write_sources(frames: dict[str, pd.DataFrame], folder: Path) -> dict[str, str]:
    """The tables as CSV; {name: path}."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    return {name: str(folder / f"{name}.csv") for name in frames}


def cohort(frames: dict[str, pd.DataFrame]) -> Cohort:
    """A canonical cohort of the frames, without files."""
    patients = frames["clinical"].copy()
    patients["is_female"] = patients["is_female"].astype("Int8")
    patients["event"] = patients["event"].astype("int8")
    expression = frames["expression"].set_index("patient_id").astype(np.float32)
    slides = frames["slides"].reindex(columns=[column.name for column in tables.SLIDES])
    counts = {"patients": len(patients), "events": int(patients["event"].sum())}
    counts |= {"genes": expression.shape[1], "slides": len(slides)}
    info = CohortInfo(
        name="made",
        notice="",
        endpoint="OS",
        expression_scale="z-score",
        counts=counts,
        covariates=(),
        sources={},
        attrition=(),
        event_confirmed=True,  # times do not depend on the event
    )
    return Cohort(patients, expression, slides, info)


def write_cohort(frames: dict[str, pd.DataFrame], folder: Path) -> Path:
    """The canonical folder of the frames."""
    folder.mkdir(parents=True, exist_ok=True)
    tables.write(cohort(frames), folder)
    return folder
