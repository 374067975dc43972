"""Rules on the pods of the tasks: resources, what they name, who they run as, mounts, names."""

import re
from collections.abc import Iterator
from itertools import groupby

from mcti.params import ClusterParams
from mcti.params.quantities import amount
from pipelines.checks import objects
from pipelines.checks.document import Document, Task, Tree
from pipelines.checks.rule import Rule

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_PATH = re.compile(r"(/[A-Za-z0-9_.-]+)+/?")
_SUFFIX = 6  # of the workflow's name: a hyphen and five random characters
# Mounts of KFP's launcher and of Argo, and what the image runs from.
_TAKEN = (
    "/kfp-launcher", "/gcs", "/s3", "/minio", "/.local", "/.cache", "/.config", "/var/run/argo", "/argo",
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr", "/opt/mcti",
)  # fmt: skip


def oversized(document: Document, cluster: ClusterParams) -> Iterator[str]:
    """Requests above the largest node or the quota, limits below requests, /dev/shm above the memory."""
    for task, container, pod in document.containers():
        asked = container.get("resources", {})
        try:
            yield from (f"task {task.name}: {fault}" for fault in _against(asked, pod, cluster))
        except ValueError as error:
            yield f"task {task.name}: {error}"


def _against(asked: Tree, pod: Tree, cluster: ClusterParams) -> Iterator[str]:
    cpu, cpu_limit = _pair(asked, "Cpu")
    memory, memory_limit = _pair(asked, "Memory")
    gpus = _gpus(asked)
    node, quota = cluster.largest_node, cluster.quota
    bounds: list[tuple[str, float | None, object, str]] = []
    if node is not None:
        bounds += [
            ("cpu", cpu, node.cpu, "cluster.largest_node"),
            ("memory", memory, node.memory, "cluster.largest_node"),
        ]
        bounds += [("GPUs", gpus, node.gpus, "cluster.largest_node")]
    if quota is not None:
        bounds += [("cpu", cpu, quota.cpu, "cluster.quota"), ("memory", memory, quota.memory, "cluster.quota")]
        bounds += [
            ("cpu_limit", cpu_limit, quota.cpu_limit, "cluster.quota"),
            ("GPUs", gpus, quota.gpus, "cluster.quota"),
        ]
        bounds += [("memory_limit", memory_limit, quota.memory_limit, "cluster.quota")]
    for name, value, bound, where in bounds:
        if value is not None and bound is not None and value > amount(str(bound)):
            yield f"{name} {value:g} is above the {bound} of {where}: lower it in its row of cluster.steps"
    yield from _beyond_limits(cpu, cpu_limit, memory, memory_limit, pod)


def _beyond_limits(
    cpu: float | None, cpu_limit: float | None, memory: float | None, memory_limit: float | None, pod: Tree
) -> Iterator[str]:
    for name, request, limit in (("cpu", cpu, cpu_limit), ("memory", memory, memory_limit)):
        if request is not None and limit is not None and request > limit:
            yield f"{name} {request:g} is above its limit {limit:g}: raise the limit, or request less"
    for mount in pod.get("emptyDirMounts", ()):
        shared = amount(mount["sizeLimit"]) if mount.get("medium") == "Memory" and "sizeLimit" in mount else 0.0
        if memory_limit is not None and shared > memory_limit:
            yield f"{mount.get('mountPath')} of {shared:g} bytes is above the memory limit {memory_limit:g}: lower it"


def _pair(asked: Tree, kind: str) -> tuple[float | None, float | None]:
    """Request and limit of `Cpu` or `Memory`; None where there is none, or only the run knows it."""
    request, limit = (asked.get(f"resource{kind}{word}") for word in ("Request", "Limit"))
    return _known(request), _known(limit)


def _known(text: object) -> float | None:
    return amount(str(text)) if text and "{{" not in str(text) else None


def _gpus(asked: Tree) -> float | None:
    return _known(asked.get("accelerator", {}).get("resourceCount"))


def unknown_objects(document: Document, cluster: ClusterParams) -> Iterator[str]:
    """Secrets and ConfigMaps, or keys of theirs, that neither infra/ nor the runbook makes."""
    for line, tasks in groupby(sorted(_unknown(document, cluster)), key=lambda pair: pair[0]):
        names = [task for _, task in tasks]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield f"task {names[0]}{more}: {line}"


def _unknown(document: Document, cluster: ClusterParams) -> Iterator[tuple[str, str]]:
    fields = (
        ("secretAsEnv", "secretName", "secretKey", "Secret", objects.SECRETS),
        ("secretAsVolume", "secretName", "", "Secret", objects.SECRETS),
        ("configMapAsEnv", "configMapName", "configMapKey", "ConfigMap", objects.CONFIG_MAPS),
        ("configMapAsVolume", "configMapName", "", "ConfigMap", objects.CONFIG_MAPS),
    )
    for task, _container, pod in document.containers():
        for field, named, key, kind, known in fields:
            for entry in pod.get(field, ()):
                name = _constant(entry, named)
                if name and not entry.get("optional") and name not in cluster.other_objects:
                    yield from ((line, task.name) for line in _missing(name, entry, key, kind, known))


