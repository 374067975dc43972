"""A task that fails once: does this Kubeflow try failed tasks again (infra/runbook.md, Prepare Kubeflow Pipelines)."""

import time

from kfp import compiler, dsl, kubernetes

from infra.rehearse.runs import client_of
from infra.rehearse.session import MODEL, REMOTE, Session
from infra.rehearse.shell import Differs


def fails_once(marker: str) -> None:  # noqa: D103  (the text becomes the task's; KFP shows it)
    from mcti import s3

    if not s3.exists(marker):
        s3.put(marker, b"first attempt")
        raise SystemExit("the first attempt fails on purpose: the second one succeeds")
    print("the second attempt")  # noqa: T201


def retried(session: Session) -> str:
    """Submit a pipeline of that one task, which may be tried twice more."""
    package = session.work / "fails-once.yaml"
    compiler.Compiler().compile(_pipeline(session.options.image), str(package))
    run = _submit(session, str(package))
    found = session.ended(run, 1800)
    attempts = max((task["attempts"] for task in found["tasks"]), default=0)
    if found["state"] != "SUCCEEDED":
        hint = "set COMPILED_PIPELINE_SPEC_PATCH (infra/runbook.md, Prepare Kubeflow Pipelines)"
        raise Differs(f"run {run} ended {found['state']} after {attempts} attempts: {hint}")
    return f"run {run} succeeded at attempt {attempts}"


def _pipeline(image: str) -> object:
    component = dsl.component(base_image=image, install_kfp_package=False)(fails_once)

    @dsl.pipeline(name=f"{MODEL}-fails-once")
    def pipeline(marker: str) -> None:
        task = component(marker=marker).set_caching_options(False)
        task.set_retry(2, backoff_duration="5s", backoff_factor=2.0, backoff_max_duration="3600s")
        task.set_cpu_request("100m").set_cpu_limit("1").set_memory_request("256Mi").set_memory_limit("1Gi")
        kubernetes.set_security_context(task, run_as_user=10001, run_as_group=10001, run_as_non_root=True)
        kubernetes.empty_dir_mount(task, "scratch", "/tmp")  # noqa: S108
        keys = {"access_key": "AWS_ACCESS_KEY_ID", "secret_key": "AWS_SECRET_ACCESS_KEY"}
        kubernetes.use_secret_as_env(task, "mcti-s3", keys)
        kubernetes.use_config_map_as_env(task, "mcti-services", {"s3": "AWS_ENDPOINT_URL_S3"})

    return pipeline


def _submit(session: Session, package: str) -> str:
    started = client_of(session).create_run_from_pipeline_package(
        package,
        arguments={"marker": f"{REMOTE}/fails-once/{time.time_ns()}"},
        run_name=f"{MODEL} fails once",
        experiment_name=MODEL,
        namespace=session.options.runs_namespace if session.options.multi_user else None,
        enable_caching=False,
    )
    return str(started.run_id)
