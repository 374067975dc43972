"""Rules on the pods of the tasks: referenced objects, user, mounts, names."""

import re
from collections.abc import Iterator
from itertools import groupby

from mcti.params import ClusterParams
from mcti.pipelines.checks.document import Document, Task, Tree
from mcti.pipelines.checks.rule import Rule

# Objects that a task may reference, with their keys: those of infra/, its runbook and docs/kubeflow.md.
SECRETS: dict[str, frozenset[str]] = {
    "mcti-s3": frozenset({"access_key", "secret_key"}),
    "mcti-postgresql": frozenset({"user", "password", "mlflow_uri", "search_uri"}),
    "mcti-mlflow": frozenset({"user", "password"}),
    "mcti-search": frozenset({"password"}),
}
CONFIG_MAPS: dict[str, frozenset[str]] = {
    "mcti-services": frozenset({"s3", "mlflow"}),
    "mcti-buckets": frozenset({"artifacts", "backup"}),
}
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_PATH = re.compile(r"(/[A-Za-z0-9_.-]+)+/?")
_SUFFIX = 6  # of the workflow's name: a hyphen and five random characters
# Mounts of KFP's launcher and of Argo, and folders of the image.
_RESERVED = (
    "/kfp-launcher", "/gcs", "/s3", "/minio", "/.local", "/.cache", "/.config", "/var/run/argo", "/argo",
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr", "/opt/mcti",
)  # fmt: skip


def unknown_objects(document: Document, cluster: ClusterParams) -> Iterator[str]:
    """Secrets, ConfigMaps and keys that neither infra/ nor the runbook creates."""
    for line, tasks in groupby(sorted(_unknown(document, cluster)), key=lambda pair: pair[0]):
        names = [task for _, task in tasks]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield f"task {names[0]}{more}: {line}"


def _unknown(document: Document, cluster: ClusterParams) -> Iterator[tuple[str, str]]:
    fields = (
        ("secretAsEnv", "secretName", "secretKey", "Secret", SECRETS),
        ("secretAsVolume", "secretName", "", "Secret", SECRETS),
        ("configMapAsEnv", "configMapName", "configMapKey", "ConfigMap", CONFIG_MAPS),
        ("configMapAsVolume", "configMapName", "", "ConfigMap", CONFIG_MAPS),
    )
    for task, _container, pod in document.containers():
        for field, name_field, key, resource, known in fields:
            for entry in pod.get(field, ()):
                name = _constant(entry, name_field)
                if name and not entry.get("optional") and name not in cluster.other_objects:
                    yield from ((line, task.name) for line in _missing(name, entry, key, resource, known))


def _missing(name: str, entry: Tree, key: str, resource: str, known: dict[str, frozenset[str]]) -> Iterator[str]:
    label = f"{resource} {name}"
    if name not in known:
        yield f"{label} is in no overlay and not in the runbook: create it and list it in cluster.other_objects"
        return
    for pair in entry.get("keyToEnv", ()):
        if pair.get(key) not in known[name]:
            yield f"{label} has no key {pair.get(key)}: its keys are {', '.join(sorted(known[name]))}"


def _constant(entry: Tree, name_field: str) -> str | None:
    """The name of an object, in the form of old and of new versions of kfp-kubernetes."""
    new = entry.get(f"{name_field}Parameter", {}).get("runtimeValue", {}).get("constant")
    return new or entry.get(name_field)


def unrestricted(document: Document, _: ClusterParams) -> Iterator[str]:
    """Tasks whose user PodSecurity `restricted` refuses."""
    for task, _container, pod in document.containers():
        context = pod.get("securityContext", {})
        user = context.get("runAsUser")
        if context.get("runAsNonRoot") is not True or user is None or int(user) == 0:
            yield (
                f"task {task.name}: no user other than root is set: "
                "kubernetes.set_security_context(task, run_as_user=10001, run_as_non_root=True)"
            )


