"""Compile a pipeline; send it to Kubeflow Pipelines, put it on a schedule, ask how a run is doing.

Over the official SDK. Who we are comes from the environment alone, so that no secret stands on a command line:
KFP_TOKEN (bearer token) or KFP_COOKIES (session of a login page such as Dex), KFP_CA_CERT (file, own authority),
KFP_CLIENT_CERT and KFP_CLIENT_KEY (files, mutual TLS).
"""

import contextlib
import hashlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api
import urllib3
from kfp import compiler

from mcti import storage, versions
from mcti.errors import DataError, EnvironmentTrouble, UsageError, did_you_mean
from mcti.params import Settings
from mcti.steps.retraining import pinned_to
from pipelines import checks
from pipelines.inference import inference
from pipelines.retraining import retraining
from pipelines.training import training

PIPELINES: dict[str, Callable[[Settings, str, str], Any]] = {
    "training": training,
    "retraining": retraining,
    "inference": inference,
}


def compile_to(settings: Settings, data: str | None, out: Path, kind: str = "training") -> dict[str, str]:
    """Write a pipeline of these settings as YAML; the same settings give the same bytes.

    data    version of the sources; None: the MD5 that DVC recorded beside their folder, or none at all
    kind    training | retraining | inference
    """
    if kind not in PIPELINES:
        raise UsageError(f"no pipeline {kind!r}", "--kind", did_you_mean(kind, PIPELINES))
    found = versions.of_source(settings.ingest.clinical) if data is None else data
    settings, name = _pinned(settings, found, kind), f"{settings.cluster.pipeline}-{kind}"
    # A definition cannot hold its own hash: the version is that of the same definition without one.
    nameless = PIPELINES[kind](settings, found, "").pipeline_spec.SerializeToString(deterministic=True)
    version = f"{name}@sha256:{hashlib.sha256(nameless).hexdigest()}"
    with storage.replacing(out) as draft:
        package = draft.with_name(f"{draft.name}.yaml")  # the compiler wants to see the ending
        try:
            compiler.Compiler().compile(PIPELINES[kind](settings, found, version), str(package))
            checks.refuse(package, settings.cluster)
            package.rename(draft)
        finally:
            package.unlink(missing_ok=True)
    return {"pipeline": name, "version": version, "file": str(out), "sha256": _sha256(out), "data": found}


def _pinned(settings: Settings, data: str, kind: str) -> Settings:
    """With DVC's remote and a version of a folder: the sources are read from there; retraining finds its own."""
    remote = settings.cluster.remote
    if remote is None or not data.endswith(".dir") or kind == "retraining":
        return settings
    return settings.model_copy(update={"ingest": pinned_to(settings.ingest, remote, data)})


def submit(
    settings: Settings, data: str | None, host: str, namespace: str | None, kind: str = "training"
) -> dict[str, str]:
    """Start one run now; its id and address."""
    with _package(settings, data, kind) as (package, about), _service(host) as service:
        started = service.create_run_from_pipeline_package(
            str(package),
            run_name=f"{about['pipeline']} {about['sha256'][:8]}",
            experiment_name=settings.cluster.experiment,
            namespace=namespace,
        )
    return {"run": started.run_id, "experiment": settings.cluster.experiment, **_public(about)}


def schedule(
    settings: Settings, data: str | None, host: str, namespace: str | None, kind: str = "retraining"
) -> dict[str, object]:
    """Run a pipeline by `cluster.cron`: exactly one schedule of its name, replaced only when something changed."""
    cron = settings.cluster.cron
    with _package(settings, data, kind) as (package, about), _service(host) as service:
        name, mark = about["pipeline"], f"sha256 {about['sha256']}"
        experiment = service.create_experiment(name=settings.cluster.experiment, namespace=namespace).experiment_id
        ours = [found for found in _recurring(service, experiment) if found.display_name == name]
        if len(ours) == 1 and _runs(ours[0], mark, cron):
            return {"schedule": ours[0].recurring_run_id, "changed": False, "cron": cron, **_public(about)}
        for old in ours:  # a recurring run cannot be updated; first away, so that there are never two
            service.delete_recurring_run(old.recurring_run_id)
        try:
            made = service.create_recurring_run(
                experiment,
                name,
                description=mark,
                cron_expression=cron,
                max_concurrency=1,
                no_catchup=True,
                pipeline_package_path=str(package),
            )
        except kfp_server_api.ApiException as error:
            if not ours:
                raise
            told = _refusal(error, host)
            raise type(told)(told.what, told.where, f"{name} has no schedule now: call again; {told.mend}") from error
    return {"schedule": made.recurring_run_id, "changed": True, "cron": cron, **_public(about)}


