"""MLflow's HTTP client as we use it: through its server alone, and with a line in the log about a long wait."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mcti.waiting import log_while_waiting

ENVIRONMENT = {
    # Without them the client fetches files from the object store, at an address that the server signed and that only
    # the server may be able to reach.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""Settings of the client, read from the environment each time; a value that is there already is kept."""

_NAME = "AnnouncingAdapter"
_SILENT_SECONDS = 120.0  # MLflow's own limit, for the requests to which it gives none


def prepare() -> None:
    """Set the client up in this process; called before the first request, as often as you like."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow.utils import request_utils

    if request_utils.TCPKeepAliveHTTPAdapter.__name__ != _NAME:
        # The only place through which every request passes; MLflow has no hook for it.
        request_utils.TCPKeepAliveHTTPAdapter = _announcing(request_utils.TCPKeepAliveHTTPAdapter)
        request_utils._cached_get_request_session.cache_clear()


def download(location: str, scratch: Path) -> Path:
    """The file or folder of an address of MLflow (`runs:/…`, `models:/…`), copied into `scratch`."""
    import mlflow

    with log_while_waiting(f"the files of {location} from MLflow", f"ends after {_SILENT_SECONDS:.0f} s without data"):
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=location, dst_path=str(scratch)))


def _announcing(adapter: Any) -> Any:
    """MLflow's adapter with a line in the log about each request that takes long, its retries included."""

    def send(self: Any, request: Any, stream: bool = False, timeout: Any = None, **words: Any) -> Any:
        limit = timeout or _SILENT_SECONDS
        with log_while_waiting(f"MLflow ({urlsplit(request.url).netloc})", longest_wait(self.max_retries, limit)):
            answer = adapter.send(self, request, stream=stream, timeout=limit, **words)
            if not stream:
                _ = answer.content  # the body is waited for here as well
            return answer

    return type(_NAME, (adapter,), {"send": send})


def longest_wait(retries: Any, timeout: float | tuple[float, float]) -> float:
    """Seconds after which a request that gets no answer is given up: every try (`timeout` each) and the pauses between.

    retries  urllib3's Retry
    """
    each = sum(timeout) if isinstance(timeout, tuple) else timeout
    again = int(retries.total or 0)
    # urllib3 does not pause before the first repetition.
    pauses = (min(retries.backoff_factor * 2**number, retries.backoff_max) for number in range(1, again))
    return float((again + 1) * each + sum(pauses))
