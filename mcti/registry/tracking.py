"""Runs of the tracking server: joined when the caller has one, opened otherwise; errors of the service as ours."""

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
from mcti.registry import lineage, mlflow_client, resumption
from mcti.waiting import log_while_waiting

PARENT = "mlflow.parentRunId"
_ASK_SECONDS = 10.0  # for an answer to the question whether the server is there
_SETTLE_SECONDS = 1.0  # a run made beside ours may be the earlier one, and be seen later


def server_configured() -> bool:
    """Whether MLFLOW_TRACKING_URI names a tracking server."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI"))


@contextlib.contextmanager
def service() -> Iterator[Any]:
    """The MLflow client of the server that MLFLOW_TRACKING_URI names.

    Raises
        OperationalError: none is named, it does not answer, or it fails during the body.
        DataError: the body asks for something that it does not have.
    """
    uri = _reachable()
    mlflow_client.prepare()
    from mlflow import MlflowClient, set_tracking_uri
    from mlflow.exceptions import MlflowException

    set_tracking_uri(uri)
    try:
        with _quiet():
            yield MlflowClient(uri)
    except MlflowException as error:
        message = str(error.message).splitlines()[0]
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise DataError(
                message, f"the registry at {uri}", "check the name, or run `mcti register` first"
            ) from error
        raise OperationalError(f"MLflow failed ({message})", uri, "see the log of the server and try again") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """MLflow prints addresses on stdout, where a program expects our one JSON document, and hints on stderr."""
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
    """A run to log into, its id: the one of MLFLOW_RUN_ID where Kubeflow opened it, else a new one.

    A new run ends FINISHED, or FAILED when the body raises; a joined one is left open for its owner. In a task of a
    pipeline a new run lies below the one of its pipeline run.
    """
    import mlflow

    client = mlflow.MlflowClient()
    joined = joined_run(client)
    if joined:
        with _kept_joined(), mlflow.start_run(run_id=joined, nested=True):
            mlflow.set_tags({**tags, **origin_tags()})
            yield joined
        return
    above = resumed_parent(client) if lineage.pipeline_run() else ""
    mlflow.set_experiment(experiment)
    try:
        with mlflow.start_run(run_name=name, tags={**tags, **(below(above) if above else {})}) as active:
            yield str(active.info.run_id)
    except Exception as error:
        if above:
            resumption.end_again(client, above, f"{name}: {error}")
        raise


@contextlib.contextmanager
def _kept_joined() -> Iterator[None]:
    """MLflow removes MLFLOW_RUN_ID from the environment when any run ends; what follows in this task joins it too."""
    before = os.environ.get("MLFLOW_RUN_ID")
    try:
        yield
    finally:
        if before:
            os.environ["MLFLOW_RUN_ID"] = before


def joined_run(client: Any) -> str:
    """The run that Kubeflow's MLflow plugin opened for this task (MLFLOW_RUN_ID), if our server has it; else "".

    The plugin may point at another server than MLFLOW_TRACKING_URI: a run of that one cannot be joined here, and
    MLflow's own functions must not try to.
    """
    from mlflow.exceptions import MlflowException

    named = os.environ.get("MLFLOW_RUN_ID", "")
    try:
        if named:
            client.get_run(named)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        told = f"warning: MLFLOW_RUN_ID {named} is no run of this MLflow: a run of our own is opened"
        print(told, file=sys.stderr)  # noqa: T201  (warnings are silent while MLflow's client is used)
        del os.environ["MLFLOW_RUN_ID"]
        return ""
    return named


def resumed_parent(client: Any) -> str:
    """As `parent`; a run that had ended is open again, with the lease of its retraining.

    Raises
        LeaseTaken: another run is retraining the model by now.
    """
    above = parent(client)
    if not os.environ.get("MLFLOW_RUN_ID"):  # a run of Kubeflow's is opened and ended by Kubeflow
        resumption.resume(client, above)
    return above


def parent(client: Any) -> str:
    """The run of MLflow that stands for this task's pipeline run, made unless it is there; its id.

    Where Kubeflow's MLflow plugin has opened a run for this task, it is the one above that: nothing is doubled.
    """
    joined = joined_run(client)
    if joined:
        return str(client.get_run(joined).data.tags.get(PARENT) or joined)
    number = experiment_id(client, os.environ.get("MCTI_EXPERIMENT") or "mcti")
    made = _pipeline_runs(client, number)
    if not made:
        origin = lineage.Origin(lineage.pipeline_run(), os.environ.get("MCTI_PIPELINE", ""))
        tags = {**origin.tags(), "mcti.step": "pipeline", **lineage.code()}
        ours = client.create_run(number, run_name=f"{origin.pipeline.partition('@')[0]} {origin.run}", tags=tags)
        time.sleep(_SETTLE_SECONDS)  # MLflow has no lock: the earliest wins, and all must have seen it
        made = _pipeline_runs(client, number)
        if made[0] != ours.info.run_id:  # a task beside us was first
            client.delete_run(ours.info.run_id)
    return made[0]


def left_running(client: Any, above: str) -> list[str]:
    """Runs of this task's pipeline run, but for its own `above`, whose process was killed before it could end them."""
    experiments = [found.experiment_id for found in client.search_experiments()]
    query = f"tags.`{lineage.KFP_RUN}` = '{lineage.pipeline_run()}' and attributes.status = 'RUNNING'"
    found = (str(run.info.run_id) for run in client.search_runs(experiments, query))
    return [run for run in found if run != above]


