"""A rule on values: no text that Argo or Kubernetes rewrites before the task receives it."""

import re
from collections.abc import Iterator
from typing import Any

from mcti.params import ClusterParams
from mcti.pipelines.checks.document import Document, Task, Tree, json_value
from mcti.pipelines.checks.rule import Rule

_REWRITTEN = re.compile(r"\$\$|\{\{|\}\}|\$\([^)]*\)")
_PLACEHOLDER = re.compile(r"\{\{\$\.inputs\.parameters\[(?:'|\")([^'\"]+)(?:'|\")\]\}\}")
_SETTINGS = {
    "MCTI_EXPERIMENT": "cluster.experiment",
    "MCTI_IMAGE": "cluster.image",
    "MCTI_CHECKPOINTS": "cluster.checkpoints",
    "MCTI_REMOTE": "cluster.remote",
}


def rewritten(document: Document, cluster: ClusterParams) -> Iterator[str]:
    """Values that the task would receive in a changed form."""
    for where, text in _texts(document, cluster):
        match = _REWRITTEN.search(text)
        if match is not None:
            yield f"{where} contains {match[0]!r}, which Argo or Kubernetes rewrites: choose a value without it"


def _texts(document: Document, cluster: ClusterParams) -> Iterator[tuple[str, str]]:
    """Each text with its location: defaults, constants, loop items and environment."""
    declared = document.component("root").get("inputDefinitions", {}).get("parameters", {})
    for name, parameter in declared.items():
        yield from _leaves(name, parameter.get("defaultValue"))
    for task in document.tasks():
        yield from _texts_of_task(task)
    reported = set[tuple[str, str]]()  # the same variables and settings belong to every task
    for task, container, pod in document.containers():
        for where, text in _texts_of_pod(task, container, pod, cluster):
            location = where.removeprefix(f"task {task.name}, ")
            if (location, text) not in reported:
                reported.add((location, text))
                yield where, text


def _texts_of_pod(task: Task, container: Tree, pod: Tree, cluster: ClusterParams) -> Iterator[tuple[str, str]]:
    for pair in container.get("env", ()):
        yield _location_of_variable(str(pair.get("name")), task, cluster), str(pair.get("value", ""))
    yield from _leaves(f"task {task.name}, Kubernetes", pod)


def _location_of_variable(name: str, task: Task, cluster: ClusterParams) -> str:
    if name in cluster.environment:
        return f"cluster.environment.{name}"
    return _SETTINGS.get(name, f"task {task.name}, environment variable {name}")


def _texts_of_task(task: Task) -> Iterator[tuple[str, str]]:
    inputs = task.spec.get("inputs", {}).get("parameters", {})
    for name, source in inputs.items():
        constant = source.get("runtimeValue", {}).get("constant")
        if isinstance(constant, str):  # KFP refers to another input of the same task with a placeholder
            constant = _PLACEHOLDER.sub(lambda match: "" if match[1] in inputs else match[0], constant)
        yield from _leaves(f"task {task.name}, parameter {name}", constant)
    items = json_value(task.spec.get("parameterIterator", {}).get("items", {}).get("raw"))
    yield from _leaves(f"loop {task.title}, item", items)


def _leaves(where: str, value: Any) -> Iterator[tuple[str, str]]:
    """Texts of a tree, keys included. JSON text is parsed: the braces at its end are no part of a value."""
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
        "the task receives another value: Argo replaces {{...}}, Kubernetes expands $(VAR) and turns $$ into $",
        "Argo 4.0 template tags; Kubernetes 1.35 Container.args and EnvVar.value; observed with KFP 2.17.0",
        rewritten,
    ),
)
