"""Rules on tasks and what they hand on: types, retries, time-outs, images."""

from collections.abc import Iterator
from typing import Any

from mcti.params import ClusterParams
from pipelines.checks.document import Document, Task, Tree, json_value
from pipelines.checks.rule import Rule

_KINDS: dict[str, tuple[type, ...]] = {
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "STRING": (str,),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}
# How long a step of ours may take or wait by its own settings: section -> {setting: seconds of its unit}.
_LASTING = {
    "search": {"timeout_minutes": 60, "wait_minutes": 60},
    "extract": {"slide_minutes": 60},
    "train": {"checkpoint_seconds": 1},
}


def mistyped(document: Document, _: ClusterParams) -> Iterator[str]:
    """Parameters whose source has another type than the task declares, loop items among them."""
    for task in document.tasks():
        for name in task.spec.get("inputs", {}).get("parameters", {}):
            wanted, given = document.input_type(task.component, name), _given(document, task, name)
            if wanted and given and given != wanted and wanted != "TASK_FINAL_STATUS":
                looped = "loop-item" in str(task.spec["inputs"]["parameters"][name])
                fix = (
                    "declare the item type of the list, such as List[int]"
                    if looped
                    else "declare one type at both ends"
                )
                source = "a loop item" if looped else "its source"
                yield f"task {task.name}, parameter {name}: {source} has type {given}, the parameter {wanted}: {fix}"
        yield from _mistyped_items(document, task)


def _given(document: Document, task: Task, name: str) -> str | None:
    """Type of what feeds a parameter; None where the file does not tell."""
    source: Tree = task.spec["inputs"]["parameters"][name]
    if "parameterExpressionSelector" in source:
        return None
    if "componentInputParameter" in source:
        return document.input_type(task.parent, source["componentInputParameter"])
    if "taskOutputParameter" in source:
        made = source["taskOutputParameter"]
        maker = next((t for t in document.tasks_of(task.parent) if t.name == made.get("producerTask")), None)
        return document.output_type(maker.component, made.get("outputParameterKey", "")) if maker else None
    wanted = document.input_type(task.component, name)
    constant = source.get("runtimeValue", {}).get("constant")
    return wanted if constant is None or wanted is None or _is(constant, wanted) else type(constant).__name__


def _mistyped_items(document: Document, task: Task) -> Iterator[str]:
    """Items of a static list that are not of the type of the loop item."""
    loop = task.spec.get("parameterIterator", {})
    items, wanted = json_value(loop.get("items", {}).get("raw")), None
    if loop:
        wanted = document.input_type(task.component, loop.get("itemInput", ""))
    for item in items if isinstance(items, list) and wanted else ():
        if not _is(item, str(wanted)):
            yield f"loop {task.title}: item {item!r} is not of type {wanted}: loop over items of one type"
            return


def _is(value: Any, kind: str) -> bool:
    if kind not in _KINDS:
        return True
    if isinstance(value, bool) or kind == "BOOLEAN":
        return isinstance(value, bool) and kind == "BOOLEAN"
    if kind == "NUMBER_INTEGER" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _KINDS[kind])


def seconds(duration: object) -> float | None:
    """A duration of protobuf's JSON (`30s`) in seconds; None where there is none."""
    text = str(duration or "").removesuffix("s")
    return float(text) if text.replace(".", "", 1).isdigit() else None


def cut_retries(document: Document, _: ClusterParams) -> Iterator[str]:
    """Retries whose maximum duration is not named, or ends before the last attempt may."""
    for task, _container, pod in document.containers():
        policy = task.spec.get("retryPolicy", {})
        count = int(policy.get("maxRetryCount", 0))
        if not count:
            continue
        named, limit = seconds(policy.get("backoffMaxDuration")), seconds(pod.get("activeDeadlineSeconds"))
        if named is None:
            yield f"task {task.name}: {count} retries without a maximum duration: name backoff_max_duration"
        elif limit is None and named == 3600:
            yield f"task {task.name}: maximum duration 3600 s is the SDK's default, and no time-out is set: set both"
        elif limit is not None and named < (needed := _needed(policy, count, limit)):
            yield (
                f"task {task.name}: retries end {named:g} s after the first attempt began, {count + 1} attempts of "
                f"{limit:g} s and the waits need {needed:g} s: raise backoff_max_duration, or lower the time-out"
            )


def _needed(policy: Tree, count: int, limit: float) -> float:
    wait, factor = seconds(policy.get("backoffDuration")) or 0.0, float(policy.get("backoffFactor") or 2.0)
    return (count + 1) * limit + sum(wait * factor**number for number in range(count))


def short_timeouts(document: Document, _: ClusterParams) -> Iterator[str]:
    """Time-outs that end before the settings of their step let it end."""
    for task, container, pod in document.containers():
        limit = seconds(pod.get("activeDeadlineSeconds"))
        if limit is None:
            continue
        for setting, wanted in _longest(document, task, container):
            if limit <= wanted:
                yield (
                    f"task {task.name}: time-out {limit:g} s, and {setting} lets it take {wanted:g} s: "
                    "raise timeout_minutes of its row in cluster.steps, or lower the setting"
                )


def _longest(document: Document, task: Task, container: Tree) -> Iterator[tuple[str, float]]:
    """Settings that say how long a task may take or wait, in seconds."""
    section = str(container_step(task))
    tree = json_value(document.value(task, "params"))
    for setting, unit in _LASTING.get(section, {}).items() if isinstance(tree, dict) else ():
        if setting != "wait_minutes" or str(tree.get("storage") or "").startswith("postgresql"):
            yield f"{section}.{setting}", unit * float(tree.get(setting) or 0)
    for pair in container.get("env", ()):
        patience = seconds(pair.get("value")) if pair.get("name") == "MCTI_PATIENCE_SECONDS" else None
        if patience is not None:
            yield "cluster.environment.MCTI_PATIENCE_SECONDS", patience


def container_step(task: Task) -> str:
    """The step that a task runs: its component's name."""
    return task.component.removeprefix("comp-").rstrip("-0123456789")


def unpinned_images(document: Document, _: ClusterParams) -> Iterator[str]:
    """Images that are not named by their digest while the result of the task may be reused."""
    for task, container, _pod in document.containers():
        image = str(container.get("image", ""))
        if task.spec.get("cachingOptions", {}).get("enableCache") and "@sha256:" not in image:
            yield f"task {task.name}: image {image} without digest and caching on: name it by digest (cluster.image)"


RULES = (
    Rule(
        "parameter-types",
        "the driver stops the task: input parameter type mismatch; kfp.local converts and does not notice",
        "KFP 2.17.0, observed on a cluster: an output declared as bare list has items of type STRING",
        mistyped,
    ),
    Rule(
        "retry-duration",
        "a task is not retried, or its retry is stopped: the maximum counts from the first attempt's start",
        "kfp 2.17.3, dsl/structures.py writes 3600 s where none is named; Argo 4.0 Backoff.maxDuration",
        cut_retries,
    ),
    Rule(
        "timeout",
        "Kubernetes stops the task before its own settings end it",
        "Kubernetes 1.35, activeDeadlineSeconds",
        short_timeouts,
    ),
    Rule(
        "image-digest",
        "a result of other code is reused: the cache compares the name of the image",
        "KFP 2.17.0, cacheutils/cache.go: the key holds the image as it is written",
        unpinned_images,
    ),
)
