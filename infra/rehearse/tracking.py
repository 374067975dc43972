"""The status of a pipeline run in MLflow, from its REST API."""

import json
import urllib.request
from typing import Any


def run_status(address: str, experiment: str, run: str) -> str:
    """The status of the MLflow parent run of pipeline run `run`; "absent" when there is none."""
    tree = _request_json(f"{address}/api/2.0/mlflow/experiments/get-by-name?experiment_name={experiment}")
    query = {"experiment_ids": [tree["experiment"]["experiment_id"]], "filter": f"tags.`mcti.kfp_run` = '{run}'"}
    runs = _request_json(f"{address}/api/2.0/mlflow/runs/search", query).get("runs", [])
    parents = [row for row in runs if "mlflow.parentRunId" not in {tag["key"] for tag in row["data"].get("tags", ())}]
    return str(parents[0]["info"]["status"]) if parents else "absent"


def _request_json(address: str, body: dict[str, Any] | None = None) -> Any:
    data, headers = json.dumps(body).encode() if body else None, {"Content-Type": "application/json"}
    # The address is that of a port-forward of this process.
    request = urllib.request.Request(address, data, headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        return json.load(response)
