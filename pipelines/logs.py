"""The log of a task: from the API server (pod, or Argo's archive), else from kubectl."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import urllib3
from kfp_server_api.exceptions import ApiException

from mcti.pipelines import client, kubectl
from mcti.pipelines.nodes import TaskStatus
from mcti.pipelines.text import one_line

SECONDS = 10
# The last line of a failed pod is `Error: exit status 1`: Argo writes it, and the number is always 1.
_ARGO = re.compile(r"^time=|argo=|sub-process exited|^Error: exit status \d+$")
_LAUNCHER = re.compile(r"^([IWEF]\d{4} |\d{4}/\d\d/\d\d |Using|\[KFP Executor)|argoexec|level=(info|error)")
_FATAL = re.compile(r"F\d{4} \S+ +\d+ \S+\] (.*)")
_LOGGED_ERROR = re.compile(r"^\d{4}-\d\d-\d\dT\S+ (ERROR|CRITICAL) ")  # mcti/logs.py
_EXIT = re.compile(r"exit (?:status|code) (\d+)|signal: (killed)")
_KILLED = "137"  # 128 + SIGKILL: out of memory, or a time-out


def read(service: client.Client, run: str, task: TaskStatus, pods: Iterable[Mapping[str, Any]]) -> str:
    """The log of the last attempt; "" where no source has it."""
    existing = {pod["metadata"]["name"]: pod for pod in pods}
    candidates = [name for name in task.pods if name in existing] or list(task.pods)
    for name in candidates:
        try:
            return service.read(f"/apis/v1alpha1/runs/{run}/nodes/{name}/log", SECONDS)
        except ApiException:  # the pod was deleted, or may not be read: try the next source
            continue
        except urllib3.exceptions.HTTPError:  # the server does not respond to requests for logs
            break
    for name in candidates:
        if name in existing:
            text = kubectl.call("logs", name, "-c", "main", "-n", existing[name]["metadata"]["namespace"]).text
            if text:
                return text
    return ""


def reason(service: client.Client, run: str, task: TaskStatus, pods: Iterable[Mapping[str, Any]]) -> str:
    """Why a task failed: the last line of its log that mcti wrote, and its exit code; "" where neither is known."""
    text = read(service, run, task, pods)
    line = last_line(text)
    code = exit_code(text) or _exit_of_pod(task, pods)
    if task.reason and task.reason not in line:
        line = f"{task.reason}: {line}" if line else task.reason
    if code and line.endswith(f"(exit code {code})"):
        return line
    return f"{line} (exit code {code})" if line and code else line or (f"exit code {code}" if code else "")


def last_line(text: str) -> str:
    """The last error line of a log, else the last line of the task, else the last line of launcher or driver."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    of_task = [line for line in lines if not (_ARGO.search(line) or _LAUNCHER.search(line))]
    logged = [line for line in of_task if _LOGGED_ERROR.match(line)]
    errors = [line for line in of_task if re.match(r"(error: |\S*(Error|Exception)\b.*: )", line)]
    if of_task:
        return one_line((logged or errors or of_task)[-1])
    fatal = [match[1] for line in lines if (match := _FATAL.match(line))]
    # A driver prints all its arguments before the cause.
    return one_line((fatal or lines or [""])[-1], end=True)


def exit_code(text: str) -> str:
    """The exit code of the task, from the log of KFP's launcher: Argo reports 1 for every failure."""
    lines = [line for line in text.splitlines() if not _ARGO.search(line)]
    matches = [match for line in lines for match in _EXIT.finditer(line)]
    return (matches[-1][1] or _KILLED) if matches else ""


def _exit_of_pod(task: TaskStatus, pods: Iterable[Mapping[str, Any]]) -> str:
    for pod in pods:
        if pod["metadata"]["name"] in task.pods:
            for container in pod.get("status", {}).get("containerStatuses") or ():
                ended = (container.get("state") or {}).get("terminated") or {}
                if container.get("name") == "main" and ended:
                    return f"{ended.get('exitCode')}, {ended.get('reason')}".rstrip(", ")
    return ""
