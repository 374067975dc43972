"""Small synthetic cohorts: in memory as bags, and on disk as the folders that the steps read."""

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch

from mcti.cohort import tables
from mcti.dataset.bags import Dataset, PatientBag
from mcti.params import SplitParams, TrainParams
from mcti.steps.split import split

GENES = tuple(f"g{number}" for number in range(5))
CLASSES = ("IDC", "ILC")
WIDTH = 6


def settings(**changes) -> TrainParams:
    """Settings of a run of a few seconds: preset tiny, three epochs."""
    usual = {"preset": "tiny", "epochs": 3, "batch_patients": 8, "learning_rate": 1e-3, "weight_decay": 1e-2}
    return TrainParams.model_validate(usual | changes)


def bags(patients: int = 24, seed: int = 0, prefix: str = "P") -> list[PatientBag]:
    """Patients with 1 to 12 patches; the first gene shortens the life."""
    random = np.random.default_rng(seed)
    patient_bags = []
    for number in range(patients):
        genes = random.normal(size=len(GENES)).astype(np.float32)
        months = float(np.round(30 * np.exp(-0.8 * genes[0] + 0.3 * random.normal()), 2))
        patches = torch.from_numpy(random.normal(size=(random.integers(1, 13), WIDTH)).astype(np.float32))
        event = bool(random.random() < 0.6)
        patient_bags.append(
            PatientBag(f"{prefix}-{number:03}", patches, torch.from_numpy(genes), months, event, number % 2)
        )
    return patient_bags


def dataset(patients: int = 24, seed: int = 0) -> Dataset:
    return Dataset({bag.patient_id: bag for bag in bags(patients, seed)}, GENES, CLASSES)


def folders(
    root: Path, patients: int = 24, folds: int = 2, seed: int = 0, prefix: str = "P"
) -> tuple[Path, Path, Path]:
    """cohort, features and folds.csv below `root`; prefix: of the patient ids."""
    patient_bags = bags(patients, seed, prefix)
    ids = [bag.patient_id for bag in patient_bags]
    frame = pd.DataFrame(
        {
            "patient_id": ids,
            "cohort": "made",
            "site": "A",
            "age": 60.0,
            "is_female": pd.array([1] * patients, dtype="Int8"),
            "subtype": [CLASSES[bag.subtype] for bag in patient_bags],
            "time_months": [bag.time_months for bag in patient_bags],
            "event": np.array([bag.event for bag in patient_bags], dtype=np.int8),
        }
    )
    expression = pd.DataFrame(np.stack([bag.genes.numpy() for bag in patient_bags]), index=ids, columns=list(GENES))
    slides = pd.DataFrame({"patient_id": ids, "slide_id": [f"{name}-S" for name in ids]})
    for column in ("path", "stain", "md5"):
        slides[column] = None
    slides["mpp"] = 0.5
    counts = {"patients": patients, "events": int(frame["event"].sum()), "genes": len(GENES), "slides": patients}
    info = tables.CohortInfo(
        name="made",
        notice="",
        endpoint="OS",
        expression_scale="log2",
        counts=counts,
        covariates=(),
        sources={},
        attrition=(),
        event_confirmed=True,  # some of these cohorts have times that do not depend on the event
    )
    cohort, features = root / "cohort", root / "features"
    cohort.mkdir(parents=True)
    features.mkdir()
    slides = slides[[column.name for column in tables.SLIDES]]
    tables.write(tables.Cohort(frame, expression, slides, info), cohort)
    for bag in patient_bags:
        with h5py.File(features / f"{bag.patient_id}-S.h5", "w") as file:
            file["features"] = bag.patches.numpy()
            file["coords"] = np.zeros((len(bag.patches), 2), dtype=np.int64)
    split(cohort, None, SplitParams(folds=folds, inner_folds=2, min_test_events=0), root / "folds.csv")
    return cohort, features, root / "folds.csv"
