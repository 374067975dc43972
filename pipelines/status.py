"""How a run is doing: one line a task of ours, and why what failed or waits does so."""

import re
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from mcti.registry.kfp_api import was_terminated
from pipelines import client, kubectl, logs
from pipelines.nodes import Nodes, TaskNode, tasks

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


class TaskStatus(BaseModel):
    """One task of a run.

    name        with the number of its fold, shard or worker: train:0;  attempts  0: none yet, or from the cache
    seconds     how long it took, or has taken;  reason  last line of its log and its exit code, or why it waits
    pods        names that its pods may have, the last attempt first
    """

    model_config = ConfigDict(frozen=True)
    name: str
    state: str
    attempts: int
    seconds: float | None
    reason: str = ""
    pods: tuple[str, ...] = ()


class RunStatus(BaseModel):
    """A run and its tasks.

    problems    what keeps pods from starting, each with its fix: the command ends with exit code 4 then
    notes       what may pass: a pod that has waited for a node for some seconds
    unknown     what kubectl may not read
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
        """4 where pods cannot start, as for every trouble of the environment."""
        return 4 if self.problems else 0

    def lines(self) -> list[str]:
        """The run on one line, then one line a task, then the problems, the notes and what is unknown."""
        ended = " (terminated)" if self.terminated else ""
        head = f"run {self.run} · {self.name} · {self.state}{ended}" + (f" · {self.error}" if self.error else "")
        width = max((len(task.name) for task in self.tasks), default=0)
        rows = [
            f"  {task.name:<{width}}  {task.state:<9}  {_tries(task.attempts):<10}  {duration(task.seconds):>9}"
            f"  {task.reason}".rstrip()
            for task in self.tasks
        ]
        marked = (("error", self.problems), ("note", self.notes), ("unknown", self.unknown))
        return [head, *rows, *(f"{word}: {line}" for word, lines in marked for line in lines)]


def status(run: str, host: str, namespace: str | None = None) -> RunStatus:
    """State of a run, and of each of its tasks; the logs of what failed are read for its last line.

    namespace   where kubectl looks for its pods; None: everywhere, without rights for that in the context's namespace
    """
    with client.service(host) as service:
        found = service.get_run(run)
        pods = kubectl.pods_of(run, namespace)
        rows = _with_reasons(service, run, task_rows(found), pods.items)
    state = str(found.state)
    waits, unexplained = state not in ENDED, state == "FAILED" and not _explained(found, rows)
    # Also of a run without pods: a quota that is used up lets not even its first driver start.
    workflows = kubectl.workflows_of(run, namespace) if waits or unexplained else kubectl.Listing()
    messages = kubectl.messages(workflows.items)
    error, rows = _with_messages(_error_of(found), rows, messages)
    return RunStatus(
        run=run,
        name=str(found.display_name),
        state=state,
        terminated=was_terminated(state, (str(entry.state) for entry in found.state_history or ())),
        error=error,
        tasks=tuple(rows),
        problems=tuple(kubectl.troubles(pods.items, messages)) if waits else (),
        notes=tuple(kubectl.notes(pods.items)) if waits else (),
        unknown=tuple(kubectl.unknown(pods, workflows)) if waits or unexplained else (),
    )


def _error_of(found: Any) -> str:
    return " ".join(str(found.error.message or "").split()) if found.error else ""


def _explained(found: Any, rows: list[TaskStatus]) -> bool:
    """Whether every task that failed has a reason, or the run without such a task has an error."""
    failed = [task for task in rows if task.state == "FAILED"]
    return all(_has_reason(task) for task in failed) if failed else bool(_error_of(found))


def _has_reason(task: TaskStatus) -> bool:
    return task.reason not in ("", DRIVER_FAILED)


def _with_messages(
    error: str, rows: list[TaskStatus], messages: list[kubectl.NodeMessage]
) -> tuple[str, list[TaskStatus]]:
    """Error and rows of a run with Argo's words for what failed without a log: its pod could not be made."""
    failed = [each for each in messages if each.phase in ("Failed", "Error")]
    by_pod = {each.node.rpartition("-")[2]: each.text for each in failed}
    by_group = {each.name: each.text for each in failed if _GROUP_DRIVER.match(each.name)}
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
    """The rows with the last log lines of those that failed, as far as time allows."""
    until, found = time.monotonic() + LOG_SECONDS, []
    for task in rows:
        if task.state == "FAILED" and time.monotonic() < until:
            reason = logs.reason(service, run, task, pods) or task.reason
            task = task.model_copy(update={"reason": reason})
        found.append(task)
    return found


def task_rows(found: Any) -> list[TaskStatus]:
    """The tasks of a run that the compiled file names; of a run without one, the nodes that are no structure."""
    details = list(found.run_details.task_details or ()) if found.run_details else []
    spec = _spec(found.pipeline_spec)
    nodes = Nodes(details)
    known = tasks(spec, nodes) if spec else []
    over = str(found.state) in ENDED
    groups = _failed_groups(details, nodes)
    nothing_ran = not details or any(group.name == "root-driver" for group in groups)
    if any(nodes.exists(task.node) for task in known if task.node) or (known and nothing_ran):
        return [*one_of_each_branch([_row(task, nodes, over=over) for task in known]), *groups]
    return _by_name(details, {task.name for task in known})


