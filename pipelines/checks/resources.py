"""A rule on what the tasks request: largest node, quota, limits."""

from collections.abc import Iterator, Mapping

from mcti.params import ClusterParams
from mcti.params.quantities import amount
from mcti.pipelines.checks.document import Document, Tree
from mcti.pipelines.checks.rule import Rule

_FIELDS = {
    "cpu": "resourceCpuRequest",
    "cpu_limit": "resourceCpuLimit",
    "memory": "resourceMemoryRequest",
    "memory_limit": "resourceMemoryLimit",
}


def oversized(document: Document, cluster: ClusterParams) -> Iterator[str]:
    """Requests above the largest node or the quota, limits below requests, /dev/shm above the memory."""
    for task, container, pod in document.containers():
        requested = _quantities(container.get("resources", {}))
        try:
            faults = [*_above_bounds(requested, cluster), *_above_limits(requested), *_above_memory(requested, pod)]
        except ValueError as error:
            faults = [str(error)]
        yield from (f"task {task.name}: {fault}" for fault in faults)


def _quantities(resources: Tree) -> dict[str, str]:
    """Quantities by the names of the settings; those that only a run determines are omitted."""
    quantities = {name: resources.get(field) for name, field in _FIELDS.items()}
    quantities["gpus"] = resources.get("accelerator", {}).get("resourceCount")
    return {name: str(text) for name, text in quantities.items() if text and "{{" not in str(text)}


def _above_bounds(requested: Mapping[str, str], cluster: ClusterParams) -> Iterator[str]:
    for where, section in (("cluster.largest_node", cluster.largest_node), ("cluster.quota", cluster.quota)):
        bounds = section.model_dump() if section is not None else {}
        for name, text in requested.items():
            bound = bounds.get(name)
            if bound is not None and amount(text) > amount(str(bound)):
                yield f"{name} {text} is above the {bound} of {where}: lower it in its row of cluster.steps"


def _above_limits(requested: Mapping[str, str]) -> Iterator[str]:
    for name in ("cpu", "memory"):
        request, limit = requested.get(name), requested.get(f"{name}_limit")
        if request and limit and amount(request) > amount(limit):
            yield f"{name} {request} is above its limit {limit}: raise the limit, or request less"


def _above_memory(requested: Mapping[str, str], pod: Tree) -> Iterator[str]:
    limit = requested.get("memory_limit")
    for mount in pod.get("emptyDirMounts", ()):
        size = mount.get("sizeLimit") if mount.get("medium") == "Memory" else None
        if size and limit and amount(size) > amount(limit):
            yield f"{mount.get('mountPath')} of {size} is above the memory limit {limit}: lower it"


RULES = (
    Rule(
        "resources",
        "the pod is Pending forever, or the quota refuses it",
        "Kubernetes 1.35: scheduler, ResourceQuota; a Memory emptyDir counts as memory of its container",
        oversized,
    ),
)
