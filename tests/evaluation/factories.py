"""Small survival cohorts with known properties."""

import numpy as np
import pandas as pd


def make_patients(count: int, seed: int = 0, *, beta: float = 1.0, months: int = 0) -> pd.DataFrame:
    """Exponential times with log hazard beta * x, uniform censoring; whole months (so: ties) when `months` is 1."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=count)
    death = generator.exponential(60 * np.exp(-beta * x))
    censored = generator.uniform(6, 150, size=count)
    time = np.minimum(death, censored)
    return pd.DataFrame(
        {
            "patient_id": [f"P{i:04d}" for i in range(count)],
            "site": [f"S{i % 7}" for i in range(count)],
            "age": 60 + 8 * generator.normal(size=count),
            "is_female": pd.array(generator.integers(0, 2, count), dtype="Int8"),
            "subtype": np.where(generator.random(count) < 0.4, "A", "B"),
            "time_months": np.maximum(np.ceil(time), 1) if months else time,
            "event": (death <= censored).astype("int8"),
            "x": x,
        }
    )


def make_folds(patients: pd.DataFrame, folds: int = 5, repeats: int = 1) -> dict[int, tuple[list[str], list[str]]]:
    """{fold: (training patients, test patients)}, assigned at random in each repetition."""
    ids = patients["patient_id"].to_numpy()
    parts = {}
    for repeat in range(repeats):
        fold = np.random.default_rng(repeat).permutation(len(ids)) % folds
        for k in range(folds):
            parts[repeat * folds + k] = (list(ids[fold != k]), list(ids[fold == k]))
    return parts
