"""Tables of a cohort whose first gene decides the hazard, and the commands on them."""

import subprocess

import numpy as np
import pandas as pd


def run(programs, *arguments, cwd):
    """The output of a command of the `mcti` in this folder of programs, which must succeed."""
    done = subprocess.run([str(programs / "mcti"), *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


ONE_WORKER = ("--set", "train.workers=1", "--set", "predict.workers=1")
"""Each further one is a process that imports torch."""


def write_tables(folder, x, outcome):
    """clinical.csv, genes.csv and slides.csv of n patients: x (n,) the first of six genes, outcome {column: (n,)}."""
    patients, random = len(x), np.random.default_rng(0)
    ids = [f"Q{number:03d}" for number in range(patients)]
    clinical = pd.DataFrame({"patient_id": ids, "site": [f"S{number % 5}" for number in range(patients)]})
    clinical["age"] = np.round(60 + 9 * random.normal(size=patients))
    clinical["is_female"], clinical["subtype"] = random.integers(0, 2, patients), random.choice(["A", "B"], patients)
    clinical = clinical.assign(**outcome)
    genes = pd.DataFrame(random.normal(size=(patients, 6)), columns=[f"G{number}" for number in range(6)])
    genes["G0"] = x
    genes.insert(0, "patient_id", ids)
    slides = pd.DataFrame({"patient_id": ids, "slide_id": [f"{name}-DX1" for name in ids]})
    for name, table in {"clinical": clinical, "genes": genes, "slides": slides}.items():
        table.to_csv(folder / f"{name}.csv", index=False)
