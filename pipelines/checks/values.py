"""A rule on values: no text that Argo or Kubernetes would rewrite on its way to the task."""

import re
from collections.abc import Iterator
from typing import Any

from mcti.params import ClusterParams
from pipelines.checks.document import Document, Task, json_value
from pipelines.checks.rule import Rule

_REWRITTEN = re.compile(r"\$\$|\{\{|\}\}|\$\([^)]*\)")
_PLACEHOLDER = re.compile(r"\{\{\$\.inputs\.parameters\[(?:'|\")([^'\"]+)(?:'|\")\]\}\}")
_SETTINGS = {
    "MCTI_EXPERIMENT": "cluster.experiment",
    "MCTI_IMAGE": "cluster.image",
    "MCTI_CHECKPOINTS": "cluster.checkpoints",
    "MCTI_REMOTE": "cluster.remote",
}


def rewritten(document: Document, cluster: ClusterParams) -> Iterator[str]:
    """Values that would arrive as another text than was written."""
    for where, text in _texts(document, cluster):
        match = _REWRITTEN.search(text)
        if match is not None:
            yield f"{where} holds {match[0]!r}, which Argo or Kubernetes rewrites: choose a value without it"


def _texts(document: Document, cluster: ClusterParams) -> Iterator[tuple[str, str]]:
    """Each text with its place: defaults, constants and loop items, and the environment."""
    declared = document.component("root").get("inputDefinitions", {}).get("parameters", {})
    for name, parameter in declared.items():
        yield from _leaves(name, parameter.get("defaultValue"))
    for task in document.tasks():
        yield from _of_task(task)
    seen = set[tuple[str, str]]()
    for task, container, _pod in document.containers():
        for pair in container.get("env", ()):
            name, value = str(pair.get("name")), str(pair.get("value", ""))
            if (name, value) not in seen:
                seen.add((name, value))
                yield _of_variable(name, task, cluster), value


def _of_variable(name: str, task: Task, cluster: ClusterParams) -> str:
    if name in cluster.environment:
        return f"cluster.environment.{name}"
    return _SETTINGS.get(name, f"task {task.name}, environment variable {name}")


def _of_task(task: Task) -> Iterator[tuple[str, str]]:
    inputs = task.spec.get("inputs", {}).get("parameters", {})
    for name, given in inputs.items():
        constant = given.get("runtimeValue", {}).get("constant")
        if isinstance(constant, str):  # KFP itself puts another input of the same task there
            constant = _PLACEHOLDER.sub(lambda match: "" if match[1] in inputs else match[0], constant)
        yield from _leaves(f"task {task.name}, parameter {name}", constant)
    items = json_value(task.spec.get("parameterIterator", {}).get("items", {}).get("raw"))
    yield from _leaves(f"loop {task.title}, item", items)


def _leaves(where: str, value: Any) -> Iterator[tuple[str, str]]:
    """Texts of a tree, its keys among them. JSON text is read: the braces at its end are not the value's own."""
    tree = json_value(value)
    tree = tree if isinstance(tree, dict | list) else value
    if isinstance(tree, dict):
        for key, inner in tree.items():
            yield f"{where}.{key}", str(key)
            yield from _leaves(f"{where}.{key}", inner)
    elif isinstance(tree, list | tuple):
        for number, inner in enumerate(tree):
            yield from _leaves(f"{where}[{number}]", inner)
    elif isinstance(tree, str):
        yield where, tree


RULES = (
    Rule(
        "rewritten-values",
        "the task gets another value: Argo replaces {{...}}, Kubernetes expands $(VAR) and makes $ of $$",
        "Argo 4.0 template tags; Kubernetes 1.35 Container.args and EnvVar.value; observed with KFP 2.17.0",
        rewritten,
    ),
)