def one_of_each_branch(rows: list[TaskStatus]) -> list[TaskStatus]:
    """The rows without those that have not run where another of their name has: branches end with a task of one name.

    Of several that have not run, the first is kept.
    """
    ran = {row.name for row in rows if row.state not in _IDLE}
    kept: list[TaskStatus] = []
    for row in rows:
        if row.state not in _IDLE or row.name not in {*ran, *(other.name for other in kept)}:
            kept.append(row)
    return kept


def duration(seconds: float | None) -> str:
    """A time for people: 1 h 02 min, 3 min 05 s, 12 s."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _row(task: TaskNode, nodes: Nodes, *, over: bool) -> TaskStatus:
    absent = "SKIPPED" if over else "PENDING"
    if not task.node or not nodes.exists(task.node):
        return _without_pod(task, nodes, absent)
    executor = f"{nodes.attempts(task.node)[-1]}.executor"
    tries = nodes.attempts(executor)
    detail = nodes.detail(task.node, executor)
    if detail is None:
        return _without_pod(task, nodes, absent)
    seconds, state = _seconds(detail), _state(detail, absent)
    attempts = len(tries) if tries != [executor] else int(state != "SUCCEEDED" or (seconds or 0) >= 2)
    cached = state == "SUCCEEDED" and not attempts
    prefixes = ("retry-system-container-impl", "system-container-impl")
    ordered = prefixes if task.retried else prefixes[::-1]
    hashes = [nodes.identifier(name).rpartition("-")[2] for name in reversed(tries)]
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
    tries = nodes.attempts(f"{task.node}-driver")
    hashes = [nodes.identifier(name).rpartition("-")[2] for name in reversed(tries)]
    pods = tuple(f"{nodes.workflow}-system-container-driver-{digest}" for digest in hashes)
    failed = driver.state == "FAILED"
    reason = f"{DRIVER_FAILED} {_error(driver)}".strip() if failed else "its driver runs"
    state = "FAILED" if failed else "PENDING"
    return TaskStatus(name=task.name, state=state, attempts=0, seconds=_seconds(driver), reason=reason, pods=pods)


def _failed_groups(details: list[Any], nodes: Nodes) -> list[TaskStatus]:
    """The drivers of loops, conditions and of the run itself that failed: nothing inside has run then."""
    rows = []
    for detail in details:
        name = str(detail.display_name)
        if detail.state == "FAILED" and _GROUP_DRIVER.match(name):
            tries = [str(child.pod_name).rpartition("-")[2] for child in detail.child_tasks or ()]
            pods = tuple(f"{nodes.workflow}-system-dag-driver-{digest}" for digest in reversed(tries))
            seconds, reason = _seconds(detail), _error(detail)
            count = max(len(tries), 1)
            row = TaskStatus(name=name, state="FAILED", attempts=count, seconds=seconds, reason=reason, pods=pods)
            rows.append(row)
    return rows


def _by_name(details: list[Any], names: Iterable[str]) -> list[TaskStatus]:
    """Where no node is found by its hash: by the names alone; numbers and attempts from the parents that are named."""
    by_id = {detail.task_id: detail for detail in details}
    plain = {name.partition(":")[0] for name in names}
    rows = []
    for detail in sorted(details, key=lambda each: str(each.start_time)):
        name = str(detail.display_name)
        if name not in plain and (plain or _STRUCTURE.match(name) or not detail.parent_task_id):
            continue
        inside = [each for each in details if detail in _parents(each, by_id)]
        tries = [each for each in inside if re.search(r"\(\d+\)$", str(each.display_name))]
        pods = [child.pod_name for each in reversed([detail, *inside]) for child in each.child_tasks or ()]
        rows.append(
            TaskStatus(
                name=name + _number(detail, by_id),
                state=_state(detail, "PENDING"),
                attempts=len(tries) or int(bool(_seconds(detail))),
                seconds=_seconds(detail),
                reason=_error(detail),
                pods=tuple(pod for pod in dict.fromkeys([detail.pod_name, *pods]) if pod),
            )
        )
    return rows


def _parents(detail: Any, by_id: Mapping[str, Any]) -> list[Any]:
    found: list[Any] = []
    while (detail := by_id.get(detail.parent_task_id)) is not None and detail not in found:
        found.append(detail)
    return found


def _number(detail: Any, by_id: Mapping[str, Any]) -> str:
    for parent in _parents(detail, by_id):
        match = re.match(r"iteration-(?:iterations|item)?\(?(\d+)", str(parent.display_name))
        if match:
            return f":{match[1]}"
    return ""


def _spec(sent: Any) -> Mapping[str, Any] | None:
    tree = (sent or {}).get("pipeline_spec", sent or {}) if isinstance(sent, Mapping) else {}
    return tree if "root" in tree and "components" in tree else None


def _state(detail: Any, absent: str) -> str:
    state = str(detail.state or "")
    return absent if state in ("", "RUNTIME_STATE_UNSPECIFIED") else state


def _seconds(detail: Any) -> float | None:
    start, end = detail.start_time, detail.end_time
    if start is None or start.year < 2000:  # the server writes the year 1970 for "not yet"
        return None
    until = end if end is not None and end.year >= 2000 and end >= start else datetime.now(UTC)
    return max((until - start).total_seconds(), 0.0)


def _error(detail: Any) -> str:
    return " ".join(str(detail.error.message or "").split())[:300] if detail.error else ""


def _tries(attempts: int) -> str:
    return f"{attempts} attempt{'' if attempts == 1 else 's'}" if attempts else "-"
