"""Tasks that fail once: check that Kubeflow retries failed tasks (infra/runbook.md, Prepare Kubeflow Pipelines)."""

import time
from typing import Any

from kfp import compiler, dsl, kubernetes

from infra.rehearse.runs import kfp_client
from infra.rehearse.session import MODEL, REMOTE, Session
from infra.rehearse.shell import UnexpectedResult

_HINT = "set COMPILED_PIPELINE_SPEC_PATCH (infra/runbook.md, Prepare Kubeflow Pipelines)"
_LOOP_HINT = "if the task outside the loop was retried, this Kubeflow ignores retries inside ParallelFor"


def fails_once(folder: str, position: str) -> None:  # noqa: D103  (KFP would show a docstring as the description of the task)
    from mcti import s3

    marker = f"{folder}/{position}"
    if not s3.exists(marker):
        s3.put(marker, b"first attempt")
        raise SystemExit("the first attempt fails on purpose: the second one succeeds")
    print("the second attempt")  # noqa: T201


def retry_outside_loop(session: Session) -> str:
    """Submit a pipeline of two such tasks with two retries each; check the task outside the loop."""
    session.facts["fails_once"] = _submit(session)
    return _observe_retry(session, session.facts["fails_once"], in_loop=False)


def retry_in_loop(session: Session) -> str:
    """Check the task inside the ParallelFor, whose retries Kubeflow may ignore (kubeflow/pipelines#12389).

    It uses the run of the step `retry` once. Alone, or a second time, it submits a new run, since the configuration of
    the cluster may have changed.
    """
    return _observe_retry(session, session.facts.pop("fails_once", None) or _submit(session), in_loop=True)


def _observe_retry(session: Session, run: str, *, in_loop: bool) -> str:
    """State and number of attempts of one of the two tasks.

    Raises UnexpectedResult when it did not succeed at its second attempt, independent of the other task.
    """
    status = session.wait_for_end(run, 1800)
    # `mcti pipeline status` adds the number of the iteration to the name of a task in a loop.
    task = next((row for row in status["tasks"] if (":" in row["name"]) is in_loop), None)
    if task is None or not task["attempts"]:
        raise UnexpectedResult(f"the task did not run; run {run} ended {status['state']}")
    observed = f"{task['name']} of run {run} ended {task['state']} after {_attempts(task['attempts'])}"
    if task["state"] != "SUCCEEDED":
        raise UnexpectedResult(f"{observed}: {_LOOP_HINT if in_loop else _HINT}")
    if task["attempts"] != 2:
        raise UnexpectedResult(observed)
    return observed


def _attempts(count: int) -> str:
    return f"{count} attempt{'' if count == 1 else 's'}"


def _pipeline(image: str) -> object:
    component = dsl.component(base_image=image, install_kfp_package=False)(fails_once)

    @dsl.pipeline(name=f"{MODEL}-fails-once")
    def pipeline(folder: str) -> None:
        _configure(component(folder=folder, position="outside"))
        with dsl.ParallelFor(["inside"]) as position:
            _configure(component(folder=folder, position=position))

    return pipeline


def _configure(task: Any) -> None:
    """Set retries, resources, security context and Secrets of a task."""
    task.set_caching_options(False)
    task.set_retry(2, backoff_duration="5s", backoff_factor=2.0, backoff_max_duration="3600s")
    task.set_cpu_request("100m").set_cpu_limit("1").set_memory_request("256Mi").set_memory_limit("1Gi")
    kubernetes.set_security_context(task, run_as_user=10001, run_as_group=10001, run_as_non_root=True)
    kubernetes.empty_dir_mount(task, "scratch", "/tmp")  # noqa: S108
    keys = {"access_key": "AWS_ACCESS_KEY_ID", "secret_key": "AWS_SECRET_ACCESS_KEY"}
    kubernetes.use_secret_as_env(task, "mcti-s3", keys)
    kubernetes.use_config_map_as_env(task, "mcti-services", {"s3": "AWS_ENDPOINT_URL_S3"})


def _submit(session: Session) -> str:
    package = session.work / "fails-once.yaml"
    package.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(_pipeline(session.options.image), str(package))
    started = kfp_client(session).create_run_from_pipeline_package(
        str(package),
        arguments={"folder": f"{REMOTE}/fails-once/{time.time_ns()}"},
        run_name=f"{MODEL} fails once",
        experiment_name=MODEL,
        namespace=session.options.runs_namespace if session.options.multi_user else None,
        enable_caching=False,
    )
    return str(started.run_id)
