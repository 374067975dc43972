"""Claim: validate and split take time and memory linear in patients x genes; 100,000 x 20,000 fits into 8 GiB.

Run: python benchmarks/contracts_scale.py [--patients 4000 8000 16000] [--genes 2000] [--folder DIR]

Each size is written block by block and measured in a separate process: seconds and peak memory of validate and split.
The comparison is the smallest size of the same run: the ratio of the times against the ratio of the cells.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

LIMIT_GIB = 8.0


def main() -> int:
    args = _arguments()
    if args.measure:
        print(json.dumps(_measure(Path(args.measure))))
        return 0
    measured = []
    for patients in args.patients:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            _make(Path(folder), patients, args.genes)
            command = [sys.executable, __file__, "--measure", folder]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        measured.append({"patients": patients, "genes": args.genes, **json.loads(ran.stdout.splitlines()[-1])})
        print(json.dumps(measured[-1]))
    first, last = measured[0], measured[-1]
    cells = last["patients"] / first["patients"]
    growth = (last["seconds"] - last["import_seconds"]) / max(first["seconds"] - first["import_seconds"], 1e-9)
    print(f"cells x {cells:.1f}: time x {growth:.2f}; peak {last['peak_gib']:.2f} GiB of {LIMIT_GIB:g}")
    return int(growth > 1.5 * cells or last["peak_gib"] > LIMIT_GIB)


def _make(folder: Path, patients: int, genes: int) -> None:
    """Write a cohort of noise as `ingest` does, one row group after the other."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from mcti.cohort import tables

    rng = np.random.default_rng(7)
    ids = [f"P-{i:07d}" for i in range(patients)]
    event = (rng.random(patients) < 0.3).astype("int8")
    table = pd.DataFrame(
        {
            "patient_id": ids,
            "cohort": "noise",
            "site": [f"S{i % 40:02d}" for i in range(patients)],
            "age": rng.integers(30, 80, patients).astype(float),
            "is_female": pd.array(rng.integers(0, 2, patients), dtype="Int8"),
            "subtype": rng.choice(["a", "b"], patients),
            "time_months": np.where(event == 1, rng.uniform(1, 60, patients), rng.uniform(12, 120, patients)),
            "event": event,
        }
    )
    slides = pd.DataFrame({column.name: pd.Series(dtype=object) for column in tables.SLIDES})
    info = tables.CohortInfo(
        name="noise",
        notice="",
        endpoint="OS",
        expression_scale="z-score",
        counts={"patients": patients, "events": int(event.sum()), "genes": genes, "slides": 0},
        covariates=(),
        sources={},
        attrition=(),
    )
    tables.write(tables.Cohort(table, pd.DataFrame(index=pd.Index(ids[:1], name="patient_id")), slides, info), folder)
    names = [f"G{j:05d}" for j in range(genes)]
    schema = pa.schema([("patient_id", pa.string()), *((name, pa.float32()) for name in names)])
    with pq.ParquetWriter(folder / "expression.parquet", schema, write_statistics=False) as writer:
        for start in range(0, patients, tables.ROW_GROUP):
            part = ids[start : start + tables.ROW_GROUP]
            block = rng.standard_normal((genes, len(part)), dtype=np.float32)
            writer.write_table(pa.Table.from_arrays([pa.array(part), *map(pa.array, block)], schema=schema))


def _measure(folder: Path) -> dict[str, float]:
    start = time.perf_counter()
    import great_expectations  # noqa: F401  not part of the measured time

    from mcti.params import SplitParams, ValidateParams
    from mcti.steps.split import split
    from mcti.steps.validate import validate

    imported = time.perf_counter()
    validate(folder, ValidateParams(), folder / "report")
    validated = time.perf_counter()
    split(folder, None, SplitParams(), folder / "folds.csv")
    end = time.perf_counter()
    return {
        "seconds": round(end - start, 2),
        "import_seconds": round(imported - start, 2),
        "validate_seconds": round(validated - imported, 2),
        "split_seconds": round(end - validated, 2),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, nargs="+", default=[4000, 8000, 16000])
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--folder", default=None, help="folder of the tables; 8 GB for 100,000 x 20,000")
    parser.add_argument("--measure", default=None, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
