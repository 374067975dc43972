"""Trained folds in MLflow: the settings and the learning curve of each fold, read from the files of its folder.

Training itself writes files only, so it needs no server. The curves are logged in two places: a training task of a
pipeline logs its fold in its own run, below that of the pipeline run; `register` logs every fold that this pipeline run
has not logged (all of them outside a pipeline; those that KFP took from its cache) below its own run.
"""

import csv
import hashlib
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mcti import storage
from mcti.registry import lineage, pipeline_run, tracking
from mcti.registry.tracking import PARENT

FOLD, WEIGHTS = "mcti.fold", "mcti.weights"
"""Tags of a run with a learning curve: the folder of the fold, the SHA-256 of its weights.safetensors."""
HISTORY = "history.csv"
_NAMES = {
    "learning_rate": "learning_rate",
    "validation": "validation/loss",
    "validation_c_index": "validation/c_index",
}
"""Column of history.csv -> metric; every other column is `train/<column>`."""
_METRICS_PER_REQUEST, _PARAMS_PER_REQUEST = 1000, 100  # the limits of MLflow's log-batch


def log_in_task(folders: Sequence[Path]) -> None:
    """Log trained folds in the run of this task, or below it where there are several; without such a run, nothing.

    An unavailable MLflow is a warning: training does not depend on it.
    """
    run_id = pipeline_run.current_run()
    if run_id is not None:
        pipeline_run.warn_on_error(lambda: _log_in_run(run_id, folders), "the learning curve")


def log_below(client: Any, run_id: str, folders: Sequence[Path]) -> None:
    """Log trained folds as child runs of `run_id`, without those that this run or its pipeline run already has.

    A folder without history.csv (a model that `mcti train` did not make) has no curve and no run.
    """
    parents = {run_id, client.get_run(run_id).data.tags.get(PARENT, run_id)}
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    for folder in folders:
        if (folder / HISTORY).is_file() and not _is_logged(client, experiments, parents, weights_sha256(folder)):
            _log_child(client, run_id, folder)


def weights_sha256(folder: Path) -> str:
    """SHA-256 of the weights of a fold."""
    return hashlib.sha256(storage.read_bytes(folder / "weights.safetensors")).hexdigest()


def _log_in_run(run_id: str, folders: Sequence[Path]) -> None:
    with tracking.service() as client:
        if len(folders) > 1:
            log_below(client, run_id, folders)
            return
        _log_fold(client, run_id, folders[0])
        if not tracking.joined_run(client):  # Kubeflow names its own runs
            client.update_run(run_id, name=f"train {folders[0].name}")


def _log_child(client: Any, parent_id: str, folder: Path) -> None:
    parent = client.get_run(parent_id)
    tags = {PARENT: parent_id, "mcti.step": "train"}
    if lineage.KFP_RUN in parent.data.tags:
        tags[lineage.KFP_RUN] = parent.data.tags[lineage.KFP_RUN]
    run_id = client.create_run(parent.info.experiment_id, run_name=f"train {folder.name}", tags=tags).info.run_id
    _log_fold(client, run_id, folder)
    client.set_terminated(run_id, "FINISHED")


def _log_fold(client: Any, run_id: str, folder: Path) -> None:
    """Settings, learning curve and tags of a fold; one request per thousand values."""
    now = int(time.time() * 1000)
    settings = storage.read_json(folder / "model.json").get("params", {})
    params = list(tracking.param_texts(settings).items())
    metrics = [(name, value, now, epoch) for name, value, epoch in _curve(folder / HISTORY)]
    tags = {FOLD: folder.name, WEIGHTS: weights_sha256(folder)}
    for start in range(0, len(params), _PARAMS_PER_REQUEST):
        client.log_values(run_id, params=dict(params[start : start + _PARAMS_PER_REQUEST]))
    for start in range(0, len(metrics), _METRICS_PER_REQUEST):
        client.log_values(run_id, metrics=metrics[start : start + _METRICS_PER_REQUEST])
    client.log_values(run_id, tags=tags)  # last: a run with the tags is complete


def _curve(path: Path) -> Iterator[tuple[str, float, int]]:
    """(metric, value, epoch) of each defined number of history.csv."""
    rows: Iterator[Mapping[str, str]] = csv.DictReader(io.StringIO(storage.read_bytes(path).decode("utf-8")))
    for row in rows:
        for column, text in row.items():
            if column != "epoch" and text:
                yield _NAMES.get(column, f"train/{column}"), float(text), int(row["epoch"])


def _is_logged(client: Any, experiments: list[str], parents: set[str], sha256: str) -> bool:
    runs = client.search_runs(experiments, f"tags.`{WEIGHTS}` = '{sha256}'")
    return any(run.data.tags.get(PARENT) in parents for run in runs)
