"""Compile a pipeline, and send it to Kubeflow Pipelines as one run."""

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kfp import compiler

from mcti import storage, versions
from mcti.errors import UsageError, did_you_mean
from mcti.params import Settings
from mcti.steps.retraining import pinned_to
from pipelines import checks, client
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
    found = versions.source_md5(settings.ingest.clinical) if data is None else data
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
    with client.service(host) as service:
        client.need_version(service.about(), settings.cluster.kfp_version, host)
        client.need_namespace(service.about(), namespace or service.get_user_namespace(), host)
        with package(settings, data, kind) as (file, about):
            started = service.create_run_from_pipeline_package(
                str(file),
                run_name=f"{about['pipeline']} {about['sha256'][:8]}",
                experiment_name=settings.cluster.experiment,
                namespace=namespace,
            )
    return {"run": started.run_id, "experiment": settings.cluster.experiment, **public(about)}


@contextlib.contextmanager
def package(settings: Settings, data: str | None, kind: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """The compiled file, as long as it is needed, and what `compile_to` says of it."""
    with tempfile.TemporaryDirectory(prefix="mcti-pipeline-") as folder:
        package = Path(folder, "pipeline.yaml")
        yield package, compile_to(settings, data, package, kind)


def public(about: dict[str, str]) -> dict[str, str]:
    """What of it outlasts the file."""
    return {key: value for key, value in about.items() if key != "file"}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
