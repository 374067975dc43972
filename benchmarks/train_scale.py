"""Claim: `mcti train` of 10,000 patients with 2,000 patches of 192 features (15.4 GB) needs less than 8 GiB of memory.

Synthetic patients with 1,500 genes, feature files of two bytes per value. Two folds are trained at the same time by two
workers, one epoch each. Per number of patients: the peak of the memory of all processes that the system cannot reclaim,
seconds, and the processor time per patient, which is the same for all numbers if the time is linear. With --limit-gib
all processes are in a control group (root) with that limit, files included.
Needs 6 bytes of disk per value: 23 GB for the claim.
Run: python -m benchmarks.train_scale [--patients 2500 5000 10000] [--limit-gib 8]
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from benchmarks import process_memory
from mcti.cohort import tables
from mcti.params import SplitParams
from mcti.steps.split import split

CLAIM_GIB, CLAIM_PATIENTS = 8.0, 10_000
WIDTH, GENES = 192, 1500
_SETTINGS = ("train.epochs=1", "train.workers=2")


def write(root: Path, patients: int, patches: int) -> None:
    """root/{cohort,features,folds.csv}: the first gene shortens the life, the patches are noise."""
    random = np.random.default_rng(0)
    ids = [f"P-{number:06}" for number in range(patients)]
    genes = random.normal(size=(patients, GENES)).astype(np.float32)
    months = np.round(30 * np.exp(-0.5 * genes[:, 0] + 0.3 * random.normal(size=patients)) + 0.1, 2)
    clinical = {"patient_id": ids, "cohort": "made", "site": "A", "age": 60.0,
                "is_female": pd.array([1] * patients, dtype="Int8"), "subtype": ["a", "b"] * (patients // 2),
                "time_months": months, "event": (random.random(patients) < 0.5).astype(np.int8)}  # fmt: skip
    slides = pd.DataFrame({column.name: None for column in tables.SLIDES}, index=range(patients))
    slides["patient_id"], slides["slide_id"], slides["mpp"] = ids, ids, 0.5
    info = tables.CohortInfo(
        name="made", notice="", endpoint="OS", expression_scale="log2", counts={"patients": patients}, covariates=(),
        sources={}, attrition=(), event_confirmed=True,
    )  # fmt: skip
    expression = pd.DataFrame(genes, index=ids, columns=[f"g{number}" for number in range(GENES)])
    cohort = tables.Cohort(pd.DataFrame(clinical), expression, slides, info)
    (root / "features").mkdir(parents=True)
    (root / "cohort").mkdir()
    tables.write(cohort, root / "cohort")
    values = random.normal(size=(patches, WIDTH)).astype(np.float16)
    for number, patient in enumerate(ids):
        with h5py.File(root / "features" / f"{patient}.h5", "w") as file:
            rows = np.roll(values, number, axis=0)
            file.create_dataset("features", data=rows, chunks=(min(256, patches), WIDTH))
    split(root / "cohort", None, SplitParams(folds=2, inner_folds=2), root / "folds.csv")


def train(root: Path, settings: Sequence[str], limit_gib: float) -> process_memory.Usage:
    """The cost of `mcti train` on the folder of `write`; settings: values of `--set`."""
    command = [str(Path(sys.executable).with_name("mcti")), "train", "--cohort", str(root / "cohort"), "--features",
               str(root / "features"), "--folds", str(root / "folds.csv"), "--out", str(root / "models")]  # fmt: skip
    command += [word for setting in (*_SETTINGS, *settings) for word in ("--set", setting)]
    # In another folder: the params.yaml of this repository has settings of the demo.
    return process_memory.run(command, root, limit_gib)


def main(arguments: list[str] | None = None) -> int:
    """Print a line per number of patients, and the ratios of the time per patient; 1 if the claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, nargs="+", default=[2500, 5000, CLAIM_PATIENTS])
    parser.add_argument("--patches", type=int, default=2000)
    parser.add_argument("--set", dest="settings", action="append", default=[], help="a setting, such as train.epochs=2")
    parser.add_argument("--limit-gib", type=float, default=0.0, help="memory limit of all processes; 0: none")
    options = parser.parse_args(arguments)
    highest, per_patient = 0.0, {}
    for patients in options.patients:
        with tempfile.TemporaryDirectory(prefix="mcti-scale-") as folder:
            write(Path(folder), patients, options.patches)
            usage = train(Path(folder), options.settings, options.limit_gib)
        highest, per_patient[patients] = max(highest, usage.peak_gib), usage.cpu / patients
        size = patients * options.patches * WIDTH * 4 / 1e9
        print(f"{patients} patients, {size:.1f} GB of features: {usage.peak_gib:.2f} GiB, {usage.cpu:.0f} s of a "
              f"processor, {usage.wall:.0f} s, {1e3 * per_patient[patients]:.1f} ms of a processor per patient",
              flush=True)  # fmt: skip
    print(_growth(per_patient))
    return int(highest >= CLAIM_GIB)


def _growth(per_patient: Mapping[int, float]) -> str:
    """Processor time per patient relative to the smallest cohort, by number of patients; 1 where time is linear."""
    base = per_patient[min(per_patient)]
    ratios = ", ".join(f"{patients}: {seconds / base:.2f}" for patients, seconds in sorted(per_patient.items()))
    return f"processor time per patient relative to {min(per_patient)} patients: {ratios}"


if __name__ == "__main__":
    sys.exit(main())