def origin_tags() -> dict[str, str]:
    """Tags by which a run that Kubeflow opened is found as one of ours is; none outside a pipeline run."""
    run = lineage.pipeline_run()
    return {**lineage.Origin(run, os.environ.get("MCTI_PIPELINE", "")).tags(), **lineage.code()} if run else {}


def below(above: str) -> dict[str, str]:
    """Tags of a run below `above`, the run of this task's pipeline run."""
    return {PARENT: above, lineage.KFP_RUN: lineage.pipeline_run()}


def experiment_id(client: Any, name: str) -> str:
    """The number of an experiment, made unless it is there."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)  # somebody beside us was first
    return str(found.experiment_id)


def _pipeline_runs(client: Any, number: str) -> list[str]:
    query = f"tags.`{lineage.KFP_RUN}` = '{lineage.pipeline_run()}' and tags.`mcti.step` = 'pipeline'"
    found = client.search_runs([number], query, order_by=["start_time ASC"])
    return [str(run.info.run_id) for run in found]


@contextlib.contextmanager
def again(run_id: str) -> Iterator[str]:
    """A finished run, opened to log more into it."""
    import mlflow

    with _kept_joined(), mlflow.start_run(run_id=run_id, nested=True):
        yield run_id


def log_params(tree: Mapping[str, Any]) -> None:
    """The settings as flat `section.key` parameters; long values are cut at MLflow's 6000 characters."""
    import mlflow

    mlflow.log_params({key: str(value)[:6000] for key, value in _flat(tree)})


def log_dataset(name: str, digest: str, rows: Mapping[str, int], context: str = "training") -> None:
    """Tie the run to a version of the data by its MD5; `context` says what the run did with it."""
    import mlflow
    import pandas as pd

    table = pd.DataFrame({"counted": list(rows), "number": list(rows.values())})
    # MLflow keeps 36 characters of a digest; an MD5 has 32.
    mlflow.log_input(mlflow.data.from_pandas(table, name=name, digest=digest), context=context)


def log_files(paths: Mapping[Path, str]) -> None:
    """Files and folders as artifacts: {path: folder among the artifacts}."""
    import mlflow

    for path, folder in paths.items():
        (mlflow.log_artifacts if path.is_dir() else mlflow.log_artifact)(str(path), folder)


def log_json(client: Any, run_id: str, path: str, document: BaseModel) -> None:
    """A document as a JSON artifact of a finished run."""
    client.log_dict(run_id, document.model_dump(mode="json"), path)


def close_stale(client: Any, experiment: str, tag: str, value: str) -> None:
    """Mark runs FAILED that a killed process left RUNNING under the same tag."""
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return
    query = f"tags.`{tag}` = '{value}' and attributes.status = 'RUNNING'"
    for old in client.search_runs([found.experiment_id], query):
        client.set_terminated(old.info.run_id, "FAILED")


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _reachable() -> str:
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        raise OperationalError("no MLflow server is named", "MLFLOW_TRACKING_URI", service_hint("MLFLOW_TRACKING_URI"))
    if urlsplit(uri).password is not None:
        hint = "leave it out; a server asks for MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        raise OperationalError("logs would show the password in MLflow's address", "MLFLOW_TRACKING_URI", hint)
    if not uri.startswith(("http://", "https://")):
        return uri  # a database or a managed service that has no health page
    patience = _patience()
    with log_while_waiting(f"MLflow at {uri}", patience + _ASK_SECONDS):
        until = time.monotonic() + patience
        while True:
            try:
                _ask(uri)
            except OperationalError:
                if time.monotonic() >= until:
                    raise
                time.sleep(min(2.0, patience / 10))  # a server that is started anew is back within seconds
            else:
                return uri


def _patience() -> float:
    """Seconds for which a server that does not answer is asked again: MCTI_PATIENCE_SECONDS, else none."""
    text = os.environ.get("MCTI_PATIENCE_SECONDS") or "0"
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:  # also of "nan" and "inf": such a wait would have no end
        raise OperationalError(f"{text!r} is not a number of seconds", "MCTI_PATIENCE_SECONDS", "write 0 or more")
    return seconds


def _ask(uri: str) -> None:
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_ASK_SECONDS) as answer:  # noqa: S310  (checked above)  # nosec B310
            answer.read()
    except urllib.error.HTTPError as error:
        error.close()  # it answers; whether it lets us in shows with the first request
    except (urllib.error.URLError, OSError, ValueError) as error:
        what = f"MLflow does not answer ({error})"
        raise OperationalError(what, uri, service_hint("MLFLOW_TRACKING_URI")) from error
