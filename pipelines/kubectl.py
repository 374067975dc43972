"""Pods and workflows of a run as kubectl reports them: an optional source, used where kubectl has a context."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mcti.pipelines.text import one_line

SECONDS = 10
SCHEDULE_SECONDS = 60  # pods of a healthy cluster may wait this long for a node


@dataclass(frozen=True)
class Response:
    """The result of a call of kubectl: its output, or the error."""

    text: str
    error: str = ""

    @property
    def tree(self) -> dict[str, Any]:
        """The JSON document in the output; {} where there is none."""
        try:
            tree = json.loads(self.text or "{}")
        except ValueError:
            return {}
        return tree if isinstance(tree, dict) else {}


def call(*arguments: str, seconds: int = SECONDS) -> Response:
    """Call kubectl with a time limit in seconds; its stdin is closed, so that it cannot wait for a password."""
    program = shutil.which("kubectl")
    if program is None:
        return Response("", "no kubectl on PATH")
    command = [program, f"--request-timeout={max(seconds - 1, 1)}s", *arguments]
    try:
        completed = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired:
        return Response("", f"kubectl did not answer within {seconds} s")
    if completed.returncode:
        lines = [line for line in completed.stderr.splitlines() if line.strip()]
        return Response("", " ".join((lines or ["kubectl failed"])[-1].split()))
    return Response(completed.stdout)


def context() -> str:
    """The current context; "" where there is no kubectl, or no cluster is configured."""
    return call("config", "current-context").text.strip()


@dataclass(frozen=True)
class Listing:
    """The objects of one type that belong to a run, or why they cannot be listed.

    refused     why only the namespace of the context was read; "" where all were read, or one was named
    """

    items: tuple[dict[str, Any], ...] = ()
    error: str = ""
    refused: str = ""


@dataclass(frozen=True)
class NodeMessage:
    """The message of one node of an Argo workflow.

    node    id of the node: WORKFLOW-HASH;  name  last part of its name, without the number of the attempt
    phase   Argo's phase of the node
    """

    node: str
    name: str
    phase: str
    text: str


def list_pods(run: str, namespace: str | None = None) -> Listing:
    """The pods of a run, by the label with the run's id that KFP sets."""
    return _list("pods", run, namespace)


def list_workflows(run: str, namespace: str | None = None) -> Listing:
    """Argo's workflow of a run: the only source for why a pod was not created (quota, account, PodSecurity)."""
    return _list("workflows.argoproj.io", run, namespace)


def _list(resource: str, run: str, namespace: str | None) -> Listing:
    """Objects of a run in `namespace`, else in all, else (without rights for all) in that of the context."""
    if not context():
        return Listing()
    scope = ("-n", namespace) if namespace else ("-A",)
    arguments = ("get", resource, *scope, "-l", f"pipeline/runid={run}", "-o", "json")
    response = call(*arguments)
    if namespace or not is_forbidden(response):
        return Listing(tuple(response.tree.get("items") or ()), response.error)
    of_context = call(*(argument for argument in arguments if argument != "-A"))
    return Listing(tuple(of_context.tree.get("items") or ()), of_context.error, response.error)


def unreadable(*listings: Listing) -> list[str]:
    """Why the causes of waiting pods are unknown: one line per reason; [] where all listings could be read."""
    lines = [
        f"kubectl cannot read them ({listing.error}): request the rights, or set --namespace"
        for listing in listings
        if listing.error
    ]
    if not lines and listings[0].refused and not any(listing.items for listing in listings):
        hint = "set --namespace: the namespace of the context has none of them"
        lines = [f"kubectl cannot read all namespaces ({listings[0].refused}): {hint}"]
    return [f"why pods of the run do not start: {line}" for line in dict.fromkeys(lines)]


def is_forbidden(response: Response) -> bool:
    """Whether the account of the context lacks the rights for the request."""
    return "forbidden" in response.error.lower()


def messages(workflows: Iterable[Mapping[str, Any]]) -> list[NodeMessage]:
    """The messages of the nodes of the workflows."""
    nodes = [pair for item in workflows for pair in (item.get("status", {}).get("nodes") or {}).items()]
    return [
        NodeMessage(name, _display_name(node), str(node.get("phase", "")), one_line(str(node["message"])))
        for name, node in nodes
        if node.get("message")
    ]


def _display_name(node: Mapping[str, Any]) -> str:
    return re.sub(r"(\(\d+\))+$", "", str(node.get("displayName") or ""))


def problems(pods: Iterable[Mapping[str, Any]], messages: Iterable[NodeMessage]) -> list[str]:
    """Why pods of a run cannot start, each with a hint; one line per cause."""
    lines = [line for pod in pods for line in _problems_of_pod(pod)]
    pending = [message.text for message in messages if message.phase == "Pending"]
    lines += [_quota_problem(text) for text in pending if "exceeded quota" in text]
    return list(dict.fromkeys(lines))


def notes(pods: Iterable[Mapping[str, Any]]) -> list[str]:
    """Pods that have waited for a node for less than a minute; this may resolve without action."""
    recent = [condition for pod in pods for condition in _unscheduled(pod) if not _is_old(condition)]
    lines = [f"a pod has waited for a node for less than {SCHEDULE_SECONDS} s ({_message(one)})" for one in recent]
    return list(dict.fromkeys(lines))


def _unscheduled(pod: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    status = pod.get("status", {})
    for condition in (status.get("conditions") or ()) if status.get("phase") == "Pending" else ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            yield condition


def _is_old(condition: Mapping[str, Any]) -> bool:
    """Whether a condition is older than a minute; a condition without a time counts as old."""
    try:
        since = datetime.fromisoformat(str(condition.get("lastTransitionTime")))
    except ValueError:
        return True
    return (datetime.now(UTC) - since).total_seconds() > SCHEDULE_SECONDS


def _message(condition: Mapping[str, Any]) -> str:
    return one_line(str(condition.get("message", "")))


def _problems_of_pod(pod: Mapping[str, Any]) -> Iterator[str]:
    status = pod.get("status", {})
    if status.get("phase") != "Pending":
        return
    yield from (_scheduling_problem(_message(condition)) for condition in _unscheduled(pod) if _is_old(condition))
    for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        line = _container_problem(str(waiting.get("reason", "")), str(waiting.get("message", "")), container)
        if line:
            yield line


def _container_problem(reason: str, message: str, container: Mapping[str, Any]) -> str:
    if reason in {"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}:
        hint = "push it, or set cluster.image to one that the nodes can pull; a private registry needs imagePullSecrets"
        return f"image {container.get('image')} cannot be pulled ({reason}): {hint}"
    if reason in {"CreateContainerConfigError", "CreateContainerError"}:
        hint = "create it in the namespace of the run, with the keys of cluster.secrets and cluster.config_maps"
        return f"a container cannot be configured ({one_line(message) or reason}): {hint}"
    return ""


def _scheduling_problem(text: str) -> str:
    if "persistentvolumeclaim" in text.lower():
        hint = "create the claim, or a volume that it can bind: kubectl describe pvc; cluster.claims lists its name"
        return f"a claim does not bind ({text}): {hint}"
    hint = "request less (cluster.steps), free or add a node, or check cluster.node_labels and tolerations"
    return f"no node can run a pod ({text}): {hint}"


def _quota_problem(text: str) -> str:
    return f"the quota is used up ({text}): wait for other runs, request less (cluster.steps), or raise the quota"
