"""Runs of the tracking server: joined where Kubeflow created one, created otherwise; its errors become MctiErrors."""

import contextlib
import logging
import math
import os
import sys
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel

from mcti.errors import DataError, OperationalError, service_hint
from mcti.registry import lineage, mlflow_client, rest, resumption
from mcti.registry.rest import ApiError
from mcti.registry.rest_client import RestClient
from mcti.waiting import log_while_waiting

PARENT = "mlflow.parentRunId"
_HEALTH_SECONDS = 10.0  # timeout of a request to the health endpoint
_SETTLE_SECONDS = 1.0  # until a run that a concurrent task created is visible
_SETTLED = "mcti.settled"
"""Tag of the run that all tasks of a pipeline run use."""


def server_configured() -> bool:
    """Whether MLFLOW_TRACKING_URI names a tracking server."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI"))


@contextlib.contextmanager
def service() -> Iterator[Any]:
    """A client of the MLflow server at MLFLOW_TRACKING_URI.

    Raises
    OperationalError when the variable is not set, the server does not respond, or it fails during the body.
    DataError when the body requests an object that does not exist.
    """
    uri = _reachable()
    try:
        with _quiet(), mlflow_client.translated():
            yield client_of(uri)
    except ApiError as error:
        message = error.message.splitlines()[0]
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise DataError(
                message, f"the registry at {uri}", "check the name, or run `mcti register` first"
            ) from error
        raise OperationalError(f"MLflow failed ({message})", uri, "see the log of the server and try again") from error


def client_of(uri: str) -> Any:
    """The client of the server at `uri`: of its REST API where that suffices, otherwise MLflow's own, which is slow to
    import.
    """
    return RestClient(uri) if rest.supported(uri) else mlflow_client.FullClient(uri)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress MLflow's output: with --json, stdout must be one JSON document; MLflow prints addresses there."""
    logger = logging.getLogger("mlflow")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def run(experiment: str, name: str, tags: Mapping[str, str]) -> Iterator[str]:
    """A run to log into, its id: the one of MLFLOW_RUN_ID where Kubeflow created it, otherwise a new one.

    A new run ends FINISHED, or FAILED when the body raises; Kubeflow ends its own run. In a task of a pipeline a new
    run is a child of the run of its pipeline run.
    """
    mlflow = mlflow_client.load()
    client = client_of(os.environ["MLFLOW_TRACKING_URI"])
    joined = joined_run(client)
    if joined:
        with _preserved_run_id(), mlflow.start_run(run_id=joined, nested=True):
            mlflow.set_tags({**tags, **origin_tags()})
            yield joined
        return
    parent_id = resumed_parent(client) if lineage.pipeline_run() else ""
    mlflow.set_experiment(experiment)
    try:
        with mlflow.start_run(run_name=name, tags={**tags, **(child_tags(parent_id) if parent_id else {})}) as active:
            yield str(active.info.run_id)
    except Exception as error:
        if parent_id:
            resumption.end_resumed(client, parent_id, f"{name}: {error}")
        raise


@contextlib.contextmanager
def _preserved_run_id() -> Iterator[None]:
    """Restore MLFLOW_RUN_ID, which MLflow removes from the environment when any run ends."""
    before = os.environ.get("MLFLOW_RUN_ID")
    try:
        yield
    finally:
        if before:
            os.environ["MLFLOW_RUN_ID"] = before


def joined_run(client: Any) -> str:
    """The run that Kubeflow's MLflow plugin created for this task (MLFLOW_RUN_ID), if our server has it; otherwise "".

    The plugin may use another server than MLFLOW_TRACKING_URI. A run of that server cannot be joined, so the variable
    is removed from the environment of MLflow's own functions.
    """
    run_id = os.environ.get("MLFLOW_RUN_ID", "")
    try:
        if run_id:
            client.get_run(run_id)
    except ApiError as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        message = f"warning: MLflow has no run {run_id} (MLFLOW_RUN_ID): a new run is created"
        print(message, file=sys.stderr)  # noqa: T201  (warnings are silent while MLflow's client is used)
        del os.environ["MLFLOW_RUN_ID"]
        return ""
    return run_id


