"""serve: a model over HTTP until the process ends."""

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

from mcti.errors import OperationalError
from mcti.params import ServeParams, TrustParams
from mcti.registry import http_server
from mcti.registry.trust import policy


def serve(
    model: str, params: ServeParams, trust: TrustParams, *, announce: Callable[[str], None] = lambda _: None
) -> None:
    """Answer requests until the process receives SIGINT or SIGTERM.

    trust     what the model must prove
    announce  receives one line with the address when the server is ready

    Raises
    DataError when there is no such model.
    Untrusted when it does not satisfy `trust`.
    OperationalError when the registry does not respond, or the port is in use.
    """
    import uvicorn

    os.environ["MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"] = str(params.request_seconds)
    with tempfile.TemporaryDirectory(prefix="mcti-serve-") as scratch:
        folder = policy.fetch(model, Path(scratch), trust)
        limits = params.max_request_mb * 2**20, params.request_seconds
        app = http_server.create_app(folder, model, Path(scratch), *limits)
        with socket.socket(socket.AF_INET6 if ":" in params.host else socket.AF_INET) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listening.bind((params.host, params.port))
            except OSError as error:
                address = f"{params.host}:{params.port}"
                raise OperationalError(f"cannot listen ({error.strerror})", address, "choose another --port") from error
            announce(f"serving {model} at http://{params.host}:{listening.getsockname()[1]}")
            uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listening])
