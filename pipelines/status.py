"""Status of a run: one line per task, and the reason why a task failed or waits."""

import re
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from mcti.pipelines import client, kubectl, logs
from mcti.pipelines.nodes import Nodes, TaskNode, TaskStatus, tasks
from mcti.pipelines.text import one_line
from mcti.progress import format_duration
from mcti.registry.kfp_api import was_terminated

ENDED = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}
_IDLE = {"SKIPPED", "PENDING"}
DRIVER_FAILED = "its driver failed"
LOG_SECONDS = 15  # for the logs of the tasks that failed; each takes up to ten
_STRUCTURE = re.compile(
    r"^(root|executor(\(\d+\))?|exit-handler-\d+|condition-\S+|for-loop-\d+|iteration\S*|.*-driver|.*\.onExit)(\(\d+\))*$"
)
_GROUP_DRIVER = re.compile(
    r"^(root|exit-handler-\d+|condition-(branches-)?\d+|for-loop-\d+|iteration|iteration-item)-driver$"
)


class RunStatus(BaseModel):
    """A run and its tasks.

    problems    why pods cannot start, each with a hint; the command then ends with exit code 4
    notes       states that may resolve without action: a pod that has waited for a node for some seconds
    unknown     what kubectl has no rights to read
    """

    model_config = ConfigDict(frozen=True)
    run: str
    name: str
    state: str
    terminated: bool
    error: str
    tasks: tuple[TaskStatus, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """4 where pods cannot start, as for every operational error."""
        return 4 if self.problems else 0

    def lines(self) -> list[str]:
        """One line for the run, one line per task, then problems, notes and what is unknown."""
        ended = " (terminated)" if self.terminated else ""
        head = f"run {self.run} · {self.name} · {self.state}{ended}" + (f" · {self.error}" if self.error else "")
        width = max((len(task.name) for task in self.tasks), default=0)
        rows = [
            f"  {task.name:<{width}}  {task.state:<9}  {_attempts(task.attempts):<10}  {_duration(task.seconds):>9}"
            f"  {task.reason}".rstrip()
            for task in self.tasks
        ]
        labelled = (("error", self.problems), ("note", self.notes), ("unknown", self.unknown))
        return [head, *rows, *(f"{label}: {line}" for label, lines in labelled for line in lines)]


def status(run: str, host: str, namespace: str | None = None) -> RunStatus:
    """State of a run and of each task; of a failed task, the last line of its log is read.

    namespace   of the pods that kubectl reads; None: all namespaces, or that of the context without rights for all

    Raises
        OperationalError: the server is not reachable, or refuses the request.
        DataError: no such run.
    """
    with client.service(host) as service:
        details = service.get_run(run)
        pods = kubectl.list_pods(run, namespace)
        rows = _with_reasons(service, run, task_rows(details), pods.items)
    state = str(details.state)
    waits, unexplained = state not in ENDED, state == "FAILED" and not _is_explained(details, rows)
    # Also of a run without pods: where the quota is used up, not even its first driver starts.
    workflows = kubectl.list_workflows(run, namespace) if waits or unexplained else kubectl.Listing()
    messages = kubectl.messages(workflows.items)
    error, rows = _with_messages(_run_error(details), rows, messages)
    return RunStatus(
        run=run,
        name=str(details.display_name),
        state=state,
        terminated=was_terminated(state, (str(entry.state) for entry in details.state_history or ())),
        error=error,
        tasks=tuple(rows),
        problems=tuple(kubectl.problems(pods.items, messages)) if waits else (),
        notes=tuple(kubectl.notes(pods.items)) if waits else (),
        unknown=tuple(kubectl.unreadable(pods, workflows)) if waits or unexplained else (),
    )


def _run_error(run: Any) -> str:
    return " ".join(str(run.error.message or "").split()) if run.error else ""


def _is_explained(run: Any, rows: list[TaskStatus]) -> bool:
    """Whether every failed task has a reason, or a run without a failed task has an error."""
    failed = [task for task in rows if task.state == "FAILED"]
    return all(_has_reason(task) for task in failed) if failed else bool(_run_error(run))


def _has_reason(task: TaskStatus) -> bool:
    return task.reason not in ("", DRIVER_FAILED)


def _with_messages(
    error: str, rows: list[TaskStatus], messages: list[kubectl.NodeMessage]
) -> tuple[str, list[TaskStatus]]:
    """Error and rows of a run, with Argo's message for a task that failed without a log: its pod was not created."""
    failed = [message for message in messages if message.phase in ("Failed", "Error")]
    by_pod = {message.node.rpartition("-")[2]: message.text for message in failed}
    by_group = {message.name: message.text for message in failed if _GROUP_DRIVER.match(message.name)}
    filled = []
    for task in rows:
        if task.state == "FAILED" and not _has_reason(task):
            texts = [by_pod[digest] for pod in task.pods if (digest := pod.rpartition("-")[2]) in by_pod]
            text = (*texts, by_group.get(task.name, ""))[0]
            task = task.model_copy(update={"reason": ": ".join(filter(None, (task.reason, text)))})
        filled.append(task)
    if failed and not error and not any(_has_reason(task) for task in filled if task.state == "FAILED"):
        error = failed[0].text
    return error, filled


def _with_reasons(
    service: client.Client, run: str, rows: list[TaskStatus], pods: Iterable[Mapping[str, Any]]
) -> list[TaskStatus]:
    """The rows with the last log line of each failed task, within LOG_SECONDS."""
    until, completed = time.monotonic() + LOG_SECONDS, []
    for task in rows:
        if task.state == "FAILED" and time.monotonic() < until:
            reason = logs.reason(service, run, task, pods) or task.reason
            task = task.model_copy(update={"reason": reason})
        completed.append(task)
    return completed


def task_rows(run: Any) -> list[TaskStatus]:
    """The tasks that the compiled file of a run names; without such a file, the nodes that are no control nodes."""
    details = list(run.run_details.task_details or ()) if run.run_details else []
    spec = _pipeline_spec(run.pipeline_spec)
    nodes = Nodes(details)
    compiled_tasks = tasks(spec, nodes) if spec else []
    over = str(run.state) in ENDED
    groups = _failed_groups(details, nodes)
    nothing_ran = not details or any(group.name == "root-driver" for group in groups)
    if any(nodes.exists(task.node) for task in compiled_tasks if task.node) or (compiled_tasks and nothing_ran):
        return [*one_of_each_branch([_row(task, nodes, over=over) for task in compiled_tasks]), *groups]
    return _by_name(details, {task.name for task in compiled_tasks})


def one_of_each_branch(rows: list[TaskStatus]) -> list[TaskStatus]:
    """The rows without idle tasks whose name another task that has run shares: all branches end with one task name.

    Of several idle tasks with one name, the first is kept.
    """
    ran = {row.name for row in rows if row.state not in _IDLE}
    kept: list[TaskStatus] = []
    for row in rows:
        if row.state not in _IDLE or row.name not in {*ran, *(other.name for other in kept)}:
            kept.append(row)
    return kept


def _duration(seconds: float | None) -> str:
    return "-" if seconds is None else format_duration(seconds)


def _row(task: TaskNode, nodes: Nodes, *, over: bool) -> TaskStatus:
    absent = "SKIPPED" if over else "PENDING"
    if not task.node or not nodes.exists(task.node):
        return _without_pod(task, nodes, absent)
    executor = f"{nodes.attempts(task.node)[-1]}.executor"
    attempt_nodes = nodes.attempts(executor)
    detail = nodes.detail(task.node, executor)
    if detail is None:
        return _without_pod(task, nodes, absent)
    seconds, state = _seconds(detail), _state(detail, absent)
    was_executed = state != "SUCCEEDED" or (seconds or 0) >= 2  # a cached task succeeds at once
    attempts = len(attempt_nodes) if attempt_nodes != [executor] else int(was_executed)
    cached = state == "SUCCEEDED" and not attempts
    prefixes = ("retry-system-container-impl", "system-container-impl")
    ordered = prefixes if task.retried else prefixes[::-1]
    hashes = [nodes.identifier(name).rpartition("-")[2] for name in reversed(attempt_nodes)]
    pods = [f"{nodes.workflow}-{prefix}-{digest}" for digest in hashes for prefix in ordered]
    reason = "from the cache" if cached else _error(detail)
    return TaskStatus(
        name=task.name,
        state=state,
        attempts=attempts,
        seconds=seconds,
        reason=reason,
        pods=() if cached else tuple(pods),
    )


def _without_pod(task: TaskNode, nodes: Nodes, absent: str) -> TaskStatus:
    driver = nodes.detail(f"{task.node}-driver", task.node) if task.node else None
    if driver is None or driver.state not in ("FAILED", "RUNNING"):
        return TaskStatus(name=task.name, state=absent, attempts=0, seconds=None)
    attempt_nodes = nodes.attempts(f"{task.node}-driver")
    hashes = [nodes.identifier(name).rpartition("-")[2] for name in reversed(attempt_nodes)]
    pods = tuple(f"{nodes.workflow}-system-container-driver-{digest}" for digest in hashes)
    failed = driver.state == "FAILED"
    reason = f"{DRIVER_FAILED} {_error(driver)}".strip() if failed else "its driver runs"
    state = "FAILED" if failed else "PENDING"
    return TaskStatus(name=task.name, state=state, attempts=0, seconds=_seconds(driver), reason=reason, pods=pods)


def _failed_groups(details: list[Any], nodes: Nodes) -> list[TaskStatus]:
    """The failed drivers of loops, of conditions and of the run: no task inside has run."""
    rows = []
    for detail in details:
        name = str(detail.display_name)
        if detail.state == "FAILED" and _GROUP_DRIVER.match(name):
            hashes = [str(child.pod_name).rpartition("-")[2] for child in detail.child_tasks or ()]
            pods = tuple(f"{nodes.workflow}-system-dag-driver-{digest}" for digest in reversed(hashes))
            seconds, reason = _seconds(detail), _error(detail)
            count = max(len(hashes), 1)
            row = TaskStatus(name=name, state="FAILED", attempts=count, seconds=seconds, reason=reason, pods=pods)
            rows.append(row)
    return rows


def _by_name(details: list[Any], names: Iterable[str]) -> list[TaskStatus]:
    """Rows by the names of the nodes only, where no hash matches; loop numbers come from the names of the parents."""
    by_id = {detail.task_id: detail for detail in details}
    plain = {name.partition(":")[0] for name in names}
    rows = []
    for detail in sorted(details, key=lambda row: str(row.start_time)):
        name = str(detail.display_name)
        if name not in plain and (plain or _STRUCTURE.match(name) or not detail.parent_task_id):
            continue
        inside = [node for node in details if detail in _parents(node, by_id)]
        attempts = [node for node in inside if re.search(r"\(\d+\)$", str(node.display_name))]
        pods = [child.pod_name for node in reversed([detail, *inside]) for child in node.child_tasks or ()]
        rows.append(
            TaskStatus(
                name=name + _number(detail, by_id),
                state=_state(detail, "PENDING"),
                attempts=len(attempts) or int(bool(_seconds(detail))),
                seconds=_seconds(detail),
                reason=_error(detail),
                pods=tuple(pod for pod in dict.fromkeys([detail.pod_name, *pods]) if pod),
            )
        )
    return rows


def _parents(detail: Any, by_id: Mapping[str, Any]) -> list[Any]:
    parents: list[Any] = []
    while (detail := by_id.get(detail.parent_task_id)) is not None and detail not in parents:
        parents.append(detail)
    return parents


def _number(detail: Any, by_id: Mapping[str, Any]) -> str:
    for parent in _parents(detail, by_id):
        match = re.match(r"iteration-(?:iterations|item)?\(?(\d+)", str(parent.display_name))
        if match:
            return f":{match[1]}"
    return ""


def _pipeline_spec(submitted: Any) -> Mapping[str, Any] | None:
    tree = (submitted or {}).get("pipeline_spec", submitted or {}) if isinstance(submitted, Mapping) else {}
    return tree if "root" in tree and "components" in tree else None


def _state(detail: Any, absent: str) -> str:
    state = str(detail.state or "")
    return absent if state in ("", "RUNTIME_STATE_UNSPECIFIED") else state


def _seconds(detail: Any) -> float | None:
    start, end = detail.start_time, detail.end_time
    if start is None or start.year < 2000:  # the server writes the year 1970 for a task that has not started
        return None
    until = end if end is not None and end.year >= 2000 and end >= start else datetime.now(UTC)
    return max(float((until - start).total_seconds()), 0.0)


def _error(detail: Any) -> str:
    return one_line(str(detail.error.message or "")) if detail.error else ""


def _attempts(attempts: int) -> str:
    return f"{attempts} attempt{'' if attempts == 1 else 's'}" if attempts else "-"
