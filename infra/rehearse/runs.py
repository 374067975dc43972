"""Training, retraining, inference and a schedule, submitted and awaited with the commands of mcti."""

import os
from typing import Any

from infra.rehearse.session import END_STATES, MODEL, Session, save_facts
from infra.rehearse.shell import MissingRequirement, UnexpectedResult, wait_until
from infra.rehearse.tracking import run_status
from infra.rehearse.work import FIRST_COHORT, SECOND_COHORT, publish_cohort, write_settings

HOUR = 3600.0


def submit_training(session: Session) -> str:
    """Upload the first cohort to S3, submit a training and wait for its first task.

    Raises MissingRequirement when the pods of the run cannot start.
    """
    write_settings(session)
    session.facts["data"] = publish_cohort(session, *FIRST_COHORT)
    run = session.facts["training"] = session.submit("training", "--data", session.facts["data"])

    blocked: list[str] = []

    def started() -> Any:
        status = session.pipeline("status", run)
        if status["state"] in END_STATES or any(task["state"] in {"RUNNING", "SUCCEEDED"} for task in status["tasks"]):
            return True
        # On a small node a pod may wait for resources for some time; a missing object blocks it at every check.
        blocked[:] = [*blocked, status["problems"][0]] if status["problems"] else []
        if len(blocked) > 6:
            raise MissingRequirement(f"pods of run {run} cannot start: {blocked[-1]}")
        return False

    wait_until(f"a task of run {run}", started, 900 * session.options.patience, every=15)
    return f"run {run} on {sum(FIRST_COHORT)} patients, version {session.facts['data']}"


def await_training(session: Session) -> str:
    """Wait for the training: it must succeed despite the faults and register a version."""
    run = session.facts["training"]
    status = session.wait_for_success(run, 2 * HOUR)
    retried = [f"{task['name']} {task['attempts']}x" for task in status["tasks"] if task["attempts"] > 1]
    with session.port_forwards() as environment:
        versions = session.mcti("lineage", f"kfp-run:{run}", **environment)
        session.mcti("ledger", "verify", "--name", MODEL, **environment)
        status = run_status(environment["MLFLOW_TRACKING_URI"], MODEL, run)
    if not _versions(versions):
        raise UnexpectedResult(f"run {run} registered no version of {MODEL}")
    if status != "FINISHED":
        raise UnexpectedResult(f"the status of the MLflow run is {status}, not FINISHED")
    return f"succeeded, FINISHED in MLflow, a version registered; retried: {', '.join(retried) or 'none'}"


def run_retraining(session: Session) -> str:
    """Upload new patients and run a retraining, which must train a challenger."""
    write_settings(session)
    session.facts["data"] = publish_cohort(session, *SECOND_COHORT)
    run = session.submit("retraining")
    status = session.wait_for_success(run, 2 * HOUR)
    executed = _executed_tasks(status)
    if not any(name.startswith("train") for name in executed):
        raise UnexpectedResult(f"run {run} succeeded without a training; tasks: {', '.join(sorted(executed))}")
    return f"run {run}: {len(executed)} tasks, a challenger trained and evaluated"


def retrain_without_new_data(session: Session) -> str:
    """Repeat the retraining without a newer data version: it must end after its first task."""
    run = session.submit("retraining")
    status = session.wait_for_success(run, HOUR)
    if unexpected := [name for name in _executed_tasks(status) if name.startswith(("ingest", "extract", "train"))]:
        raise UnexpectedResult(f"run {run} also executed {', '.join(unexpected)}")
    log = str(session.pipeline("logs", run, "detect-new-data"))
    if "nothing new" not in log:
        raise UnexpectedResult(f"run {run} ended after detect-new-data, but its log does not contain `nothing new`")
    return f"run {run} ended after detect-new-data: nothing new"


def run_inference(session: Session) -> str:
    """Run the inference of the champion on the latest cohort."""
    run = session.submit("inference", "--data", session.facts["data"])
    return f"run {run}: {len(_executed_tasks(session.wait_for_success(run, HOUR)))} tasks"


def run_by_schedule(session: Session) -> str:
    """Schedule the retraining twice (the second call must change nothing) and wait for one scheduled run."""
    write_settings(session, cron="0 */3 * * * *")
    earlier = set(_kfp_runs(session))
    schedule = session.pipeline("schedule", namespaced=session.options.multi_user)
    session.facts["schedule"] = schedule["schedule"]
    save_facts(session)  # so that `--clean` deletes the schedule after a crash of this process
    try:
        if session.pipeline("schedule", namespaced=session.options.multi_user)["changed"]:
            raise UnexpectedResult(
                "the second call of `schedule` replaced the schedule without a change of its settings"
            )
        (run, *_) = wait_until(
            "a scheduled run", lambda: sorted(set(_kfp_runs(session)) - earlier), 900 * session.options.patience, 20
        )
        # Disabled first: the deletion of a schedule may delete the runs that it started.
        kfp_client(session).disable_recurring_run(schedule["schedule"])
        session.wait_for_success(run, HOUR)
    finally:
        unschedule(session)
        write_settings(session)
    return f"enabled; scheduled run {run} succeeded; the schedule is deleted"


def unschedule(session: Session) -> None:
    """Delete the recurring run of this rehearsal, if there is one.

    Raises MissingRequirement when the address of Kubeflow Pipelines is not set.
    """
    if schedule := session.facts.get("schedule"):
        if not session.options.host:
            raise MissingRequirement(
                f"recurring run {schedule} still exists: set HOST, the address of Kubeflow Pipelines, to delete it"
            )
        kfp_client(session).delete_recurring_run(schedule)
        del session.facts["schedule"]


def _kfp_runs(session: Session) -> list[str]:
    """Ids of the newest runs of the rehearsal's experiment."""
    service = kfp_client(session)
    namespace = session.options.runs_namespace if session.options.multi_user else None
    experiment = service.get_experiment(experiment_name=MODEL, namespace=namespace).experiment_id
    page = service.list_runs(experiment_id=experiment, namespace=namespace, page_size=50, sort_by="created_at desc")
    return [run.run_id for run in page.runs or ()]


def kfp_client(session: Session) -> Any:
    """The client of the KFP SDK, for operations that have no mcti command."""
    import kfp

    token, cookies = os.environ.get("KFP_TOKEN"), os.environ.get("KFP_COOKIES")
    authority = os.environ.get("KFP_CA_CERT")
    return kfp.Client(host=session.options.host, existing_token=token, cookies=cookies, ssl_ca_cert=authority)


def _executed_tasks(status: dict[str, Any]) -> set[str]:
    return {task["name"] for task in status["tasks"] if task["attempts"] or task["state"] == "SUCCEEDED"}


def _versions(status: Any) -> list[Any]:
    return list(status.get("versions", status) if isinstance(status, dict) else status)
