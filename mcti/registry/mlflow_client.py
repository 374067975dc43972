"""Settings of MLflow's HTTP client: all requests go to its server, and a long wait is announced in the log."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mcti.waiting import log_while_waiting

ENVIRONMENT = {
    # Otherwise the client downloads files from the object store, at an address that the server signed and that may be
    # reachable for the server only.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Settings of the client, which it reads from the environment each time; an existing value is kept."""

_NAME = "AnnouncingAdapter"
_SILENT_SECONDS = 120.0  # MLflow's own limit, for the requests to which it gives none


def prepare() -> None:
    """Set up the client in this process; call it before the first request. Repeated calls have no effect."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow.utils import request_utils

    if request_utils.TCPKeepAliveHTTPAdapter.__name__ != _NAME:
        # Every request uses this class; MLflow has no hook for it.
        request_utils.TCPKeepAliveHTTPAdapter = _announcing(request_utils.TCPKeepAliveHTTPAdapter)
        request_utils._cached_get_request_session.cache_clear()


def download(location: str, scratch: Path) -> Path:
    """The file or folder at an address of MLflow (`runs:/…`, `models:/…`), copied into `scratch`."""
    import mlflow

    with log_while_waiting(f"the files of {location} from MLflow", f"ends after {_SILENT_SECONDS:.0f} s without data"):
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=location, dst_path=str(scratch)))


def _announcing(adapter: Any) -> Any:
    """MLflow's adapter with an announcement of each request that takes long, retries included."""

    def send(self: Any, request: Any, stream: bool = False, timeout: Any = None, **options: Any) -> Any:
        limit = timeout or _SILENT_SECONDS
        with log_while_waiting(f"MLflow ({urlsplit(request.url).netloc})", longest_wait(self.max_retries, limit)):
            response = adapter.send(self, request, stream=stream, timeout=limit, **options)
            if not stream:
                _ = response.content  # includes the wait for the body
            return response

    return type(_NAME, (adapter,), {"send": send})


def longest_wait(retries: Any, timeout: float | tuple[float, float]) -> float:
    """Seconds after which a request without a response fails: the sum of all attempts and the pauses between them.

    retries  urllib3's Retry;  timeout  seconds per attempt, or (connect, read)
    """
    per_attempt = sum(timeout) if isinstance(timeout, tuple) else timeout
    retry_count = int(retries.total or 0)
    # urllib3 does not pause before the first retry.
    pauses = (min(retries.backoff_factor * 2**number, retries.backoff_max) for number in range(1, retry_count))
    return float((retry_count + 1) * per_attempt + sum(pauses))
