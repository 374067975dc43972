"""Claim: `mcti train` of 10,000 patients with 2,000 patches of 192 features (15.4 GB) needs less than 8 GiB of memory.

Synthetic patients with 1,500 genes, feature files of two bytes per value. Two folds are trained at the same time by two
workers, one epoch each. Per number of patients: the peak of the memory of all processes that the system cannot
reclaim (`Anonymous` of /proc/PID/smaps_rollup, sampled), seconds, and patients per second, which are equal if the time
is linear. With --limit-gib all processes are in a control group (root) with that limit, files included.
Needs 6 bytes of disk per value: 23 GB for the claim.
Run: python -m benchmarks.train_scale [--patients 2500 5000 10000] [--limit-gib 8]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from mcti.cohort import tables
from mcti.params import SplitParams
from mcti.steps.split import split

CLAIM_GIB, CLAIM_PATIENTS = 8.0, 10_000
WIDTH, GENES = 192, 1500
_SETTINGS = ("train.epochs=1", "train.workers=2")
_CONTROL_GROUPS = Path("/sys/fs/cgroup")


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


def train(root: Path, limit_gib: float) -> tuple[float, float]:
    """Peak of the memory that cannot be reclaimed, in GiB, and seconds of `mcti train` on the folder of `write`."""
    command = [str(Path(sys.executable).with_name("mcti")), "train", "--cohort", str(root / "cohort"), "--features",
               str(root / "features"), "--folds", str(root / "folds.csv"), "--out", str(root / "models")]  # fmt: skip
    command += [word for setting in _SETTINGS for word in ("--set", setting)]
    group = _limited_group(limit_gib) if limit_gib else None
    begin, peak = time.monotonic(), 0.0
    # Elsewhere: the params.yaml of this repository has settings of the demo.
    process = subprocess.Popen(command, cwd=root, preexec_fn=None if group is None else lambda: _enter(group))
    while process.poll() is None:
        peak = max(peak, sum(map(_anonymous, _tree(process.pid))) / 2**30)
        time.sleep(0.5)
    if group is not None:
        group.rmdir()
    if process.returncode:
        raise SystemExit(f"mcti train ended with {process.returncode}")
    return peak, time.monotonic() - begin


def _limited_group(gib: float) -> Path:
    """A control group of version 1 or 2 with this limit of memory."""
    first_version = (_CONTROL_GROUPS / "memory").exists()
    if not first_version:
        (_CONTROL_GROUPS / "cgroup.subtree_control").write_text("+memory")
    group = (_CONTROL_GROUPS / "memory" if first_version else _CONTROL_GROUPS) / f"mcti-{os.getpid()}"
    group.mkdir()
    limit = group / ("memory.limit_in_bytes" if first_version else "memory.max")
    limit.write_text(str(int(gib * 2**30)))
    return group


def _enter(group: Path) -> None:
    (group / "cgroup.procs").write_text(str(os.getpid()))


def _tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has ended
        return []
    return [pid, *(one for child in children for one in _tree(int(child)))]


def _anonymous(pid: int) -> int:
    """Bytes of a process that are not pages of a file."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


def main() -> int:
    """Print a line per number of patients; 1 if the claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, nargs="+", default=[2500, 5000, CLAIM_PATIENTS])
    parser.add_argument("--patches", type=int, default=2000)
    parser.add_argument("--limit-gib", type=float, default=0.0, help="memory limit of all processes; 0: none")
    options = parser.parse_args()
    highest = 0.0
    for patients in options.patients:
        with tempfile.TemporaryDirectory(prefix="mcti-scale-") as folder:
            write(Path(folder), patients, options.patches)
            peak, seconds = train(Path(folder), options.limit_gib)
        highest = max(highest, peak)
        size = patients * options.patches * WIDTH * 4 / 1e9
        print(f"{patients} patients, {size:.1f} GB of features: {peak:.2f} GiB, {seconds:.0f} s, "
              f"{patients / seconds:.1f} patients/s", flush=True)  # fmt: skip
    return int(highest >= CLAIM_GIB)


if __name__ == "__main__":
    sys.exit(main())
