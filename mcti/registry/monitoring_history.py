"""A registered model for the monitoring: its evaluation, its age, and the history of its monitoring runs in MLflow."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcti import storage
from mcti.registry import evidence, mlflow_client, models, tracking

STEP, MODEL, VERSION = "mcti.step", "mcti.model", "mcti.version"
_PREFIX = "monitor."


@dataclass(frozen=True)
class RegisteredModel:
    """A version in the registry: age in days since it was registered, and metrics.json of its evaluation."""

    name: str
    version: str
    age_days: float
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class MonitoringRun:
    """An earlier run of the monitoring: start (seconds since 1970), version of the model, its numbers."""

    seconds: float
    version: str
    numbers: Mapping[str, float]


def find(location: str, scratch: Path) -> RegisteredModel | None:
    """The version at `models:/NAME@ALIAS` or `models:/NAME/VERSION`; None for any other location.

    Raises
    DataError when there is no such version.
    OperationalError when the registry does not respond.
    """
    if not location.startswith("models:/"):
        return None
    with tracking.service() as client:
        version = models.version_at(client, location)
        metrics = storage.read_json(evidence.fetch(models.run_of(version), "metrics.json", scratch))
    # Not negative, also after a clock was set back.
    age = max(time.time() - version.creation_timestamp / 1000, 0.0) / 86400
    return RegisteredModel(str(version.name), str(version.version), age, metrics)


def log(
    experiment: str, model: RegisteredModel, numbers: Mapping[str, float], tags: Mapping[str, str], report: Path
) -> None:
    """Log one monitoring run: its numbers (unit in the name), the rule that fired (in `tags`), and the report."""
    all_tags = {STEP: "monitor", MODEL: model.name, VERSION: model.version, **tags}
    with tracking.service(), tracking.run(experiment, f"monitor-{model.name}-{model.version}", all_tags):
        mlflow_client.load().log_metrics({f"{_PREFIX}{name}": value for name, value in numbers.items()})
        tracking.log_files({report: "monitoring"})


def history(experiment: str, name: str, limit: int = 60) -> list[MonitoringRun]:
    """The last `limit` monitoring runs of a model, oldest first."""
    with tracking.service() as client:
        record = client.get_experiment_by_name(experiment)
        if record is None:
            return []
        query = f"tags.`{STEP}` = 'monitor' and tags.`{MODEL}` = '{name}' and attributes.status = 'FINISHED'"
        runs = client.search_runs([record.experiment_id], query, max_results=limit, order_by=["start_time DESC"])
    return [
        MonitoringRun(run.info.start_time / 1000, run.data.tags.get(VERSION, ""), _numbers(run.data.metrics))
        for run in reversed(list(runs))
    ]


def _numbers(metrics: Mapping[str, float]) -> dict[str, float]:
    return {key.removeprefix(_PREFIX): value for key, value in metrics.items() if key.startswith(_PREFIX)}
