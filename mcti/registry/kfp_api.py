"""The state of this task's run in the API of Kubeflow Pipelines, read from inside the pod: an optional source.

The address is KF_PIPELINES_ENDPOINT (as for KFP's own client), else the Service `ml-pipeline` that Kubernetes announces
to every pod of its namespace (ML_PIPELINE_SERVICE_HOST); without either, no request is sent. In multi-user mode the API
requires a token of the pod's service account: the file KF_PIPELINES_SA_TOKEN_PATH, where it is mounted.
"""

import json
import os
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

SECONDS = 5.0
_TOKEN = "/var/run/secrets/kubeflow/pipelines/token"  # noqa: S105  (a path)  # nosec B105
_STARTED, _FAILED = {"PENDING", "RUNNING"}, {"CANCELED", "FAILED"}
_STRUCTURE = ("root", "exit-handler-", "condition-", "for-loop-", "iteration-", "executor")


class ReportedRun(BaseModel):
    """A run as the API reports it.

    terminated  it was terminated and not retried since: see `was_terminated`
    succeeded   names of the tasks that succeeded, without drivers: a driver succeeds before its task starts
    failed      names of those that failed, `NAME-driver` for a driver, also of a loop or condition
    """

    model_config = ConfigDict(frozen=True)
    terminated: bool
    succeeded: frozenset[str] = frozenset()
    failed: tuple[str, ...] = ()


def reported(run: str) -> ReportedRun | None:
    """The run `run`; None where no address is known, or the API does not respond within SECONDS (with a warning)."""
    base = _address()
    if not base:
        return None
    try:
        tree = _get(f"{base}/apis/v2beta1/runs/{run}")
        return _parse(tree)
    except (urllib.error.URLError, OSError, ValueError, TypeError) as error:
        warnings.warn(f"the API of Kubeflow Pipelines at {base} returned no run {run}: {error}", stacklevel=2)
        return None


def was_terminated(state: str, history: Iterable[str]) -> bool:
    """Whether the last execution of a run was terminated: KFP keeps one history over all retries of a run.

    state       of the run now; a terminated run ends as FAILED
    history     its states, oldest first; a retry starts with PENDING or RUNNING directly after FAILED or CANCELED
    """
    states = list(history)
    starts = [i for i in range(1, len(states)) if states[i] in _STARTED and states[i - 1] in _FAILED]
    return bool({state, *states[max(starts, default=0) :]} & {"CANCELING", "CANCELED"})


def _address() -> str:
    endpoint = os.environ.get("KF_PIPELINES_ENDPOINT", "").rstrip("/")
    host = os.environ.get("ML_PIPELINE_SERVICE_HOST", "")
    port = os.environ.get("ML_PIPELINE_SERVICE_PORT_HTTP") or os.environ.get("ML_PIPELINE_SERVICE_PORT") or "8888"
    address = endpoint or (f"http://{host}:{port}" if host else "")
    return address if address.startswith(("http://", "https://")) else ""


def _get(url: str) -> Mapping[str, Any]:
    request = urllib.request.Request(url)  # noqa: S310  (http and https only, see _address)
    token = Path(os.environ.get("KF_PIPELINES_SA_TOKEN_PATH") or _TOKEN)
    if token.is_file():
        request.add_header("Authorization", f"Bearer {token.read_text(encoding='utf-8').strip()}")
    with urllib.request.urlopen(request, timeout=SECONDS) as response:  # noqa: S310  # nosec B310
        tree = json.load(response)
    if not isinstance(tree, dict) or "run_id" not in tree:
        raise ValueError("the response is not a run")
    return tree


def _parse(tree: Mapping[str, Any]) -> ReportedRun:
    history = [str(entry.get("state")) for entry in tree.get("state_history") or ()]
    tasks = (tree.get("run_details") or {}).get("task_details") or ()
    states = [(str(task.get("display_name")), task.get("state")) for task in tasks]
    steps = [(name, state) for name, state in states if not name.startswith(_STRUCTURE) and ".onExit" not in name]
    drivers = {name for name, state in states if state == "FAILED" and name.endswith("-driver")}
    return ReportedRun(
        terminated=was_terminated(str(tree.get("state")), history),
        succeeded=frozenset(name for name, state in steps if state == "SUCCEEDED" and not name.endswith("-driver")),
        failed=tuple(sorted({name for name, state in steps if state == "FAILED"} | drivers)),
    )
