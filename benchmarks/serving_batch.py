"""Claim: `mcti predict` does 50 patients a second on two cores: 1,000 patients of 1,000 patches, preset `compact`.

From the command to the file: reading features from disk, every member of the ensemble, the flags. The peer is the same
work in one process; both files must have the same bytes.
Run: python -m benchmarks.serving_batch [--patients 1000] [--patches 1000] [--features 44] [--members 1,5] [--alone]
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from mcti import storage
from mcti.dataset.bags import PatientBag
from mcti.model.network import MCTI
from mcti.model.presets import preset
from mcti.model.reference_profile import ReferenceProfile
from mcti.model.trained import Fitted, Scale, TrainedModel
from mcti.params import PredictParams
from mcti.steps.predict.step import predict


def make_models(out: Path, members: int, features: int, genes: int) -> None:
    """Folds of preset `compact` with random weights, and a reference of 40 random patients."""
    names = tuple(f"G{number}" for number in range(genes))
    gene_scale, feature_scale = (Scale(torch.zeros(n), torch.ones(n)) for n in (genes, features))
    fitted = Fitted(gene_scale, feature_scale, (0.0, 12.0, 36.0, 60.0, 120.0))
    for fold in range(members):
        torch.manual_seed(fold)
        bags = [PatientBag(str(i), torch.randn(50, features), torch.randn(genes), 10.0, True, 0, {}) for i in range(40)]
        config = preset("compact", features=features, genes=names, classes=("a", "b"), bins=4)
        net = MCTI(config).eval()
        folder = out / f"fold_{fold}"
        folder.mkdir(parents=True)
        save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder / "weights.safetensors")
        reference = ReferenceProfile.fit(bags, names, 40, fitted, np.random.default_rng(fold).normal(size=40).tolist())
        record = TrainedModel(net, config, fitted).spec() | {
            "reference": reference.spec(),
            "horizons_months": [12.0, 36.0, 60.0],
        }
        storage.write_json(folder / "model.json", record)
        pd.DataFrame({"patient_id": [f"known-{fold}"]}).to_csv(folder / "predictions.csv", index=False)


def make_patients(out: Path, patients: int, patches: int, features: int, genes: int) -> None:
    """A folder of new patients with features."""
    draw = np.random.default_rng(0)
    (out / "features").mkdir(parents=True)
    ids = [f"N-{number:04d}" for number in range(patients)]
    table = pd.DataFrame(
        draw.normal(size=(patients, genes)).astype(np.float32), columns=[f"G{i}" for i in range(genes)]
    )
    table.insert(0, "patient_id", ids)
    table.to_parquet(out / "expression.parquet")
    pd.DataFrame({"patient_id": ids, "slide_id": ids}).to_csv(out / "slides.csv", index=False)
    for name in ids:
        with h5py.File(out / "features" / f"{name}.h5", "w") as file:
            file["features"] = draw.standard_normal((patches, features), dtype=np.float32)


def processor_seconds() -> float:
    """Of this process and of the workers that have ended; on a busy machine wall time is unreliable."""
    return sum(
        spent.ru_utime + spent.ru_stime
        for spent in (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("patients", 1000), ("patches", 1000), ("features", 44), ("genes", 1000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--members", default="1,5")
    parser.add_argument("--alone", action="store_true", help="also in one process, for the ratio and the bytes")
    options = parser.parse_args()
    print(
        f"{options.patients} patients of {options.patches} patches of {options.features}, {options.genes} genes; "
        f"torch {torch.__version__}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        make_patients(root / "new", options.patients, options.patches, options.features, options.genes)
        for members in map(int, options.members.split(",")):
            make_models(root / f"models-{members}", members, options.features, options.genes)
            seconds = {}
            for workers in (2, 1) if options.alone else (2,):
                start, used = time.perf_counter(), processor_seconds()
                out = root / f"{members}-{workers}.csv"
                predict(
                    str(root / f"models-{members}"),
                    None,
                    None,
                    PredictParams(workers=workers),
                    out,
                    new_patients=root / "new",
                )
                seconds[workers] = time.perf_counter() - start
                print(
                    f"{members} member(s), {workers} process(es): "
                    f"{options.patients / seconds[workers]:6.1f} patients/s, {seconds[workers]:.1f} s, "
                    f"{1e3 * (processor_seconds() - used) / options.patients:.1f} ms of a processor a patient"
                )
            if options.alone:
                same = (root / f"{members}-1.csv").read_bytes() == (root / f"{members}-2.csv").read_bytes()
                print(f"  two processes {seconds[1] / seconds[2]:.2f}x; same bytes: {same}")
                assert same
    return 0


if __name__ == "__main__":
    sys.exit(main())