def status(run: str, host: str) -> dict[str, object]:
    """State of a run, and of each of its tasks."""
    with _service(host) as service:
        found = service.get_run(run)
    tasks = found.run_details.task_details if found.run_details else None
    error = found.error.message if found.error else None
    states = {task.display_name: str(task.state) for task in tasks or ()}
    return {"run": run, "name": found.display_name, "state": str(found.state), "error": error, "tasks": states}


class _Client(kfp.Client):
    """The SDK's client, with client certificates, and without its patience."""

    def _load_config(self, *arguments: Any, **named: Any) -> Any:
        config = super()._load_config(*arguments, **named)
        config.cert_file = os.environ.get("KFP_CLIENT_CERT")
        config.key_file = os.environ.get("KFP_CLIENT_KEY")
        return config

    def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:  # noqa: ARG002  (the SDK's signature)
        """One question, one answer: the SDK asks five times in half a minute, also who has no right to ask."""
        return self._healthz_api.healthz_service_get_healthz()


@contextlib.contextmanager
def _service(host: str) -> Iterator[_Client]:
    """A client of the API server; what goes wrong with it becomes one clear error."""
    try:
        # The SDK prints addresses for people; our standard output may be one JSON document.
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore", FutureWarning)
            yield _Client(
                host=host,
                existing_token=os.environ.get("KFP_TOKEN"),
                cookies=os.environ.get("KFP_COOKIES"),
                ssl_ca_cert=os.environ.get("KFP_CA_CERT"),
            )
    except kfp_server_api.ApiException as error:
        raise _refusal(error, host) from error
    except urllib3.exceptions.HTTPError as error:
        what = f"Kubeflow Pipelines does not answer ({type(error).__name__})"
        raise EnvironmentTrouble(what, host, "check --host, and the port-forward if you use one") from error


def _refusal(error: kfp_server_api.ApiException, host: str) -> EnvironmentTrouble | DataError:
    if error.status in {401, 403}:
        mend = "set KFP_TOKEN, KFP_COOKIES or KFP_CLIENT_CERT for a user who may do this"
        return EnvironmentTrouble(f"Kubeflow Pipelines refused us ({error.status})", host, mend)
    if error.status == 404:
        return DataError("no such run or experiment", host, "check the id: mcti pipeline submit printed it")
    return EnvironmentTrouble(f"Kubeflow Pipelines answered {error.status}: {error.reason}", host, "see its log")


@contextlib.contextmanager
def _package(settings: Settings, data: str | None, kind: str) -> Iterator[tuple[Path, dict[str, str]]]:
    with tempfile.TemporaryDirectory(prefix="mcti-pipeline-") as folder:
        package = Path(folder, "pipeline.yaml")
        yield package, compile_to(settings, data, package, kind)


def _recurring(service: _Client, experiment: str) -> Iterator[Any]:
    token = ""  # nosec B105
    while True:
        page = service.list_recurring_runs(page_token=token, page_size=100, experiment_id=experiment)
        yield from page.recurring_runs or ()
        token = page.next_page_token or ""
        if not token:
            return


def _runs(found: Any, mark: str, cron: str) -> bool:
    """Whether a recurring run is this pipeline at these times, and nobody has put it to rest."""
    clock = found.trigger.cron_schedule  # none: every so many seconds, as a hand may have chosen on KFP's page
    return bool(found.status != "DISABLED" and found.description == mark and clock and clock.cron == cron)


def _public(about: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in about.items() if key != "file"}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
