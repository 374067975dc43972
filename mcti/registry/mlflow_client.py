"""MLflow's own client, whose import takes seconds: for models, datasets, and addresses that are no HTTP server.

All its requests go to its server, and a long wait is announced in the log. Its errors become `rest.ApiError`.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mcti.registry.rest import ApiError, longest_wait
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


def load() -> Any:
    """The module `mlflow`, set up for the server at MLFLOW_TRACKING_URI."""
    level = logging.getLogger("mlflow").level
    prepare()
    import mlflow

    logging.getLogger("mlflow").setLevel(level)  # the import sets it to INFO
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    return mlflow


def download(location: str, scratch: Path) -> Path:
    """The file or folder at an address of MLflow (`runs:/…`, `models:/…`), copied into `scratch`."""
    with (
        log_while_waiting(f"the files of {location} from MLflow", f"ends after {_SILENT_SECONDS:.0f} s without data"),
        translated(),
    ):
        return Path(load().artifacts.download_artifacts(artifact_uri=location, dst_path=str(scratch)))


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Translate the errors of MLflow's client, without importing it.

    Raises ApiError when the client fails in the body.
    """
    try:
        yield
    except Exception as error:
        loaded = sys.modules.get("mlflow.exceptions")
        if loaded is None or not isinstance(error, loaded.MlflowException):
            raise
        raise ApiError(str(error.message), error.error_code) from error


class FullClient:
    """`mlflow.MlflowClient` with the errors and the further methods of `rest_client.RestClient`."""

    def __init__(self, uri: str) -> None:
        self._client = load().MlflowClient(uri)

    def __getattr__(self, name: str) -> Any:
        return translated()(getattr(self._client, name))

    def search_model_versions(self, filter_string: str) -> list[Any]:
        """All versions that match a filter; "" matches all of all models."""
        versions: list[Any] = []
        page: str | None = None
        with translated():
            while page != "":
                matches = self._client.search_model_versions(filter_string, page_token=page)
                versions += matches
                page = matches.token or ""
        return versions

    def log_values(
        self,
        run_id: str,
        *,
        metrics: Sequence[tuple[str, float, int, int]] = (),
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Log several values.

        metrics  (name, value, unit of the name; milliseconds since 1970; step)
        """
        from mlflow.entities import Metric, Param, RunTag

        with translated():
            self._client.log_batch(
                run_id,
                metrics=[Metric(*metric) for metric in metrics],
                params=[Param(name, str(value)) for name, value in (params or {}).items()],
                tags=[RunTag(name, str(value)) for name, value in (tags or {}).items()],
            )

    def log_files(self, run_id: str, paths: Mapping[Path, str]) -> None:
        """Write files and folders as files of a run: {path: its folder there, that of the contents of a folder}."""
        with translated():
            for path, folder in paths.items():
                log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
                log(run_id, str(path), folder)

    def download_version(self, name: str, version: str, folder: str, out: Path) -> Path:
        """The folder `folder` of a version, copied into `out` with all files of the version.

        Of a folder alone MLflow raises an error that does not name it where the files are missing.
        """
        return download(f"models:/{name}/{version}", out) / folder

    def download_file(self, run_id: str, path: str, out: Path) -> Path:
        """A file or folder of a run, copied into the folder `out`."""
        return download(f"runs:/{run_id}/{path}", out)


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
