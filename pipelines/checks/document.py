"""A compiled pipeline as the rules read it: two YAML documents, the definition and the settings for Kubernetes."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from mcti import storage
from mcti.errors import DataError

SCHEMA = "2.1.0"
LARGEST_FILE = 32 << 20
"""Maximum size in bytes that the API server accepts: MaxFileLength of KFP 2.17.0. A larger file is not parsed."""
_HINT = "write it with mcti pipeline compile, or kfp dsl compile of kfp 2"
Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """A task of a DAG.

    name        key in the DAG;  parent  name of the component that holds the DAG (`root` for the pipeline)
    spec        PipelineTaskSpec;  component  name of its ComponentSpec
    """

    name: str
    parent: str
    spec: Tree
    component: str

    @property
    def title(self) -> str:
        """The name that Kubeflow's user interface displays."""
        return str(self.spec.get("taskInfo", {}).get("name", self.name))

    @property
    def is_exit(self) -> bool:
        """Whether it is the exit task of a group."""
        return str(self.spec.get("triggerPolicy", {}).get("strategy")) == "ALL_UPSTREAM_TASKS_COMPLETED"


@dataclass(frozen=True)
class Document:
    """A compiled pipeline.

    where       path, for messages;  size  bytes of the file
    spec        PipelineSpec as a tree;  pods  name of executor -> KubernetesExecutorConfig as a tree
    """

    where: str
    size: int
    spec: Tree
    pods: Mapping[str, Tree]

    def component(self, name: str) -> Tree:
        """The ComponentSpec of a name; `root` is the pipeline itself."""
        spec: Tree = self.spec["root"] if name == "root" else self.spec.get("components", {}).get(name, {})
        return spec

    def tasks_of(self, name: str) -> list[Task]:
        """The tasks of a component's DAG; none of a component that is a container."""
        tasks = self.component(name).get("dag", {}).get("tasks", {})
        return [Task(key, name, spec, spec.get("componentRef", {}).get("name", "")) for key, spec in tasks.items()]

    def tasks(self) -> Iterator[Task]:
        """Every task of every DAG."""
        for name in ("root", *self.spec.get("components", {})):
            yield from self.tasks_of(name)

    def containers(self) -> Iterator[tuple[Task, Tree, Tree]]:
        """Every task that is a container: the task, its container, its settings for Kubernetes."""
        executors = self.spec.get("deploymentSpec", {}).get("executors", {})
        for task in self.tasks():
            label = self.component(task.component).get("executorLabel", "")
            container = executors.get(label, {}).get("container")
            if container is not None:
                yield task, container, self.pods.get(label, {})

    def input_type(self, component: str, name: str) -> str | None:
        """Declared type of an input parameter of a component."""
        return _type(self.component(component).get("inputDefinitions", {}).get("parameters", {}).get(name))

    def output_type(self, component: str, name: str) -> str | None:
        """Declared type of an output parameter of a component."""
        return _type(self.component(component).get("outputDefinitions", {}).get("parameters", {}).get(name))

    def value(self, task: Task, parameter: str) -> Any:
        """Value of an input parameter without an override of the run; None where only a run determines it."""
        source = task.spec.get("inputs", {}).get("parameters", {}).get(parameter, {})
        if "runtimeValue" in source:
            return source["runtimeValue"].get("constant")
        name = source.get("componentInputParameter")
        return self._default(task.parent, name) if name else None

    def _default(self, component: str, name: str) -> Any:
        declared = self.component(component).get("inputDefinitions", {}).get("parameters", {}).get(name, {})
        if component == "root":
            return declared.get("defaultValue")
        user = next((task for task in self.tasks() if task.component == component), None)
        return self.value(user, name) if user is not None else declared.get("defaultValue")

    def producer(self, task: Task, parameter: str) -> Task | None:
        """The task of the same DAG, or of an enclosing one, that produces the input parameter of a task."""
        source = task.spec.get("inputs", {}).get("parameters", {}).get(parameter, {})
        if "taskOutputParameter" in source:
            name = source["taskOutputParameter"].get("producerTask")
            return next((other for other in self.tasks_of(task.parent) if other.name == name), None)
        user = next((other for other in self.tasks() if other.component == task.parent), None)
        inner = source.get("componentInputParameter")
        return self.producer(user, inner) if user is not None and inner else None