def resumed_parent(client: Any) -> str:
    """As `parent`; a run that has ended is resumed, with the lease of its retraining.

    Raises LeaseTaken when another run is retraining the model.
    """
    parent_id = parent(client)
    if not os.environ.get("MLFLOW_RUN_ID"):  # Kubeflow creates and ends its own run
        resumption.resume(client, parent_id)
    return parent_id


def parent(client: Any) -> str:
    """The id of the MLflow run of this task's pipeline run; the run is created if it does not exist.

    Where Kubeflow's MLflow plugin created a run for this task, it is the parent of that run.
    """
    joined = joined_run(client)
    if joined:
        return str(client.get_run(joined).data.tags.get(PARENT) or joined)
    number = experiment_id(client, os.environ.get("MCTI_EXPERIMENT") or "mcti")
    runs = _pipeline_runs(client, number)
    if runs and _SETTLED in runs[0].data.tags:
        return str(runs[0].info.run_id)
    created = None if runs else _create_pipeline_run(client, number)
    # MLflow has no lock: concurrent tasks use the run that one of them settled, else the earliest.
    time.sleep(_SETTLE_SECONDS)
    chosen = str(_pipeline_runs(client, number)[0].info.run_id)
    client.log_values(chosen, tags={_SETTLED: "true"})
    if created not in (None, chosen):  # a concurrent task was first
        client.delete_run(created)
    return chosen


def _create_pipeline_run(client: Any, number: str) -> str:
    origin = lineage.Origin(lineage.pipeline_run(), os.environ.get("MCTI_PIPELINE", ""))
    tags = {**origin.tags(), "mcti.step": "pipeline", **lineage.code()}
    created = client.create_run(number, run_name=f"{origin.pipeline.partition('@')[0]} {origin.run}", tags=tags)
    return str(created.info.run_id)


def unfinished_runs(client: Any, parent_id: str) -> list[str]:
    """Child runs of this task's pipeline run that a killed process left RUNNING; without `parent_id` itself."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    query = f"tags.`{lineage.KFP_RUN}` = '{lineage.pipeline_run()}' and attributes.status = 'RUNNING'"
    runs = (str(run.info.run_id) for run in client.search_runs(experiments, query))
    return [run for run in runs if run != parent_id]


def origin_tags() -> dict[str, str]:
    """Tags that make a run created by Kubeflow searchable like our own; none outside a pipeline run."""
    run = lineage.pipeline_run()
    return {**lineage.Origin(run, os.environ.get("MCTI_PIPELINE", "")).tags(), **lineage.code()} if run else {}


def child_tags(parent_id: str) -> dict[str, str]:
    """Tags of a child of `parent_id`, the run of this task's pipeline run."""
    return {PARENT: parent_id, lineage.KFP_RUN: lineage.pipeline_run()}


