"""Rules on size: the file, and the nodes of the run."""

from collections.abc import Iterator

from mcti.params import ClusterParams
from mcti.pipelines.checks.document import Document, Task, json_value
from mcti.pipelines.checks.flow import container_step
from mcti.pipelines.checks.rule import Rule

LARGEST = 1 << 20
"""Bytes. Argo refuses a larger Workflow (MAX_WORKFLOW_SIZE, 1 MiB as shipped); etcd takes 1.5 MiB, KFP's API 32 MiB."""
MOST_NODES = 1400
"""Maximum number of nodes of a run: 100 loop iterations of one task each (12 nodes), and 200 other nodes."""
UNKNOWN_ITEMS = 10
"""Number of items that is assumed for a loop whose length only a run determines."""
# Every template has two nodes, a Retry node and its attempt: the shipped workflowDefaults give each a retryStrategy.
_ROOT, _GROUP, _TASK, _HOOK, _LOOP, _ITERATION = 6, 4, 6, 2, 5, 6
_SETTINGS = {
    "shards": "cluster.extract_shards",
    "slides": "cluster.extract_shards",
    "workers": "cluster.search_workers",
    "folds": "split.folds",
}


def nodes(document: Document) -> int:
    """Estimated number of nodes of the Argo Workflow of a run, both branches of a condition included.

    6 for the root, 6 per task (driver, executor and its pod), 2 more for an exit task, 4 per group (driver, DAG),
    5 per loop and 6 per iteration, each plus its contents. A run that was observed on KFP 2.17.0 with 3 folds and
    2 shards, without `validate-features`, had 164 nodes and 243 kB of workflow status.
    """
    return _ROOT + _nodes_of_component(document, "root")


def _nodes_of_component(document: Document, component: str) -> int:
    return sum(_nodes_of_task(document, task) for task in document.tasks_of(component))


def _nodes_of_task(document: Document, task: Task) -> int:
    hook = _HOOK if task.is_exit else 0
    if "dag" not in document.component(task.component):
        return _TASK + hook
    inner = _nodes_of_component(document, task.component)
    if "parameterIterator" in task.spec:
        return _LOOP + items(document, task) * (_ITERATION + inner) + hook
    return _GROUP + inner + hook


def items(document: Document, task: Task) -> int:
    """Number of items of a loop: of its list, of the parameter's default, of the settings of `split`, else assumed."""
    source = task.spec["parameterIterator"].get("items", {})
    name = source.get("inputParameter")
    loop_items = json_value(source.get("raw")) if name is None else document.value(task, name)
    loop_items = json_value(loop_items) if isinstance(loop_items, str) else loop_items
    if isinstance(loop_items, list):
        return len(loop_items)
    producer = document.producer(task, name) if name else None
    is_split = producer is not None and container_step(producer) == "split"
    settings = json_value(document.value(producer, "params")) if producer and is_split else None
    return _folds(settings) if isinstance(settings, dict) else UNKNOWN_ITEMS


def _folds(split: dict[str, object]) -> int:
    """Number of folds of a scheme; that of leave-one-site-out and files depends on the data and is assumed."""
    if split.get("scheme") in ("leave-one-site-out", "files"):
        return UNKNOWN_ITEMS
    return int(str(split.get("folds", UNKNOWN_ITEMS))) * int(str(split.get("repeats", 1)))


def too_many_nodes(document: Document, _: ClusterParams) -> Iterator[str]:
    """A run with more nodes than its Workflow object can store."""
    count = nodes(document)
    if count <= MOST_NODES:
        return
    loops = [task for task in document.tasks() if "parameterIterator" in task.spec]
    sizes = ", ".join(f"{task.title} {items(document, task)}" for task in loops) or "no loop"
    settings = sorted({_SETTINGS[task.title] for task in loops if task.title in _SETTINGS})
    hint = f"lower {', '.join(settings)}" if settings else "lower the number of loop items or tasks"
    yield f"about {count} nodes, at most {MOST_NODES} fit (items of the loops: {sizes}): {hint}"


def too_large(document: Document, _: ClusterParams) -> Iterator[str]:
    """A file that is larger than a Workflow may be."""
    if document.size > LARGEST:
        yield f"the file has {document.size} bytes, at most {LARGEST} fit: use fewer tasks or shorter settings"


RULES = (
    Rule(
        "file-size",
        "Argo stores the whole definition in the Workflow object, and refuses one that is larger",
        "Argo 4.0 MAX_WORKFLOW_SIZE 1 MiB; etcd --max-request-bytes 1.5 MiB; KFP 2.17.0 MaxFileLength 32 MiB",
        too_large,
    ),
    Rule(
        "fan-out",
        "the status of the Workflow grows beyond 1 MiB during the run, and the run stops",
        "KFP 2.17.0 with Argo 4.0: 164 nodes were 243 kB; about 100 loop iterations fit, by estimate",
        too_many_nodes,
    ),
)
