"""Claim: `mcti predict` of 100,000 patients needs less than 2 GiB of memory and omits no patient.

A model of genes alone (preset `snn`, random weights) and synthetic new patients with 500 genes; one in 10,000 has no
measured gene and cannot be predicted. Checked: a row of every other patient in the order of the ids, and the list of
those without a prediction. Per number of patients: the peak of the memory of all processes that the system cannot
reclaim, processor seconds, and milliseconds of a processor per patient, which are equal if the time is linear.
Run: python -m benchmarks.predict_scale [--patients 10000 100000] [--genes 500] [--limit-gib 2]
"""

import argparse
import csv
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from benchmarks import process_memory
from mcti import storage
from mcti.model.comparators import build
from mcti.model.presets import preset
from mcti.model.trained import Fitted, Scale, TrainedModel

CLAIM_GIB, CLAIM_PATIENTS = 2.0, 100_000
_BLOCK, _UNMEASURED_EVERY = 1000, 10_000


def write_model(folder: Path, genes: int) -> None:
    """One fold of genes alone with random weights."""
    torch.manual_seed(0)
    names = tuple(f"G{number}" for number in range(genes))
    config = preset("snn", features=1, genes=names, classes=("a", "b"), bins=4, modalities=("genes",), missing=True)
    of_genes, of_features = (Scale(torch.zeros(n), torch.ones(n)) for n in (genes, 1))
    fitted, net = Fitted(of_genes, of_features, (0.0, 12.0, 36.0, 60.0, 120.0)), build(config).eval()
    fold = folder / "fold_0"
    fold.mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, fold / "weights.safetensors")
    record = TrainedModel(net, config, fitted).spec() | {"horizons_months": [12.0, 36.0, 60.0]}
    storage.write_json(fold / "model.json", record)
    (fold / "predictions.csv").write_text("patient_id\nknown\n")


def write_patients(folder: Path, patients: int, genes: int) -> list[str]:
    """expression.parquet of new patients, written in blocks; the ids of those without a measured gene."""
    draw, unmeasured = np.random.default_rng(0), []
    folder.mkdir()
    schema = pa.schema([("patient_id", pa.string()), *((f"G{number}", pa.float32()) for number in range(genes))])
    with pq.ParquetWriter(folder / "expression.parquet", schema) as file:
        for start in range(0, patients, _BLOCK):
            ids = [f"N-{number:06}" for number in range(start, min(start + _BLOCK, patients))]
            values = draw.standard_normal((len(ids), genes), dtype=np.float32)
            bad = [row for row in range(len(ids)) if (start + row) % _UNMEASURED_EVERY == _BLOCK // 2]
            values[bad] = np.nan
            unmeasured += [ids[row] for row in bad]
            columns = [pa.array(values[:, gene]) for gene in range(genes)]
            file.write_table(pa.Table.from_arrays([pa.array(ids), *columns], schema=schema))
    return unmeasured


def predict(root: Path, patients: int, genes: int, workers: int, limit_gib: float) -> process_memory.Usage:
    """The cost of `mcti predict` on `patients` new patients, whose output is checked."""
    write_model(root / "models", genes)
    unmeasured = write_patients(root / "new", patients, genes)
    command = [str(Path(sys.executable).with_name("mcti")), "predict", "--model", "models", "--new-patients", "new",
               "--out", "out.csv", "--set", f"predict.workers={workers}",
               "--set", "predict.max_refused_share=0.01"]  # fmt: skip
    usage = process_memory.run(command, root, limit_gib)
    predicted, refused = (_ids(root / name) for name in ("out.csv", "out.refused.csv"))
    assert refused == unmeasured, f"{len(refused)} patients are listed as not predicted, not {len(unmeasured)}"
    expected = sorted({f"N-{number:06}" for number in range(patients)} - set(unmeasured))
    assert predicted == expected, f"{len(predicted)} patients are predicted, not {len(expected)}"
    return usage


def _ids(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return [row["patient_id"] for row in csv.DictReader(file)]


def main(arguments: list[str] | None = None) -> int:
    """Print a line per number of patients; 1 if the claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, nargs="+", default=[10_000, CLAIM_PATIENTS])
    parser.add_argument("--genes", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit-gib", type=float, default=0.0, help="memory limit of all processes; 0: none")
    options = parser.parse_args(arguments)
    highest = 0.0
    for patients in options.patients:
        with tempfile.TemporaryDirectory(prefix="mcti-scale-") as folder:
            usage = predict(Path(folder), patients, options.genes, options.workers, options.limit_gib)
        highest = max(highest, usage.peak_gib)
        print(f"{patients} patients: {usage.peak_gib:.2f} GiB, {usage.cpu:.0f} s of a processor, {usage.wall:.0f} s, "
              f"{1e3 * usage.cpu / patients:.2f} ms of a processor per patient", flush=True)  # fmt: skip
    return int(highest >= CLAIM_GIB)


if __name__ == "__main__":
    sys.exit(main())