def _missing(name: str, entry: Tree, key: str, kind: str, known: dict[str, frozenset[str]]) -> Iterator[str]:
    if name not in known:
        yield (f"{kind} {name} is in no overlay and not in the runbook: create it and list it in cluster.other_objects")
        return
    for pair in entry.get("keyToEnv", ()):
        if pair.get(key) not in known[name]:
            yield f"{kind} {name} has no key {pair.get(key)}: its keys are {', '.join(sorted(known[name]))}"


def _constant(entry: Tree, named: str) -> str | None:
    """The name of an object, as old and new versions of kfp-kubernetes write it."""
    new = entry.get(f"{named}Parameter", {}).get("runtimeValue", {}).get("constant")
    return new or entry.get(named)


def unrestricted(document: Document, _: ClusterParams) -> Iterator[str]:
    """Tasks whose user PodSecurity `restricted` would refuse."""
    for task, _container, pod in document.containers():
        context = pod.get("securityContext", {})
        user = context.get("runAsUser")
        if context.get("runAsNonRoot") is not True or user is None or int(user) == 0:
            yield (
                f"task {task.name}: no user other than root is named: "
                "kubernetes.set_security_context(task, run_as_user=10001, run_as_non_root=True)"
            )


def bad_mounts(document: Document, _: ClusterParams) -> Iterator[str]:
    """Mounts in places that are taken or that user 10001 cannot use."""
    for task, _container, pod in document.containers():
        folders = [str(mount.get("mountPath", "")).rstrip("/") for mount in _mounts(pod)]
        for folder in folders:
            fault = _fault_of(folder, folders)
            if fault:
                yield f"task {task.name}: mount in {folder or '/'!r} {fault}: choose another folder (cluster.claims)"
        if "/tmp" not in folders:  # noqa: S108  (a mount point in the container)  # nosec B108
            yield f"task {task.name}: no volume in /tmp: user 10001 may write nowhere else, mount an emptyDir there"


def _mounts(pod: Tree) -> list[Tree]:
    fields = ("emptyDirMounts", "pvcMount", "secretAsVolume", "configMapAsVolume", "genericEphemeralVolume")
    return [mount for field in fields for mount in pod.get(field, ())]


def _fault_of(folder: str, folders: list[str]) -> str | None:
    if not _PATH.fullmatch(folder) or ".." in folder.split("/") or "." in folder.split("/"):
        return "is not a plain absolute path"
    if folders.count(folder) > 1:
        return "is mounted twice"
    if folder != "/dev/shm" and any(f"{folder}/".startswith(f"{taken}/") for taken in _TAKEN):  # noqa: S108  # nosec B108
        return "lies in a folder of the image, of KFP or of Argo"
    return None


def long_names(document: Document, _: ClusterParams) -> Iterator[str]:
    """Names that Kubernetes would refuse, or that would not fit into a label."""
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
    for kind, name in names:  # KFP names the volume of a claim after the claim
        if len(name) > 63 or not _LABEL.fullmatch(name):
            yield f"task {task.name}: {kind} name {name!r}: 63 characters of a-z, 0-9 and '-' at most"
    labels = {**pod.get("nodeSelector", {}).get("labels", {}), **pod.get("podMetadata", {}).get("labels", {})}
    for key, value in labels.items():
        if len(key.rpartition("/")[2]) > 63 or len(str(value)) > 63:
            yield f"task {task.name}: label {key}={value} is longer than 63 characters"


RULES = (
    Rule(
        "resources",
        "the pod stays Pending for ever, or the quota refuses it",
        "Kubernetes 1.35: scheduler, ResourceQuota; a Memory emptyDir counts as memory of its container",
        oversized,
    ),
    Rule(
        "objects",
        "the pod waits in CreateContainerConfigError until somebody makes the Secret or ConfigMap",
        "Kubernetes 1.35, secretKeyRef and configMapKeyRef; names from infra/, its runbook and docs/kubeflow.md",
        unknown_objects,
    ),
    Rule(
        "pod-security",
        "a namespace with PodSecurity restricted refuses the pod",
        "Kubernetes 1.35 Pod Security Standards, restricted; kfp-kubernetes 2.17.3 can write the user and no more",
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
        "Kubernetes refuses the object: the workflow's name is the value of a label",
        "Kubernetes 1.35: labels and DNS labels have 63 characters; Argo adds 6 to the name of the pipeline",
        long_names,
    ),
)
