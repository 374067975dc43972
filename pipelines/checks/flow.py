"""Rules on tasks and their parameters: types, retries, time-outs, images."""

from collections.abc import Iterator
from typing import Any

from mcti.params import ClusterParams
from mcti.params.result_settings import VARIABLE, neutral_of
from mcti.pipelines.checks.document import Document, Task, Tree, json_value
from mcti.pipelines.checks.rule import Rule

_TYPES: dict[str, tuple[type, ...]] = {
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "STRING": (str,),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}
# Settings that bound how long a step may take or wait: section -> {setting: seconds of its unit}.
_DURATIONS = {
    "search": {"timeout_minutes": 60, "wait_minutes": 60},
    "extract": {"slide_minutes": 60},
    "train": {"checkpoint_seconds": 1},
}


def mistyped(document: Document, _: ClusterParams) -> Iterator[str]:
    """Parameters, loop items included, whose source has a type other than the task declares."""
    for task in document.tasks():
        for name in task.spec.get("inputs", {}).get("parameters", {}):
            declared, actual = document.input_type(task.component, name), _source_type(document, task, name)
            if declared and actual and actual != declared and declared != "TASK_FINAL_STATUS":
                looped = "loop-item" in str(task.spec["inputs"]["parameters"][name])
                source = "a loop item" if looped else "its source"
                hint = "declare the item type of the list, such as List[int]" if looped else "declare the same type"
                yield (
                    f"task {task.name}, parameter {name}: {source} has type {actual}, the parameter {declared}: {hint}"
                )
        yield from _mistyped_items(document, task)


def _source_type(document: Document, task: Task, name: str) -> str | None:
    """Type of the source of a parameter; None where the file does not determine it."""
    source: Tree = task.spec["inputs"]["parameters"][name]
    if "parameterExpressionSelector" in source:
        return None
    if "componentInputParameter" in source:
        return document.input_type(task.parent, source["componentInputParameter"])
    if "taskOutputParameter" in source:
        output = source["taskOutputParameter"]
        producer = next((t for t in document.tasks_of(task.parent) if t.name == output.get("producerTask")), None)
        return document.output_type(producer.component, output.get("outputParameterKey", "")) if producer else None
    declared = document.input_type(task.component, name)
    constant = source.get("runtimeValue", {}).get("constant")
    fits = constant is None or declared is None or _has_type(constant, declared)
    return declared if fits else type(constant).__name__


def _mistyped_items(document: Document, task: Task) -> Iterator[str]:
    """Items of a static list that are not of the type of the loop item."""
    loop = task.spec.get("parameterIterator", {})
    items, declared = json_value(loop.get("items", {}).get("raw")), None
    if loop:
        declared = document.input_type(task.component, loop.get("itemInput", ""))
    for item in items if isinstance(items, list) and declared else ():
        if not _has_type(item, str(declared)):
            yield f"loop {task.title}: item {item!r} is not of type {declared}: loop over items of one type"
            return


def _has_type(value: Any, type_name: str) -> bool:
    if type_name not in _TYPES:
        return True
    if isinstance(value, bool) or type_name == "BOOLEAN":
        return isinstance(value, bool) and type_name == "BOOLEAN"
    if type_name == "NUMBER_INTEGER" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[type_name])


def seconds(duration: object) -> float | None:
    """A duration of protobuf's JSON (`30s`) in seconds; None where there is none."""
    text = str(duration or "").removesuffix("s")
    return float(text) if text.replace(".", "", 1).isdigit() else None


