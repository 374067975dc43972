"""What kubectl reports of a run's pods, where it is on PATH and has a context: an extra source, never needed."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SECONDS = 10
NODE_NAME = "workflows.argoproj.io/node-name"


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


def pods_of(run: str, namespace: str | None = None) -> list[dict[str, Any]]:
    """The pods of a run; [] where kubectl cannot say. KFP labels each with the id of its run, so that it is ours."""
    if not context():
        return []
    where = ("-n", namespace) if namespace else ("-A",)
    found = call("get", "pods", *where, "-l", f"pipeline/runid={run}", "-o", "json").tree
    return list(found.get("items") or ())


def messages_of(run: str, namespace: str | None = None) -> list[str]:
    """What Argo's workflow says of nodes for which no pod could be made: a quota that is used up stands only here.

    [] where kubectl cannot say.
    """
    if not context():
        return []
    where = ("-n", namespace) if namespace else ("-A",)
    found = call("get", "workflows.argoproj.io", *where, "-l", f"pipeline/runid={run}", "-o", "json").tree
    nodes = [node for item in found.get("items") or () for node in (item.get("status", {}).get("nodes") or {}).values()]
    return [str(node.get("message")) for node in nodes if node.get("message") and node.get("phase") == "Pending"]


def troubles(pods: list[dict[str, Any]], messages: list[str]) -> list[str]:
    """Why pods of a run cannot start, each with its fix; one line a cause."""
    found = [line for pod in pods for line in _of_pod(pod)]
    found += [_of_quota(message) for message in messages if "exceeded quota" in message]
    return list(dict.fromkeys(found))


def _of_pod(pod: Mapping[str, Any]) -> Iterator[str]:
    status = pod.get("status", {})
    if status.get("phase") != "Pending":
        return
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            yield _of_schedule(str(condition.get("message", "")))
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


def _of_schedule(message: str) -> str:
    text = _one_line(message)
    if "persistentvolumeclaim" in text.lower():
        hint = "create the claim, or a volume that it binds to: kubectl describe pvc; its name stands in cluster.claims"
        return f"a claim does not bind ({text}): {hint}"
    hint = "ask for less (cluster.steps), free or add a node, or check cluster.node_labels and tolerations"
    return f"no node takes a pod ({text}): {hint}"


def _of_quota(message: str) -> str:
    return (
        f"the quota is used up ({_one_line(message)}): wait for other runs, ask for less (cluster.steps), or raise it"
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
