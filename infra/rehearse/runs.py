"""Training, retraining, inference, a schedule: submitted and waited for with the product's own commands."""

import os
from typing import Any

from infra.rehearse.session import ENDED, MODEL, Session, save
from infra.rehearse.shell import Differs, Missing, wait_until
from infra.rehearse.tracking import run_status
from infra.rehearse.work import FIRST, SECOND, publish, write_settings

HOUR = 3600.0


def submitted(session: Session) -> str:
    """A first cohort in S3, and a training on it whose first task runs."""
    write_settings(session)
    session.facts["data"] = publish(session, *FIRST)
    run = session.facts["training"] = session.submit("training", "--data", session.facts["data"])

    blocked: list[str] = []

    def started() -> Any:
        status = session.pipeline("status", run)
        if status["state"] in ENDED or any(task["state"] in {"RUNNING", "SUCCEEDED"} for task in status["tasks"]):
            return True
        # On a small node a pod waits its turn now and then; what is absent is absent at each question.
        blocked[:] = [*blocked, status["problems"][0]] if status["problems"] else []
        if len(blocked) > 6:
            raise Missing(f"pods of run {run} cannot start: {blocked[-1]}")
        return False

    wait_until(f"a task of run {run}", started, 900 * session.options.patience, every=15)
    return f"run {run} on {sum(FIRST)} patients, version {session.facts['data']}"


def trained(session: Session) -> str:
    """The training that was disturbed ends well, and its version is the champion."""
    run = session.facts["training"]
    status = session.succeeded(run, 2 * HOUR)
    again = [f"{task['name']} {task['attempts']}x" for task in status["tasks"] if task["attempts"] > 1]
    with session.outside() as environment:
        versions = session.mcti("lineage", f"kfp-run:{run}", **environment)
        session.mcti("ledger", "verify", "--name", MODEL, **environment)
        status = run_status(environment["MLFLOW_TRACKING_URI"], MODEL, run)
    if not _versions(versions):
        raise Differs(f"no version of {MODEL} came from run {run}")
    if status != "FINISHED":
        raise Differs(f"the run of MLflow stands as {status}, not FINISHED")
    return f"succeeded, FINISHED in MLflow, a version registered; tried again: {', '.join(again) or 'none'}"


def retrained(session: Session) -> str:
    """New patients arrive; the retraining finds them and trains a challenger."""
    write_settings(session)
    session.facts["data"] = publish(session, *SECOND)
    run = session.submit("retraining")
    status = session.succeeded(run, 2 * HOUR)
    ran = _ran(status)
    if not any(name.startswith("train") for name in ran):
        raise Differs(f"run {run} succeeded without a training; tasks: {', '.join(sorted(ran))}")
    return f"run {run}: {len(ran)} tasks, a challenger trained and judged"


def nothing_new(session: Session) -> str:
    """The same retraining once more: no newer version of the sources, so it ends after its first task."""
    run = session.submit("retraining")
    status = session.succeeded(run, HOUR)
    if more := [name for name in _ran(status) if name.startswith(("ingest", "extract", "train"))]:
        raise Differs(f"run {run} went on to {', '.join(more)}")
    log = str(session.pipeline("logs", run, "detect-new-data"))
    if "nothing new" not in log:
        raise Differs(f"run {run} ended after detect-new-data, but its log does not contain `nothing new`")
    return f"run {run} ended after detect-new-data: nothing new"


def inferred(session: Session) -> str:
    """Predictions and explanations of the champion for the newest cohort."""
    run = session.submit("inference", "--data", session.facts["data"])
    return f"run {run}: {len(_ran(session.succeeded(run, HOUR)))} tasks"


def scheduled(session: Session) -> str:
    """A recurring run: enabled, unchanged when scheduled again, and started by the clock within some minutes."""
    write_settings(session, cron="0 */3 * * * *")
    known = set(_kfp_runs(session))
    schedule = session.pipeline("schedule", namespaced=session.options.multi_user)
    session.facts["schedule"] = schedule["schedule"]
    save(session)  # should this process be killed, `--clean` deletes it
    try:
        if session.pipeline("schedule", namespaced=session.options.multi_user)["changed"]:
            raise Differs("scheduled again without a change, it was replaced")
        (run, *_) = wait_until(
            "a run by the clock", lambda: sorted(set(_kfp_runs(session)) - known), 900 * session.options.patience, 20
        )
        # Disabled and not deleted yet: deleting a schedule may take the runs that it started with it.
        client_of(session).disable_recurring_run(schedule["schedule"])
        session.succeeded(run, HOUR)
    finally:
        unschedule(session)
        write_settings(session)
    return f"enabled, and started run {run}, which succeeded; the schedule is deleted again"


def unschedule(session: Session) -> None:
    """Delete the recurring run of this rehearsal: nobody wants a training every three minutes."""
    if schedule := session.facts.get("schedule"):
        if not session.options.host:
            raise Missing(f"recurring run {schedule} is still there: name Kubeflow Pipelines (HOST=…) to delete it")
        client_of(session).delete_recurring_run(schedule)
        del session.facts["schedule"]


def _kfp_runs(session: Session) -> list[str]:
    """Ids of the newest runs of the rehearsal's experiment."""
    service = client_of(session)
    namespace = session.options.runs_namespace if session.options.multi_user else None
    experiment = service.get_experiment(experiment_name=MODEL, namespace=namespace).experiment_id
    page = service.list_runs(experiment_id=experiment, namespace=namespace, page_size=50, sort_by="created_at desc")
    return [run.run_id for run in page.runs or ()]


def client_of(session: Session) -> Any:
    """The SDK's client, for what has no command of ours."""
    import kfp

    token, cookies = os.environ.get("KFP_TOKEN"), os.environ.get("KFP_COOKIES")
    authority = os.environ.get("KFP_CA_CERT")
    return kfp.Client(host=session.options.host, existing_token=token, cookies=cookies, ssl_ca_cert=authority)


def _ran(status: dict[str, Any]) -> set[str]:
    return {task["name"] for task in status["tasks"] if task["attempts"] or task["state"] == "SUCCEEDED"}


def _versions(status: Any) -> list[Any]:
    return list(status.get("versions", status) if isinstance(status, dict) else status)
