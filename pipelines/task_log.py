"""The complete log of one task of a run, by the name that `mcti pipeline status` prints."""

from mcti.errors import DataError, OperationalError, did_you_mean
from mcti.pipelines import client, kubectl, logs
from mcti.pipelines.status import task_rows


def task_log(run: str, task: str, host: str, namespace: str | None = None) -> str:
    """The complete log of the last attempt of a task.

    task        name as in the output of `mcti pipeline status`: train:0

    Raises
        DataError: the run has no such task, or the task has not started.
        OperationalError: the pod was deleted, and the archive does not have the log.
    """
    with client.service(host) as service:
        rows = {row.name: row for row in task_rows(service.get_run(run))}
        if task not in rows:
            raise DataError(f"no task {task!r}", f"run {run}", did_you_mean(task, rows))
        row = rows[task]
        if not row.pods:
            reason = row.reason or row.state.lower()
            raise DataError(f"task {task} has no log: {reason}", f"run {run}", "see mcti pipeline status")
        text = logs.read(service, run, row, kubectl.list_pods(run, namespace).items)
    if text:
        return text
    hint = (
        "pods are deleted an hour after the end (Argo's time to live): see the artifact executor-logs of the task in "
        "Kubeflow's user interface, or the tag mcti.error of the step in MLflow; to keep the next logs, enable Argo's "
        "archiveLogs with a keyFormat that matches the archive path of the API server"
    )
    what = f"the log of {task} cannot be read any more: neither its pod nor the archive of the API server has it"
    raise OperationalError(what, host, hint)
