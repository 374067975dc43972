"""What the registry knows of a model in use, and the history of its monitoring there."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcti import storage
from mcti.registry import evidence, models, tracking

STEP, MODEL, VERSION = "mcti.step", "mcti.model", "mcti.version"
_PREFIX = "monitor."


@dataclass(frozen=True)
class Registered:
    """A version in the registry: age in days since it was registered, and metrics.json of its evaluation."""

    name: str
    version: str
    age_days: float
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class Point:
    """An earlier run of the monitoring: when (seconds since 1970), of which version, with which numbers."""

    seconds: float
    version: str
    numbers: Mapping[str, float]


def find(location: str, scratch: Path) -> Registered | None:
    """The version that a `models:/NAME@ALIAS` or `models:/NAME/VERSION` address names; None for any other place.

    Raises
        DataError: there is no such version;  OperationalError: the registry does not answer.
    """
    if not location.startswith("models:/"):
        return None
    with tracking.service() as client:
        found = models.named(client, location)
        metrics = storage.read_json(evidence.fetch(models.run_of(found), "metrics.json", scratch))
    # A clock that was set back makes no model younger than new.
    age = max(time.time() - found.creation_timestamp / 1000, 0.0) / 86400
    return Registered(str(found.name), str(found.version), age, metrics)


def log(experiment: str, of: Registered, numbers: Mapping[str, float], tags: Mapping[str, str], page: Path) -> None:
    """One run of the history: the numbers, which rule fired, and the page."""
    import mlflow

    named = {STEP: "monitor", MODEL: of.name, VERSION: of.version, **tags}
    with tracking.service(), tracking.run(experiment, f"monitor-{of.name}-{of.version}", named):
        mlflow.log_metrics({f"{_PREFIX}{name}": value for name, value in numbers.items()})
        tracking.log_files({page: "monitoring"})


def history(experiment: str, name: str, most: int = 60) -> list[Point]:
    """The last runs of the monitoring of a model, oldest first."""
    with tracking.service() as client:
        found = client.get_experiment_by_name(experiment)
        if found is None:
            return []
        query = f"tags.`{STEP}` = 'monitor' and tags.`{MODEL}` = '{name}' and attributes.status = 'FINISHED'"
        runs = client.search_runs([found.experiment_id], query, max_results=most, order_by=["start_time DESC"])
    return [
        Point(run.info.start_time / 1000, run.data.tags.get(VERSION, ""), _numbers(run.data.metrics))
        for run in reversed(list(runs))
    ]


def _numbers(metrics: Mapping[str, float]) -> dict[str, float]:
    return {key.removeprefix(_PREFIX): value for key, value in metrics.items() if key.startswith(_PREFIX)}
