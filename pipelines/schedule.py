"""One schedule a pipeline: made, replaced when something changed, and read back as enabled."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kfp_server_api

from mcti.errors import OperationalError
from mcti.params import Settings
from pipelines import client, cron
from pipelines.submit import package, public

CONFIRM_SECONDS = 45.0
"""A new schedule is STATUS_UNSPECIFIED until its controller has seen it and the persistence agent has reported it."""
PAUSE_SECONDS = 1.0


def schedule(
    settings: Settings, data: str | None, host: str, namespace: str | None, kind: str = "retraining"
) -> dict[str, object]:
    """Run a pipeline by `cluster.cron`: exactly one schedule of its name, replaced only when something changed.

    Its state is what the server says when it is asked again; `next` is the next time in UTC.

    Raises
        OperationalError: the server does not have it enabled afterwards.
    """
    with client.service(host) as service:
        client.need_version(service.about(), settings.cluster.kfp_version, host)
        client.need_namespace(service.about(), namespace or service.get_user_namespace(), host)
        with package(settings, data, kind) as (file, about):
            experiment = service.create_experiment(name=settings.cluster.experiment, namespace=namespace).experiment_id
            made, changed = _replace(service, experiment, file, about, settings.cluster.cron, host)
            return _read_back(service, made, host) | {"changed": changed, **public(about)}


def _replace(
    service: client.Client, experiment: str, file: Path, about: dict[str, str], clock: str, host: str
) -> tuple[str, bool]:
    """The id of the one schedule of this pipeline, and whether it had to be made."""
    name, mark = about["pipeline"], f"sha256 {about['sha256']}"
    ours = [found for found in _recurring(service, experiment) if found.display_name == name]
    if len(ours) == 1 and _runs(ours[0], mark, clock):
        return str(ours[0].recurring_run_id), False
    for old in ours:  # a recurring run cannot be updated; first away, so that there are never two
        service.delete_recurring_run(old.recurring_run_id)
    try:
        made = service.create_recurring_run(
            experiment,
            name,
            description=mark,
            cron_expression=clock,
            max_concurrency=1,
            no_catchup=True,
            pipeline_package_path=str(file),
        )
    except kfp_server_api.ApiException as error:
        if not ours:
            raise
        told = client.refusal(error, host)
        raise type(told)(told.what, told.where, f"{name} has no schedule now: call again; {told.hint}") from error
    return str(made.recurring_run_id), True


def _read_back(service: client.Client, recurring_run: str, host: str) -> dict[str, object]:
    """What the server has now: a schedule that is not enabled would start nothing, and nobody would notice."""
    found = _confirmed(service, recurring_run)
    if found.status == "DISABLED":
        hint = f"enable it: kfp --endpoint {host} recurring-run enable {recurring_run}"
        raise OperationalError(f"schedule {recurring_run} is DISABLED, not ENABLED", host, hint)
    if found.status != "ENABLED":
        state = found.status or "STATUS_UNSPECIFIED"  # the server leaves out a value that is its type's default
        what = f"schedule {recurring_run} is {state} after {CONFIRM_SECONDS:.0f} s, not ENABLED"
        hint = "see the deployments ml-pipeline-scheduledworkflow and ml-pipeline-persistenceagent, then call again"
        raise OperationalError(what, host, hint)
    clock = found.trigger.cron_schedule.cron
    upcoming = cron.next_time(clock, datetime.now(UTC))
    when = upcoming.strftime("%Y-%m-%d %H:%M:%S UTC") if upcoming else "never"
    return {"schedule": recurring_run, "status": "ENABLED", "cron": clock, "next": when}


def _confirmed(service: client.Client, recurring_run: str) -> Any:
    """The schedule, as soon as its status is known; at the latest after CONFIRM_SECONDS."""
    until = time.monotonic() + CONFIRM_SECONDS
    found = service.get_recurring_run(recurring_run)
    while found.status not in ("ENABLED", "DISABLED") and time.monotonic() < until:
        time.sleep(PAUSE_SECONDS)
        found = service.get_recurring_run(recurring_run)
    return found


def _recurring(service: client.Client, experiment: str) -> Iterator[Any]:
    token = ""  # nosec B105
    while True:
        page = service.list_recurring_runs(page_token=token, page_size=100, experiment_id=experiment)
        yield from page.recurring_runs or ()
        token = page.next_page_token or ""
        if not token:
            return


def _runs(found: Any, mark: str, cron: str) -> bool:
    """Whether a recurring run is this pipeline at these times, and nobody has disabled it."""
    clock = found.trigger.cron_schedule  # none: every so many seconds, as somebody may have chosen on KFP's page
    return bool(found.status != "DISABLED" and found.description == mark and clock and clock.cron == cron)
