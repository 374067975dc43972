"""An MLflow server of a test: started on a free port with the given options, stopped with its children at the end."""

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

_SECONDS = 900  # a first start creates all tables and takes minutes on a loaded machine


class EndedEarlier(AssertionError):
    """The server ended before it answered; the message is its log."""


@contextlib.contextmanager
def running(program: Path, log: Path, *options: str, variables: Mapping[str, str]) -> Iterator[str]:
    """`program server OPTIONS` with one worker; its address.

    program  the `mlflow` of an environment;  variables  added to the environment of the server

    Raises EndedEarlier when the server ends while it starts.
    """
    port = _free_port()
    command = [str(program), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *options]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING_")}
    environment = {**inherited, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "DO_NOT_TRACK": "true", **variables}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, env=environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        _wait(uri, process, log)
        yield uri
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(300)


def _wait(uri: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise EndedEarlier(log.read_text("utf-8", "replace"))
        try:
            urllib.request.urlopen(f"{uri}/health", timeout=60).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
        else:
            return
    raise AssertionError(log.read_text("utf-8", "replace"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