def bad_mounts(document: Document, _: ClusterParams) -> Iterator[str]:
    """Mounts in folders that are reserved or that user 10001 cannot use."""
    for task, _container, pod in document.containers():
        folders = [str(mount.get("mountPath", "")).rstrip("/") for mount in _mounts(pod)]
        for folder in folders:
            fault = _mount_fault(folder, folders)
            if fault:
                yield f"task {task.name}: mount in {folder or '/'!r} {fault}: choose another folder (cluster.claims)"
        if "/tmp" not in folders:  # noqa: S108  (a mount point in the container)  # nosec B108
            yield f"task {task.name}: no volume in /tmp, the only folder that user 10001 may write: mount an emptyDir"


def _mounts(pod: Tree) -> list[Tree]:
    fields = ("emptyDirMounts", "pvcMount", "secretAsVolume", "configMapAsVolume", "genericEphemeralVolume")
    return [mount for field in fields for mount in pod.get(field, ())]


def _mount_fault(folder: str, folders: list[str]) -> str | None:
    if not _PATH.fullmatch(folder) or ".." in folder.split("/") or "." in folder.split("/"):
        return "is not a plain absolute path"
    if folders.count(folder) > 1:
        return "is mounted twice"
    if folder != "/dev/shm" and any(f"{folder}/".startswith(f"{reserved}/") for reserved in _RESERVED):  # noqa: S108  # nosec B108
        return "is in a folder of the image, of KFP or of Argo"
    return None


def long_names(document: Document, _: ClusterParams) -> Iterator[str]:
    """Names that Kubernetes refuses, or that do not fit into a label."""
    name = str(document.spec.get("pipelineInfo", {}).get("name", ""))
    longest = 63 - _SUFFIX
    if len(name) > longest or not _LABEL.fullmatch(name):
        yield f"pipeline name {name!r}: {longest} characters of a-z, 0-9 and '-' at most (cluster.pipeline)"
    for task in document.tasks():
        if len(task.name) > 63 or not _LABEL.fullmatch(task.name):
            yield f"task name {task.name!r}: 63 characters of a-z, 0-9 and '-' at most"
    for task, _container, pod in document.containers():
        yield from _bad_volumes(task, pod)


def _bad_volumes(task: Task, pod: Tree) -> Iterator[str]:
    names = [("volume", str(mount.get("volumeName"))) for mount in pod.get("emptyDirMounts", ())]
    claims = [mount.get("constant") or _constant(mount, "pvcName") for mount in pod.get("pvcMount", ())]
    names += [("claim", str(claim)) for claim in claims if claim]
    for object_type, name in names:  # KFP names the volume of a claim after the claim
        if len(name) > 63 or not _LABEL.fullmatch(name):
            yield f"task {task.name}: {object_type} name {name!r}: 63 characters of a-z, 0-9 and '-' at most"
    labels = {**pod.get("nodeSelector", {}).get("labels", {}), **pod.get("podMetadata", {}).get("labels", {})}
    for key, value in labels.items():
        if len(key.rpartition("/")[2]) > 63 or len(str(value)) > 63:
            yield f"task {task.name}: label {key}={value} is longer than 63 characters"


RULES = (
    Rule(
        "objects",
        "the pod waits in CreateContainerConfigError until the Secret or ConfigMap is created",
        "Kubernetes 1.35, secretKeyRef and configMapKeyRef; names from infra/, its runbook and docs/kubeflow.md",
        unknown_objects,
    ),
    Rule(
        "pod-security",
        "a namespace with PodSecurity restricted refuses the pod",
        "Kubernetes 1.35 Pod Security Standards, restricted; kfp-kubernetes 2.17.3 can set only the user",
        unrestricted,
    ),
    Rule(
        "mounts",
        "Kubernetes refuses the pod, or the task fails when it writes a temporary file",
        "Kubernetes 1.35 VolumeMount; KFP 2.17.0 argocompiler/container.go mounts its own folders",
        bad_mounts,
    ),
    Rule(
        "names",
        "Kubernetes refuses the object: the name of the workflow is the value of a label",
        "Kubernetes 1.35: labels and DNS labels have 63 characters; Argo adds 6 to the name of the pipeline",
        long_names,
    ),
)
