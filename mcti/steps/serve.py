"""serve: a model over HTTP, for as long as the process lives."""

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

from mcti.errors import OperationalError
from mcti.params import ServeParams
from mcti.registry import http_server


def serve(model: str, params: ServeParams, *, say: Callable[[str], None] = lambda _: None) -> None:
    """Answer requests until the process is told to end (SIGINT, SIGTERM).

    Raises
        DataError: there is no such model.
        OperationalError: the registry does not answer, or the port is taken.
    """
    import uvicorn

    os.environ["MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"] = str(params.request_seconds)
    with tempfile.TemporaryDirectory(prefix="mcti-serve-") as scratch:
        app = http_server.create_app(model, Path(scratch), params.max_request_mb * 2**20, params.request_seconds)
        with socket.socket(socket.AF_INET6 if ":" in params.host else socket.AF_INET) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listening.bind((params.host, params.port))
            except OSError as error:
                place = f"{params.host}:{params.port}"
                raise OperationalError(f"cannot listen ({error.strerror})", place, "choose another --port") from error
            say(f"serving {model} at http://{params.host}:{listening.getsockname()[1]}")
            uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listening])
