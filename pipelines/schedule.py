"""One schedule per pipeline: created, replaced when something changed, and read back as enabled."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kfp_server_api

from mcti.errors import OperationalError
from mcti.params import Settings
from mcti.pipelines import client, cron
from mcti.pipelines.submit import package, without_file

CONFIRM_SECONDS = 45.0
"""A new schedule is STATUS_UNSPECIFIED until its controller has processed it and the persistence agent reported it."""
PAUSE_SECONDS = 1.0


def schedule(
    settings: Settings, data: str | None, host: str, namespace: str | None, pipeline: str = "retraining"
) -> dict[str, object]:
    """Run a pipeline by `cluster.cron`: exactly one schedule of its name, replaced only when something changed.

    The state in the result is read back from the server; `next` is the time of the next run in UTC.

    Raises
        OperationalError: the server does not report the schedule as enabled.
    """
    with client.service(host) as service:
        client.require_version(service.about(), settings.cluster.kfp_version, host)
        client.require_namespace(service.about(), namespace or service.get_user_namespace(), host)
        with package(settings, data, pipeline) as (file, compiled):
            experiment = service.create_experiment(name=settings.cluster.experiment, namespace=namespace).experiment_id
            recurring_run, changed = _replace(service, experiment, file, compiled, settings.cluster.cron, host)
            return _read_back(service, recurring_run, host) | {"changed": changed, **without_file(compiled)}


def _replace(
    service: client.Client, experiment: str, file: Path, compiled: dict[str, str], expression: str, host: str
) -> tuple[str, bool]:
    """The id of the one schedule of this pipeline, and whether it was created."""
    name, description = compiled["pipeline"], f"sha256 {compiled['sha256']}"
    existing = [schedule for schedule in _recurring_runs(service, experiment) if schedule.display_name == name]
    if len(existing) == 1 and _is_current(existing[0], description, expression):
        return str(existing[0].recurring_run_id), False
    for old in existing:  # a recurring run cannot be updated; deleted first, so that there are never two
        service.delete_recurring_run(old.recurring_run_id)
    try:
        created = service.create_recurring_run(
            experiment,
            name,
            description=description,
            cron_expression=expression,
            max_concurrency=1,
            no_catchup=True,
            pipeline_package_path=str(file),
        )
    except kfp_server_api.ApiException as error:
        if not existing:
            raise
        refusal = client.translate_api_error(error, host)
        hint = f"{name} has no schedule now: run the command again; {refusal.hint}"
        raise type(refusal)(refusal.what, refusal.where, hint) from error
    return str(created.recurring_run_id), True


def _read_back(service: client.Client, recurring_run: str, host: str) -> dict[str, object]:
    """The schedule as the server reports it: one that is not enabled would never start a run."""
    schedule = _wait_for_status(service, recurring_run)
    if schedule.status == "DISABLED":
        hint = f"enable it: kfp --endpoint {host} recurring-run enable {recurring_run}"
        raise OperationalError(f"schedule {recurring_run} is DISABLED, not ENABLED", host, hint)
    if schedule.status != "ENABLED":
        state = schedule.status or "STATUS_UNSPECIFIED"  # the server omits a value that is the default of its type
        what = f"schedule {recurring_run} is {state} after {CONFIRM_SECONDS:.0f} s, not ENABLED"
        hint = (
            "see the logs of the deployments ml-pipeline-scheduledworkflow and ml-pipeline-persistenceagent, then "
            "run the command again"
        )
        raise OperationalError(what, host, hint)
    expression = schedule.trigger.cron_schedule.cron
    upcoming = cron.next_time(expression, datetime.now(UTC))
    when = upcoming.strftime("%Y-%m-%d %H:%M:%S UTC") if upcoming else "never"
    return {"schedule": recurring_run, "status": "ENABLED", "cron": expression, "next": when}


def _wait_for_status(service: client.Client, recurring_run: str) -> Any:
    """The schedule, as soon as its status is known; at the latest after CONFIRM_SECONDS."""
    until = time.monotonic() + CONFIRM_SECONDS
    schedule = service.get_recurring_run(recurring_run)
    while schedule.status not in ("ENABLED", "DISABLED") and time.monotonic() < until:
        time.sleep(PAUSE_SECONDS)
        schedule = service.get_recurring_run(recurring_run)
    return schedule


def _recurring_runs(service: client.Client, experiment: str) -> Iterator[Any]:
    token = ""  # nosec B105
    while True:
        page = service.list_recurring_runs(page_token=token, page_size=100, experiment_id=experiment)
        yield from page.recurring_runs or ()
        token = page.next_page_token or ""
        if not token:
            return


def _is_current(schedule: Any, description: str, expression: str) -> bool:
    """Whether a recurring run has this pipeline file and these times, and is not disabled."""
    trigger = schedule.trigger.cron_schedule  # None: a periodic schedule, created in the user interface
    matches = schedule.description == description and trigger and trigger.cron == expression
    return bool(schedule.status != "DISABLED" and matches)