def read(path: Path) -> Document:
    """The compiled pipeline in a file.

    Raises
        DataError: no such file, or no pipeline of Kubeflow Pipelines in the schema that kfp 2 writes.
    """
    with storage.translating_os_errors(path):
        size = path.stat().st_size
        if size > LARGEST_FILE:
            hint = f"the API server accepts {LARGEST_FILE} bytes: reduce the number of tasks"
            raise DataError(f"{size} bytes are too many", str(path), hint)
        body = path.read_bytes()
    first, *others = _documents(body, str(path))
    _require_pipeline(first, str(path))
    try:
        return Document(str(path), size, _normalised_spec(first), _pod_settings(others[0]) if others else {})
    except (json_format.ParseError, AttributeError, TypeError, ValueError) as error:
        raise DataError(f"not a compiled pipeline of Kubeflow Pipelines ({error})", str(path), _HINT) from error


def json_value(text: object) -> Any:
    """The value of a JSON text; None for anything else."""
    try:
        return json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _documents(body: bytes, where: str) -> list[dict[str, Any]]:
    try:
        documents = [tree for tree in yaml.load_all(body, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if tree]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", -1) + 1
        raise DataError("not YAML", f"{where}, line {line}" if line else where, _HINT) from error
    except RecursionError as error:
        raise DataError("nested too deeply for a pipeline", where, _HINT) from error
    if not documents:
        raise DataError("an empty file, no pipeline", where, _HINT)
    if len(documents) > 2 or not all(isinstance(tree, dict) for tree in documents):
        raise DataError("not a compiled pipeline of Kubeflow Pipelines", where, _HINT)
    return documents


def _require_pipeline(spec: dict[str, Any], where: str) -> None:
    if "pipelineInfo" not in spec or not isinstance(spec.get("root"), dict):
        raise DataError("not a compiled pipeline of Kubeflow Pipelines (no pipelineInfo, no root)", where, _HINT)
    version = spec.get("schemaVersion")
    if version != SCHEMA:
        raise DataError(f"schema version {version!r}, not {SCHEMA}", where, _HINT)


def _normalised_spec(tree: dict[str, Any]) -> Tree:
    """The definition in the form of its schema: no unknown field, no null, one name for each field."""
    spec = _normalised(tree, pipeline_spec_pb2.PipelineSpec())
    deployment = _normalised(spec.get("deploymentSpec", {}), pipeline_spec_pb2.PipelineDeploymentConfig())
    return spec | {"deploymentSpec": deployment, "root": spec.get("root", {})}


def _pod_settings(tree: dict[str, Any]) -> dict[str, Tree]:
    """The settings for Kubernetes by executor; fields of a later kfp-kubernetes are ignored."""
    platform = _normalised(tree, pipeline_spec_pb2.PlatformSpec()).get("platforms", {}).get("kubernetes", {})
    executors = platform.get("deploymentSpec", {}).get("executors", {})
    schema = kubernetes_executor_config_pb2.KubernetesExecutorConfig
    return {label: _normalised(config, schema(), ignore_unknown_fields=True) for label, config in executors.items()}


def _normalised(tree: Tree, message: Any, **options: bool) -> dict[str, Any]:
    normalised: dict[str, Any] = json_format.MessageToDict(json_format.ParseDict(tree, message, **options))
    return normalised


def _type(declared: Tree | None) -> str | None:
    return str(declared.get("parameterType") or declared.get("type")) if declared else None
