"""What Kubeflow Pipelines itself reports of this task's run, asked from inside the pod: an extra source, never needed.

The address is KF_PIPELINES_ENDPOINT (as for KFP's own client), else the Service `ml-pipeline` that Kubernetes announces
to every pod of its namespace (ML_PIPELINE_SERVICE_HOST); without either nothing is asked. In multi-user mode the API
wants a token of the pod's service account: the file KF_PIPELINES_SA_TOKEN_PATH, where it is mounted.
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
_BEGUN, _FAILED = {"PENDING", "RUNNING"}, {"CANCELED", "FAILED"}
_STRUCTURE = ("root", "exit-handler-", "condition-", "for-loop-", "iteration-", "executor")


class ReportedRun(BaseModel):
    """A run as the API reports it.

    terminated  somebody has terminated it, and it was not retried since: see `was_terminated`
    succeeded   names of the tasks that succeeded, without drivers: a driver succeeds before its task has begun
    failed      names of those that failed, `NAME-driver` for a driver, that of a loop or condition among them
    """

    model_config = ConfigDict(frozen=True)
    terminated: bool
    succeeded: frozenset[str] = frozenset()
    failed: tuple[str, ...] = ()


def reported(run: str) -> ReportedRun | None:
    """The run `run`; None where no address is known, or the API does not answer within seconds (with a warning)."""
    base = _address()
    if not base:
        return None
    try:
        tree = _get(f"{base}/apis/v2beta1/runs/{run}")
        return _parse(tree)
    except (urllib.error.URLError, OSError, ValueError, TypeError) as error:
        warnings.warn(f"Kubeflow Pipelines does not report run {run} in {base}: {error}", stacklevel=2)
        return None


def was_terminated(state: str, history: Iterable[str]) -> bool:
    """Whether the last execution of a run was terminated: KFP keeps one history over all retries of a run.

    state       of the run now; a terminated run ends as FAILED
    history     its states, oldest first; a retry begins with PENDING or RUNNING directly after FAILED or CANCELED
    """
    states = list(history)
    begins = [i for i in range(1, len(states)) if states[i] in _BEGUN and states[i - 1] in _FAILED]
    return bool({state, *states[max(begins, default=0) :]} & {"CANCELING", "CANCELED"})


def _address() -> str:
    named = os.environ.get("KF_PIPELINES_ENDPOINT", "").rstrip("/")
    host = os.environ.get("ML_PIPELINE_SERVICE_HOST", "")
    port = os.environ.get("ML_PIPELINE_SERVICE_PORT_HTTP") or os.environ.get("ML_PIPELINE_SERVICE_PORT") or "8888"
    address = named or (f"http://{host}:{port}" if host else "")
    return address if address.startswith(("http://", "https://")) else ""


def _get(url: str) -> Mapping[str, Any]:
    request = urllib.request.Request(url)  # noqa: S310  (http and https only, see _address)
    token = Path(os.environ.get("KF_PIPELINES_SA_TOKEN_PATH") or _TOKEN)
    if token.is_file():
        request.add_header("Authorization", f"Bearer {token.read_text(encoding='utf-8').strip()}")
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310  # nosec B310
        tree = json.load(answer)
    if not isinstance(tree, dict) or "run_id" not in tree:
        raise ValueError("the answer is no run")
    return tree


def _parse(tree: Mapping[str, Any]) -> ReportedRun:
    history = [str(entry.get("state")) for entry in tree.get("state_history") or ()]
    tasks = (tree.get("run_details") or {}).get("task_details") or ()
    named = [(str(task.get("display_name")), task.get("state")) for task in tasks]
    ours = [(name, state) for name, state in named if not name.startswith(_STRUCTURE) and ".onExit" not in name]
    drivers = {name for name, state in named if state == "FAILED" and name.endswith("-driver")}
    return ReportedRun(
        terminated=was_terminated(str(tree.get("state")), history),
        succeeded=frozenset(name for name, state in ours if state == "SUCCEEDED" and not name.endswith("-driver")),
        failed=tuple(sorted({name for name, state in ours if state == "FAILED"} | drivers)),
    )