def experiment_id(client: Any, name: str) -> str:
    """The id of an experiment, which is created if it does not exist."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name))
        except ApiError as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(name)  # a concurrent process was first
    return str(experiment.experiment_id)


def _pipeline_runs(client: Any, number: str) -> list[Any]:
    """The runs of this task's pipeline run: settled ones first, then by start.

    The start alone does not suffice: a client sets it before its request, which can be slow.
    """
    query = f"tags.`{lineage.KFP_RUN}` = '{lineage.pipeline_run()}' and tags.`mcti.step` = 'pipeline'"
    runs = client.search_runs([number], query, order_by=["start_time ASC"])
    return sorted(runs, key=lambda run: _SETTLED not in run.data.tags)


@contextlib.contextmanager
def reopen(run_id: str) -> Iterator[str]:
    """Reopen a finished run to log more into it."""
    mlflow = mlflow_client.load()
    with _preserved_run_id(), mlflow.start_run(run_id=run_id, nested=True):
        yield run_id


def log_params(tree: Mapping[str, Any]) -> None:
    """Log the settings as parameters of the active run (`param_texts`)."""
    mlflow_client.load().log_params(param_texts(tree))


def log_metrics(numbers: Mapping[str, float]) -> None:
    """Log numbers as metrics of the active run."""
    mlflow_client.load().log_metrics(dict(numbers))


def param_texts(tree: Mapping[str, Any]) -> dict[str, str]:
    """The settings as texts by `section.key`; values are cut at 6000 characters, the limit of MLflow."""
    return {key: str(value)[:6000] for key, value in flat(tree)}


def log_dataset(name: str, digest: str, rows: Mapping[str, int], context: str = "training") -> None:
    """Link the run to a version of the data by its MD5; context: the use of the data, such as training."""
    import pandas as pd

    mlflow = mlflow_client.load()
    table = pd.DataFrame({"counted": list(rows), "number": list(rows.values())})
    # MLflow keeps 36 characters of a digest; an MD5 has 32.
    mlflow.log_input(mlflow.data.from_pandas(table, name=name, digest=digest), context=context)


def log_files(paths: Mapping[Path, str]) -> None:
    """Files and folders as artifacts of the active run: {path: folder among the artifacts}."""
    run_id = mlflow_client.load().active_run().info.run_id
    client_of(os.environ["MLFLOW_TRACKING_URI"]).log_files(run_id, paths)


def log_json(client: Any, run_id: str, path: str, document: BaseModel) -> None:
    """A document as a JSON artifact of a finished run."""
    client.log_dict(run_id, document.model_dump(mode="json"), path)


def close_stale(client: Any, experiment: str, tag: str, value: str) -> None:
    """Mark the runs as FAILED that a killed process left RUNNING with the same tag."""
    record = client.get_experiment_by_name(experiment)
    if record is None:
        return
    query = f"tags.`{tag}` = '{value}' and attributes.status = 'RUNNING'"
    for old in client.search_runs([record.experiment_id], query):
        client.set_terminated(old.info.run_id, "FAILED")


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a tree of settings with their dotted names."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _reachable() -> str:
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        raise OperationalError(
            "no MLflow server is configured", "MLFLOW_TRACKING_URI", service_hint("MLFLOW_TRACKING_URI")
        )
    if urlsplit(uri).password is not None:
        hint = "remove it and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        raise OperationalError(
            "the address of MLflow contains a password, which logs would show", "MLFLOW_TRACKING_URI", hint
        )
    if not uri.startswith(("http://", "https://")):
        return uri  # a database or a managed service without a health endpoint
    timeout = _retry_timeout()
    with log_while_waiting(f"MLflow at {uri}", timeout + _HEALTH_SECONDS):
        until = time.monotonic() + timeout
        while True:
            try:
                _check_health(uri)
            except OperationalError:
                if time.monotonic() >= until:
                    raise
                time.sleep(min(2.0, timeout / 10))  # a restarted server responds within seconds
            else:
                return uri


def _retry_timeout() -> float:
    """Seconds for which a server that does not respond is tried again: MCTI_PATIENCE_SECONDS, by default 0."""
    text = os.environ.get("MCTI_PATIENCE_SECONDS") or "0"
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:  # "nan" and "inf" would mean a wait without end
        raise OperationalError(
            f"{text!r} is not a number of seconds", "MCTI_PATIENCE_SECONDS", "use a number, 0 or more"
        )
    return seconds


def _check_health(uri: str) -> None:
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_HEALTH_SECONDS) as response:  # noqa: S310  (checked above)  # nosec B310
            response.read()
    except urllib.error.HTTPError as error:
        error.close()  # the server responds; the first request shows whether it grants access
    except (urllib.error.URLError, OSError, ValueError) as error:
        what = f"MLflow does not answer ({error})"
        raise OperationalError(what, uri, service_hint("MLFLOW_TRACKING_URI")) from error
