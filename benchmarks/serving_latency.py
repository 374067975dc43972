"""Claim: the 99th percentile of `mlflow models serve` is at most 5 times the forward pass of the same patient.

The forward pass is `Ensemble.predict` in this process; it alternates with the requests, so that load affects both.
Every response is compared: no bit may differ. `mcti serve` is called with the V2 protocol and tensors.
Run: python -m benchmarks.serving_latency [--patches 1000] [--features 44] [--genes 1000] [--members 5] [--rounds 100]
"""

import argparse
import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.serving_batch import make_models
from mcti.registry import ensemble_files, models
from mcti.registry.ensemble import Ensemble

BIN = Path(sys.executable).parent


@contextlib.contextmanager
def running(*command: str) -> Iterator[str]:
    """A server on a free port; ended by its own pid."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{BIN}:{os.environ['PATH']}"  # mlflow starts uvicorn by name
    process = subprocess.Popen(
        [*command, "--port", str(port)],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5):
                break
            time.sleep(0.3)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(20)


def post(address: str, body: bytes) -> Any:
    request = urllib.request.Request(address, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.loads(response.read())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("patches", 1000), ("features", 44), ("genes", 1000), ("members", 5), ("rounds", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        make_models(root / "models", options.members, options.features, options.genes)
        ensemble_files.assemble(root / "models", root / "ensemble")
        models.save(root / "ensemble", root / "saved")
        loaded = ensemble_files.load(root / "ensemble")
        draw = np.random.default_rng(0)
        bag = draw.normal(size=(options.patches, options.features)).astype(np.float32)
        genes = dict(zip(loaded.genes, draw.normal(size=options.genes).astype(np.float32).tolist(), strict=True))
        packed = {"shape": list(bag.shape), "float32": base64.b64encode(bag.tobytes()).decode()}
        row = {"patient_id": "P", "genes": genes, "features": bag.tolist()}
        tensors = [
            {"name": "patient_id", "shape": [1], "datatype": "BYTES", "data": ["P"]},
            {"name": "genes", "shape": [1, options.genes], "datatype": "FP64", "data": list(genes.values())},
            {"name": "features", "shape": [1, *bag.shape], "datatype": "FP32", "data": bag.ravel().tolist()},
        ]
        bodies = {
            "mlflow models serve": json.dumps({"dataframe_records": [row]}).encode(),
            "the same, base64": json.dumps({"dataframe_records": [row | {"features": packed}]}).encode(),
            "mcti serve, V2": json.dumps({"inputs": tensors}).encode(),
        }
        arguments = ("models", "serve", "--model-uri", str(root / "saved"), "--env-manager", "local")
        with (
            running(str(BIN / "mlflow"), *arguments) as mlflow_address,
            running(str(BIN / "mcti"), "serve", "--model", str(root / "saved")) as mcti_address,
        ):
            addresses = dict.fromkeys(bodies, f"{mlflow_address}/invocations")
            addresses["mcti serve, V2"] = f"{mcti_address}/v2/models/mcti/infer"
            return measure(loaded, torch.from_numpy(bag), genes, addresses, bodies, options)


def measure(
    loaded: Ensemble,
    bag: torch.Tensor,
    genes: dict[str, float],
    addresses: dict[str, str],
    bodies: dict[str, bytes],
    options: argparse.Namespace,
) -> int:
    seconds: dict[str, list[float]] = {"forward pass": [], **{name: [] for name in addresses}}
    for turn in range(options.rounds + 5):
        start = time.perf_counter()
        expected = loaded.predict("P", bag, genes)
        durations = {"forward pass": time.perf_counter() - start}
        for name, address in addresses.items():
            start = time.perf_counter()
            response = post(address, bodies[name])
            durations[name] = time.perf_counter() - start
            risk = (
                response["predictions"][0]["risk"] if "predictions" in response else response["outputs"][1]["data"][0]
            )
            assert risk == expected["risk"], (risk, expected["risk"])
        if turn >= 5:  # the first rounds are warm-up
            for name, value in durations.items():
                seconds[name].append(value)
    bare = np.median(seconds["forward pass"])
    print(
        f"{options.patches} patches of {options.features}, {options.genes} genes, {options.members} members, "
        f"{options.rounds} rounds; torch {torch.__version__}"
    )
    for name, values in seconds.items():
        p50, p99 = np.quantile(values, [0.5, 0.99])
        forward_p99 = np.quantile(seconds["forward pass"], 0.99)
        ratio = f"p99 / median forward {p99 / bare:.2f}, p99 / p99 forward {p99 / forward_p99:.2f}"
        print(f"{name:22} p50 {1e3 * p50:7.1f} ms  p99 {1e3 * p99:7.1f} ms  {ratio}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
