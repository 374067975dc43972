"""Assignment of the nodes that KFP's API reports to the tasks of a pipeline.

KFP compiles a task `train` of the loop `for-loop-4` to nodes of Argo, each with a driver, named
`WORKFLOW.root.exit-handler-1.for-loop-4.iteration-iterations(0:0).iteration-item.train.executor(0)`; a node with a
retry strategy has children `(0)`, `(1)`, … The API reports only the last part of a name, but also the ids of the
children, and an id is `WORKFLOW-` plus the FNV-1a hash of the whole name. Names are therefore built from the compiled
file and looked up by their hash. (Observed on KFP 2.16 and 2.17; the hash is that of argoproj/argo-workflows.)
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

MAX_ITERATIONS = 10_000
_EXIT = "ALL_UPSTREAM_TASKS_COMPLETED"


@dataclass(frozen=True)
class TaskNode:
    """A task of the compiled file in one run.

    name    as in Kubeflow's user interface, with the number of its fold, shard or worker: train:0
    node    name of the node of the task; "" where its loop has not started
    retried whether the compiled file sets retries
    """

    name: str
    node: str
    retried: bool


class TaskStatus(BaseModel):
    """One task of a run.

    name        with the number of its fold, shard or worker: train:0
    attempts    0: not started, or taken from the cache
    seconds     duration so far
    reason      last line of its log and its exit code, or why it waits
    pods        possible names of its pods, the last attempt first
    """

    model_config = ConfigDict(frozen=True)
    name: str
    state: str
    attempts: int
    seconds: float | None
    reason: str = ""
    pods: tuple[str, ...] = ()


class Nodes:
    """The nodes of one run, by the hash of their names."""

    def __init__(self, details: Iterable[Any]) -> None:
        self.details = list(details)
        ids = [child.pod_name for detail in self.details for child in detail.child_tasks or () if child.pod_name]
        self.workflow = ids[0].rpartition("-")[0] if ids else ""
        self._ids = set(ids)

    def identifier(self, name: str) -> str:
        """The id of the node `name`."""
        return f"{self.workflow}-{fnv1a(name)}"

    def exists(self, name: str) -> bool:
        """Whether the node `name` is a child of a reported node."""
        return self.identifier(name) in self._ids

    def attempts(self, name: str) -> list[str]:
        """The attempts of a node with a retry strategy, or the node itself."""
        names: list[str] = []
        while self.exists(f"{name}({len(names)})"):
            names.append(f"{name}({len(names)})")
        return names or [name]

    def detail(self, name: str, *children: str) -> Any | None:
        """The API's entry for a node: the entry with the last part of its name and one of its children."""
        last = name.rpartition(".")[2]
        child_ids = {self.identifier(child) for child in (*children, f"{name}(0)")}
        for detail in self.details:
            if detail.display_name == last and child_ids & {child.pod_name for child in detail.child_tasks or ()}:
                return detail
        return None


def tasks(spec: Mapping[str, Any], nodes: Nodes) -> list[TaskNode]:
    """The container tasks of a pipeline in execution order; of a loop, one for each iteration that has started."""
    root = nodes.attempts(f"{nodes.workflow}.root")[-1]
    return list(_walk(spec, spec["root"]["dag"]["tasks"], root, "", nodes))


def _walk(spec: Mapping[str, Any], dag: Mapping[str, Any], path: str, number: str, nodes: Nodes) -> Iterator[TaskNode]:
    for key, task in _in_order(dag):
        component = spec["components"][task["componentRef"]["name"]]
        node = _node(key, task, path, nodes)
        if "dag" not in component:
            name = task.get("taskInfo", {}).get("name") or key
            yield TaskNode(f"{name}{number}", node, "retryPolicy" in task)
        elif "parameterIterator" in task or "artifactIterator" in task:
            yield from _iterations(spec, component["dag"]["tasks"], node, nodes)
        else:
            inside = nodes.attempts(node)[-1] if node else ""
            yield from _walk(spec, component["dag"]["tasks"], inside, number, nodes)


def _iterations(spec: Mapping[str, Any], dag: Mapping[str, Any], loop: str, nodes: Nodes) -> Iterator[TaskNode]:
    base = nodes.attempts(loop)[-1] if loop else ""
    for index in range(MAX_ITERATIONS):
        iteration = f"{base}.iteration-iterations({index}:{index})"
        if not base or not nodes.exists(iteration):
            break
        inside = nodes.attempts(f"{nodes.attempts(iteration)[-1]}.iteration-item")[-1]
        yield from _walk(spec, dag, inside, f":{index}", nodes)
    else:
        return
    if not base or not nodes.exists(f"{base}.iteration-iterations(0:0)"):
        yield from _walk(spec, dag, "", "", nodes)


def _node(key: str, task: Mapping[str, Any], path: str, nodes: Nodes) -> str:
    if not path:
        return ""
    if task.get("triggerPolicy", {}).get("strategy") == _EXIT:
        hook = f"{path}.{task['dependentTasks'][0]}.onExit"
        return f"{nodes.attempts(hook)[-1]}.{key}"
    return f"{path}.{key}"


def _in_order(dag: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The tasks of a DAG, each after those that it depends on."""
    ordered: dict[str, Any] = {}
    waiting = dict(dag)
    while waiting:
        ready = [key for key, task in waiting.items() if set(task.get("dependentTasks", ())) <= set(ordered)]
        for key in ready or list(waiting):
            ordered[key] = waiting.pop(key)
    return list(ordered.items())


def fnv1a(text: str) -> int:
    """The 32-bit FNV-1a hash, as in Go's hash/fnv."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value