def cut_retries(document: Document, _: ClusterParams) -> Iterator[str]:
    """Retries whose maximum duration is not set, or ends before the last attempt can complete."""
    for task, _container, pod in document.containers():
        policy = task.spec.get("retryPolicy", {})
        count = int(policy.get("maxRetryCount", 0))
        if not count:
            continue
        maximum, limit = seconds(policy.get("backoffMaxDuration")), seconds(pod.get("activeDeadlineSeconds"))
        if maximum is None:
            yield f"task {task.name}: {count} retries without a maximum duration: set backoff_max_duration"
        elif limit is None and maximum == 3600:
            yield f"task {task.name}: maximum duration 3600 s is the SDK's default, and no time-out is set: set both"
        elif limit is not None and maximum < (required := _required_seconds(policy, count, limit)):
            yield (
                f"task {task.name}: retries end {maximum:g} s after the start of the first attempt, {count + 1} "
                f"attempts of {limit:g} s and the waits need {required:g} s: "
                "raise backoff_max_duration, or lower the time-out"
            )


def _required_seconds(policy: Tree, count: int, limit: float) -> float:
    wait, factor = seconds(policy.get("backoffDuration")) or 0.0, float(policy.get("backoffFactor") or 2.0)
    return (count + 1) * limit + sum(wait * factor**number for number in range(count))


def short_timeouts(document: Document, _: ClusterParams) -> Iterator[str]:
    """Time-outs that are shorter than the settings of the step allow it to take."""
    for task, container, pod in document.containers():
        limit = seconds(pod.get("activeDeadlineSeconds"))
        if limit is None:
            continue
        for setting, allowed in _allowed_durations(document, task, container):
            if limit <= allowed:
                yield (
                    f"task {task.name}: time-out {limit:g} s, but {setting} allows {allowed:g} s: "
                    "raise timeout_minutes of its row in cluster.steps, or lower the setting"
                )


def _allowed_durations(document: Document, task: Task, container: Tree) -> Iterator[tuple[str, float]]:
    """Settings that bound how long a task may take or wait, with their value in seconds."""
    section = str(container_step(task))
    tree = json_value(document.value(task, "params"))
    if isinstance(tree, dict):
        variables = {pair.get("name"): pair.get("value") for pair in container.get("env", ())}
        tree = neutral_of(section, json_value(variables.get(VARIABLE)) or {}) | tree
    for setting, unit in _DURATIONS.get(section, {}).items() if isinstance(tree, dict) else ():
        if setting != "wait_minutes" or str(tree.get("storage") or "").startswith("postgresql"):
            yield f"{section}.{setting}", unit * float(tree.get(setting) or 0)
    for pair in container.get("env", ()):
        patience = seconds(pair.get("value")) if pair.get("name") == "MCTI_PATIENCE_SECONDS" else None
        if patience is not None:
            yield "cluster.environment.MCTI_PATIENCE_SECONDS", patience


def container_step(task: Task) -> str:
    """The step that a task runs: the name of its component."""
    return task.component.removeprefix("comp-").rstrip("-0123456789")


def unpinned_images(document: Document, _: ClusterParams) -> Iterator[str]:
    """Images without a digest in tasks whose result may be reused."""
    for task, container, _pod in document.containers():
        image = str(container.get("image", ""))
        if task.spec.get("cachingOptions", {}).get("enableCache") and "@sha256:" not in image:
            yield f"task {task.name}: image {image} without digest and caching on: name it by digest (cluster.image)"


RULES = (
    Rule(
        "parameter-types",
        "the driver stops the task: input parameter type mismatch; kfp.local converts the value instead",
        "KFP 2.17.0, observed on a cluster: an output declared as bare list has items of type STRING",
        mistyped,
    ),
    Rule(
        "retry-duration",
        "a task is not retried, or its retry is stopped: the maximum counts from the first attempt's start",
        "kfp 2.17.3, dsl/structures.py writes 3600 s where none is set; Argo 4.0 Backoff.maxDuration",
        cut_retries,
    ),
    Rule(
        "timeout",
        "Kubernetes stops the task before its own settings do",
        "Kubernetes 1.35, activeDeadlineSeconds",
        short_timeouts,
    ),
    Rule(
        "image-digest",
        "a result of other code is reused: the cache compares the name of the image",
        "KFP 2.17.0, cacheutils/cache.go: the cache key contains the image name as written",
        unpinned_images,
    ),
)
