"""What kubectl reports of a run's pods, where it is on PATH and has a context: an extra source, never needed."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

SECONDS = 10
SCHEDULE_SECONDS = 60  # a pod waits that long for a node now and then, on a cluster where all is well


@dataclass(frozen=True)
class Answer:
    """What a call of kubectl came to: what it printed, or why it did not work."""

    text: str
    error: str = ""

    @property
    def tree(self) -> dict[str, Any]:
        """The JSON document that it printed; {} where there is none."""
        try:
            found = json.loads(self.text or "{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


def call(*words: str, seconds: int = SECONDS) -> Answer:
    """Call kubectl with `words`; it is given `seconds`, and never asked for a password."""
    program = shutil.which("kubectl")
    if program is None:
        return Answer("", "no kubectl on PATH")
    command = [program, f"--request-timeout={max(seconds - 1, 1)}s", *words]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired:
        return Answer("", f"kubectl did not answer within {seconds} s")
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return Answer("", " ".join((lines or ["kubectl failed"])[-1].split()))
    return Answer(done.stdout)


def context() -> str:
    """The current context; "" where there is no kubectl, or no cluster is configured."""
    return call("config", "current-context").text.strip()


@dataclass(frozen=True)
class Listing:
    """The objects of one kind that belong to a run, or why they cannot be listed.

    refused     why only the namespace of the context was read; "" where all were, or one was given
    """

    items: tuple[dict[str, Any], ...] = ()
    error: str = ""
    refused: str = ""


@dataclass(frozen=True)
class NodeMessage:
    """What Argo's workflow says of one of its nodes.

    node    its id: WORKFLOW-HASH;  name  last part of its name, without the number of the attempt;  phase  Argo's
    """

    node: str
    name: str
    phase: str
    text: str


def pods_of(run: str, namespace: str | None = None) -> Listing:
    """The pods of a run. KFP labels each with the id of its run, so that it is ours."""
    return _of_run("pods", run, namespace)


def workflows_of(run: str, namespace: str | None = None) -> Listing:
    """Argo's workflow of a run: what keeps a pod from being made (quota, account, PodSecurity) stands only here."""
    return _of_run("workflows.argoproj.io", run, namespace)


def _of_run(kind: str, run: str, namespace: str | None) -> Listing:
    """Objects of a run in `namespace`, else in all, else (without rights for all) in that of the context."""
    if not context():
        return Listing()
    words = ("get", kind, *(("-n", namespace) if namespace else ("-A",)), "-l", f"pipeline/runid={run}", "-o", "json")
    answer = call(*words)
    if namespace or not refused(answer):
        return Listing(tuple(answer.tree.get("items") or ()), answer.error)
    own = call(*(word for word in words if word != "-A"))
    return Listing(tuple(own.tree.get("items") or ()), own.error, answer.error)


def unknown(*listings: Listing) -> list[str]:
    """Why it cannot be said what keeps pods of a run from starting: one line a cause; [] where it can."""
    lines = [
        f"kubectl cannot read them ({each.error}): ask for rights, or give --namespace"
        for each in listings
        if each.error
    ]
    if not lines and listings[0].refused and not any(each.items for each in listings):
        hint = "give --namespace: the namespace of the context has none of them"
        lines = [f"kubectl cannot read all namespaces ({listings[0].refused}): {hint}"]
    return [f"why pods of the run do not start: {line}" for line in dict.fromkeys(lines)]


def refused(answer: Answer) -> bool:
    """Whether the account of the context has no right to the question."""
    return "forbidden" in answer.error.lower()


def messages(workflows: Iterable[Mapping[str, Any]]) -> list[NodeMessage]:
    """The nodes of the workflows that have a message."""
    nodes = [pair for item in workflows for pair in (item.get("status", {}).get("nodes") or {}).items()]
    return [
        NodeMessage(name, _display(node), str(node.get("phase", "")), _one_line(str(node["message"])))
        for name, node in nodes
        if node.get("message")
    ]


def _display(node: Mapping[str, Any]) -> str:
    return re.sub(r"(\(\d+\))+$", "", str(node.get("displayName") or ""))


def troubles(pods: Iterable[Mapping[str, Any]], messages: Iterable[NodeMessage]) -> list[str]:
    """Why pods of a run cannot start, each with its fix; one line a cause."""
    found = [line for pod in pods for line in _of_pod(pod)]
    waiting = [each.text for each in messages if each.phase == "Pending"]
    found += [_of_quota(text) for text in waiting if "exceeded quota" in text]
    return list(dict.fromkeys(found))


def notes(pods: Iterable[Mapping[str, Any]]) -> list[str]:
    """Pods that have waited for a node for less than a minute: most get one."""
    each = [condition for pod in pods for condition in _unscheduled(pod) if not _lasted(condition)]
    lines = [f"a pod has waited for a node for less than {SCHEDULE_SECONDS} s ({_message(one)})" for one in each]
    return list(dict.fromkeys(lines))


def _unscheduled(pod: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    status = pod.get("status", {})
    for condition in (status.get("conditions") or ()) if status.get("phase") == "Pending" else ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            yield condition


def _lasted(condition: Mapping[str, Any]) -> bool:
    """Whether a condition is older than a minute; one without a time counts as old."""
    try:
        since = datetime.fromisoformat(str(condition.get("lastTransitionTime")))
    except ValueError:
        return True
    return (datetime.now(UTC) - since).total_seconds() > SCHEDULE_SECONDS


def _message(condition: Mapping[str, Any]) -> str:
    return _one_line(str(condition.get("message", "")))


def _of_pod(pod: Mapping[str, Any]) -> Iterator[str]:
    status = pod.get("status", {})
    if status.get("phase") != "Pending":
        return
    yield from (_of_schedule(_message(condition)) for condition in _unscheduled(pod) if _lasted(condition))
    for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        line = _of_container(str(waiting.get("reason", "")), str(waiting.get("message", "")), container)
        if line:
            yield line


def _of_container(reason: str, message: str, container: Mapping[str, Any]) -> str:
    if reason in {"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}:
        hint = "push it, or name one that the nodes can reach: cluster.image; a private registry wants imagePullSecrets"
        return f"image {container.get('image')} cannot be pulled ({reason}): {hint}"
    if reason in {"CreateContainerConfigError", "CreateContainerError"}:
        hint = "create it in the namespace of the run, with the keys of cluster.secrets and cluster.config_maps"
        return f"a container cannot be configured ({_one_line(message) or reason}): {hint}"
    return ""


def _of_schedule(text: str) -> str:
    if "persistentvolumeclaim" in text.lower():
        hint = "create the claim, or a volume that it binds to: kubectl describe pvc; its name stands in cluster.claims"
        return f"a claim does not bind ({text}): {hint}"
    hint = "ask for less (cluster.steps), free or add a node, or check cluster.node_labels and tolerations"
    return f"no node takes a pod ({text}): {hint}"


def _of_quota(text: str) -> str:
    return f"the quota is used up ({text}): wait for other runs, ask for less (cluster.steps), or raise it"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
