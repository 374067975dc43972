"""How a run of a pipeline stands in MLflow, asked over its REST interface."""

import json
import urllib.request
from typing import Any


def run_status(address: str, experiment: str, run: str) -> str:
    """Status of the run of MLflow that stands for the whole of pipeline run `run`; "absent" where there is none."""
    tree = _ask(f"{address}/api/2.0/mlflow/experiments/get-by-name?experiment_name={experiment}")
    wanted = {"experiment_ids": [tree["experiment"]["experiment_id"]], "filter": f"tags.`mcti.kfp_run` = '{run}'"}
    runs = _ask(f"{address}/api/2.0/mlflow/runs/search", wanted).get("runs", [])
    whole = [one for one in runs if "mlflow.parentRunId" not in {tag["key"] for tag in one["data"].get("tags", ())}]
    return str(whole[0]["info"]["status"]) if whole else "absent"


def _ask(address: str, body: dict[str, Any] | None = None) -> Any:
    data, headers = json.dumps(body).encode() if body else None, {"Content-Type": "application/json"}
    # The address is that of a port-forward that this process has started.
    request = urllib.request.Request(address, data, headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return json.load(answer)
