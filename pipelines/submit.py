"""Compile a pipeline, and start it on Kubeflow Pipelines as one run."""

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from kfp import compiler

from mcti import storage, versions
from mcti.errors import UsageError, did_you_mean
from mcti.params import ExtractParams, IngestParams, Settings
from mcti.pipelines import checks, client
from mcti.pipelines.inference import inference
from mcti.pipelines.pretraining import pretraining
from mcti.pipelines.retraining import retraining
from mcti.pipelines.training import training
from mcti.steps.retraining import pinned_to

PIPELINES: dict[str, Callable[[Settings, str, str], Any]] = {
    "training": training,
    "retraining": retraining,
    "inference": inference,
    "pretraining": pretraining,
}


def compile_to(
    settings: Settings, data: str | None, out: Path, pipeline: str = "training", *, local: bool = False
) -> dict[str, str]:
    """Write a pipeline of these settings as YAML; the same settings give the same bytes.

    data        version of the sources; None: the MD5 that DVC recorded next to their folder, or none
    pipeline    training | retraining | inference | pretraining
    local       for a run on this machine: folders of it may be sources

    Raises
        UsageError: unknown pipeline, or the compiled pipeline would not run on a cluster.
    """
    if pipeline not in PIPELINES:
        raise UsageError(f"unknown pipeline {pipeline!r}", "--kind", did_you_mean(pipeline, PIPELINES))
    if pipeline == "pretraining":  # it reads no source tables
        version_of_data = ""
    else:
        version_of_data = versions.source_md5(settings.ingest.clinical) if data is None else data
    settings = _with_pinned_sources(settings, version_of_data, pipeline)
    name = f"{settings.cluster.pipeline}-{pipeline}"
    build = PIPELINES[pipeline]
    # A definition cannot contain its own hash: the version is the hash of the same definition without a version.
    unversioned = build(settings, version_of_data, "").pipeline_spec.SerializeToString(deterministic=True)
    version = f"{name}@sha256:{hashlib.sha256(unversioned).hexdigest()}"
    with storage.replacing(out) as draft:
        package = draft.with_name(f"{draft.name}.yaml")  # the compiler checks the suffix
        try:
            compiler.Compiler().compile(build(settings, version_of_data, version), str(package))
            checks.require_valid(package, settings.cluster, local=local)
            package.rename(draft)
        finally:
            package.unlink(missing_ok=True)
    sha256 = hashlib.sha256(out.read_bytes()).hexdigest()
    return {"pipeline": name, "version": version, "file": str(out), "sha256": sha256, "data": version_of_data}


def _with_pinned_sources(settings: Settings, data: str, pipeline: str) -> Settings:
    """Settings that read the sources from DVC's remote, where both are named; retraining pins them when it runs."""
    remote = settings.cluster.remote
    if remote is None or not data.endswith(".dir") or pipeline == "retraining":
        return settings
    sources = pinned_to(settings.ingest, remote, data)
    return settings.model_copy(update={"ingest": sources, "extract": _with_pinned_import(settings, sources)})


def _with_pinned_import(settings: Settings, sources: IngestParams) -> ExtractParams:
    """The section extract; ready-made features in the folder of the sources are read from its version, too."""
    extract, folder = settings.extract, PurePosixPath(settings.ingest.clinical).parent
    if extract.import_ is None or not PurePosixPath(extract.import_.path).is_relative_to(folder):
        return extract
    below = PurePosixPath(extract.import_.path).relative_to(folder)
    path = storage.join(sources.clinical.rpartition("/")[0], *below.parts)
    return extract.model_copy(update={"import_": extract.import_.model_copy(update={"path": path})})


def submit(
    settings: Settings, data: str | None, host: str, namespace: str | None, pipeline: str = "training"
) -> dict[str, str]:
    """Start one run; returns its id and what was compiled.

    Raises
        OperationalError: the server is not reachable, or refuses the request.
        UsageError: unknown pipeline, or the compiled pipeline would not run on a cluster.
    """
    with client.service(host) as service:
        client.require_version(service.about(), settings.cluster.kfp_version, host)
        client.require_namespace(service.about(), namespace or service.get_user_namespace(), host)
        with package(settings, data, pipeline) as (file, compiled):
            started = service.create_run_from_pipeline_package(
                str(file),
                run_name=f"{compiled['pipeline']} {compiled['sha256'][:8]}",
                experiment_name=settings.cluster.experiment,
                namespace=namespace,
            )
    return {"run": started.run_id, "experiment": settings.cluster.experiment, **without_file(compiled)}


@contextlib.contextmanager
def package(settings: Settings, data: str | None, pipeline: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """A temporary compiled file, and the result of `compile_to`."""
    with tempfile.TemporaryDirectory(prefix="mcti-pipeline-") as folder:
        file = Path(folder, "pipeline.yaml")
        yield file, compile_to(settings, data, file, pipeline)


def without_file(compiled: dict[str, str]) -> dict[str, str]:
    """The result of `compile_to` without the path of a file that was temporary."""
    return {key: value for key, value in compiled.items() if key != "file"}
