"""Servers in own processes, requests to them, and the predictions that they must return."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from mcti.registry import ensemble_files
from tests.registry.factories import GENES

BIN = Path(sys.executable).parent


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@contextlib.contextmanager
def running(log, *command):
    """A server on a free port until the end of the block; it is ended by its process id."""
    port = free_port()
    path = f"{BIN}:{os.environ['PATH']}"  # mlflow starts uvicorn by name
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1", "PATH": path}
    with log.open("w") as stream:
        process = subprocess.Popen(
            [*command, "--port", str(port)], stdout=stream, stderr=stream, env=environment, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(4500):  # fifteen minutes: `mlflow models serve` starts slowly on a busy machine
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/ping", timeout=60) as response:
                assert response.status == 200
                break
            time.sleep(0.2)
        else:
            raise AssertionError(f"no answer: {log.read_text()}")
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        process.wait(300)


def post(address, body, path="/invocations"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}{path}", data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=600) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def records(run):
    return run.frame().to_dict("records")


def expected(run, folder):
    """The predictions of the batch, converted to JSON and back."""
    import torch

    loaded = ensemble_files.load(folder)
    rows = [
        loaded.predict(name, torch.from_numpy(run.bags[i]), dict(zip(GENES, map(float, run.genes[i]), strict=True)))
        for i, name in enumerate(run.ids)
    ]
    return json.loads(json.dumps(rows))


def texts(row):
    values = {"patient_id": row["patient_id"], "genes": json.dumps(row["genes"])}
    return [{"name": n, "shape": [1], "datatype": "BYTES", "data": [v]} for n, v in values.items()]
