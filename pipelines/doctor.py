"""Checks of a cluster against the settings of the pipelines: one line per check; nothing is changed."""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from kfp_server_api.exceptions import ApiException
from kubernetes.utils.quantity import parse_quantity
from pydantic import BaseModel, ConfigDict

from mcti.diagnosis.check import Check, State, exit_code
from mcti.errors import MctiError, OperationalError
from mcti.params import ClusterParams, Settings
from mcti.pipelines import client, kubectl

SECONDS = 45  # for all calls of kubectl; each request to the API server before has 10 s of its own
CALL_SECONDS = 5
PATCH = "COMPILED_PIPELINE_SPEC_PATCH"
_PATCH_HINT = (
    f'kubectl set env -n kubeflow deployment/ml-pipeline {PATCH}=\'{{"templateDefaults":{{"retryStrategy":'
    '{"limit":"0","retryPolicy":"Always"}}}\': without it a failed task is not retried (infra/runbook.md)'
)


class Diagnosis(BaseModel):
    """The results of all checks."""

    model_config = ConfigDict(frozen=True)
    host: str
    checks: tuple[Check, ...]

    @property
    def exit_code(self) -> int:
        """4 where a prerequisite is missing."""
        return exit_code(self.checks)

    def lines(self) -> list[str]:
        """One line per check."""
        return [check.line() for check in self.checks]


def doctor(settings: Settings, host: str, namespace: str | None) -> Diagnosis:
    """Check the server at `host`, then the cluster of kubectl's context; what cannot be read is `unknown`.

    namespace   of the runs; None: that of ml-pipeline, where a server in single-user mode starts them
    """
    server_checks, server = _check_server(settings.cluster, host, namespace)
    return Diagnosis(host=host, checks=(*server_checks, *_check_cluster(settings.cluster, server, namespace)))


def check_server(cluster: ClusterParams, host: str) -> list[Check]:
    """Whether the server at `host` responds, and whether its version is the one of the settings."""
    try:
        with client.service(host) as service:
            return [Check(name="server", state="OK", detail=host), _check_version(service.about(), cluster.kfp_version)]
    except MctiError as error:
        return [_unavailable(error)]


def _check_server(cluster: ClusterParams, host: str, namespace: str | None) -> tuple[list[Check], client.Server | None]:
    try:
        with client.service(host) as service:
            server = service.about()
            checks = [Check(name="server", state="OK", detail=host), _check_version(server, cluster.kfp_version)]
            checks.append(_check_mode(server, namespace))
            checks.extend(_check_access(service, cluster.experiment, namespace if server.multi_user else None))
            return checks, server
    except MctiError as error:
        return [_unavailable(error)], None


def _unavailable(error: MctiError) -> Check:
    return Check(name="server", state="missing", detail=f"{error.what} in {error.where}", hint=error.hint)


def _check_version(server: client.Server, required: str) -> Check:
    try:
        client.require_version(server, required, "the server")
    except OperationalError as error:
        return Check(name="version", state="missing", detail=error.what, hint=error.hint)
    if not server.minor:
        detail, hint = "the server does not report its version", f"{required} is tested"
        return Check(name="version", state="unknown", detail=detail, hint=hint)
    return Check(name="version", state="OK", detail=server.version)


def _check_mode(server: client.Server, namespace: str | None) -> Check:
    if not server.multi_user:
        return Check(name="mode", state="OK", detail="single-user: runs start in the namespace of ml-pipeline")
    if not namespace:
        hint = "name the one of your profile: --namespace NAME"
        return Check(name="mode", state="missing", detail="multi-user: every user has a namespace", hint=hint)
    return Check(name="mode", state="OK", detail=f"multi-user, namespace {namespace}")


def _check_access(service: client.Client, experiment: str, namespace: str | None) -> Iterator[Check]:
    try:
        experiments = service.list_experiments(page_size=100, namespace=namespace).experiments or ()
    except ApiException as error:
        refusal = client.translate_api_error(error, "the server")
        yield Check(name="access", state="missing", detail=refusal.what, hint=refusal.hint)
        return
    yield Check(name="access", state="OK", detail="experiments can be listed")
    exists = any(row.display_name == experiment for row in experiments)
    detail = experiment if exists else f"{experiment} does not exist yet: submit creates it"
    yield Check(name="experiment", state="OK", detail=detail)


class _Cluster:
    """kubectl with one time limit for all requests."""

    def __init__(self) -> None:
        self.until = time.monotonic() + SECONDS

    def get(self, *arguments: str) -> kubectl.Response:
        left = self.until - time.monotonic()
        if left <= 1:
            return kubectl.Response("", f"not checked: the limit of {SECONDS} s for all checks is reached")
        return kubectl.call("get", *arguments, "-o", "json", seconds=int(min(CALL_SECONDS, left)))

    def check(self, name: str, hint: str, *arguments: str) -> tuple[Check | None, dict[str, Any]]:
        """The object and None, or the failed check and an empty object."""
        response = self.get(*arguments)
        if not response.error:
            return None, response.tree
        absent = "not found" in response.error.lower()
        state: State = "missing" if absent else "unknown"
        return Check(name=name, state=state, detail=response.error, hint=hint if absent else ""), {}


def _check_cluster(cluster: ClusterParams, server: client.Server | None, namespace: str | None) -> Iterator[Check]:
    context = kubectl.context()
    if not context:
        hint = "with kubectl and a context this command also reads Secrets, ConfigMaps, accounts, quota and claims"
        yield Check(name="kubectl", state="unknown", detail="not on PATH, or without a context", hint=hint)
        return
    requests = _Cluster()
    deployment = _read_deployment(requests, namespace)
    if isinstance(deployment, Check):
        yield deployment
        if deployment.state == "unknown" and not namespace:
            return
        deployment = {}
    namespace = namespace or (str(deployment["metadata"]["namespace"]) if deployment else "")
    if not namespace:
        return
    yield Check(name="kubectl", state="OK", detail=f"context {context}, namespace {namespace}")
    hint = f"name an existing one with --namespace, or run kubectl create namespace {namespace}"
    failed, _ = requests.check("namespace", hint, "namespace", namespace)
    if failed is not None:
        yield failed
        if failed.state == "missing":
            return
    yield from _check_objects(requests, cluster, namespace)
    account = "default-editor" if server is not None and server.multi_user else "pipeline-runner"
    yield _check_account(requests, namespace, account)
    yield from _check_claims(requests, cluster, namespace)
    yield _check_quota(requests, cluster, namespace)
    yield _check_image(requests, cluster)
    if deployment:
        yield _check_patch(deployment)


def _read_deployment(requests: _Cluster, namespace: str | None) -> Check | dict[str, Any]:
    """The deployment of the API server, from all namespaces; without rights for all, from one."""
    selector = ("--field-selector", "metadata.name=ml-pipeline")
    response = requests.get("deployments", "-A", *selector)
    refusal = response.error if kubectl.is_forbidden(response) else ""
    if refusal:
        response = requests.get("deployments", *(("-n", namespace) if namespace else ()), *selector)
    items = response.tree.get("items") or ()
    if items:
        return dict(items[0])
    detail = response.error or refusal or "kubectl's context shows no deployment ml-pipeline"
    hint = (
        "check with kubectl config use-context NAME that the context is the cluster of --host; without rights for all "
        "namespaces, name the one of ml-pipeline with --namespace"
    )
    return Check(name="deployment ml-pipeline", state="unknown", detail=detail, hint=hint)


def _check_objects(requests: _Cluster, cluster: ClusterParams, namespace: str) -> Iterator[Check]:
    """Secrets and ConfigMaps with the keys that the tasks read."""
    for resource, table in (("secret", cluster.secrets), ("configmap", cluster.config_maps)):
        create = "secret generic" if resource == "secret" else resource
        for name, keys in table.items():
            label = f"{resource} {name}"
            literals = " ".join(f"--from-literal={key}=…" for key in keys)
            hint = f"kubectl create {create} -n {namespace} {name} {literals}"
            failed, tree = requests.check(label, hint, resource, name, "-n", namespace)
            missing = sorted(set(keys) - set(tree.get("data") or {}))
            if failed is not None:
                yield failed
            elif missing:
                yield Check(name=label, state="missing", detail=f"no key {', '.join(missing)}", hint=hint)
            else:
                yield Check(name=label, state="OK", detail=f"keys {', '.join(sorted(keys))}")


def _check_account(requests: _Cluster, namespace: str, name: str) -> Check:
    label, hint = f"account {name}", "apply the overlay of infra/kubernetes, or Kubeflow's own manifests"
    failed, tree = requests.check(label, hint, "serviceaccount", name, "-n", namespace)
    if failed is not None:
        return failed
    if tree.get("automountServiceAccountToken") is False:
        hint = "remove automountServiceAccountToken: without a token Argo's executor stops in the first pod"
        return Check(name=label, state="missing", detail="it mounts no token", hint=hint)
    return Check(name=label, state="OK")


def _check_claims(requests: _Cluster, cluster: ClusterParams, namespace: str) -> Iterator[Check]:
    for name in cluster.claims:
        label = f"claim {name}"
        failed, tree = requests.check(label, "create it: cluster.claims lists it", "pvc", name, "-n", namespace)
        phase = str(tree.get("status", {}).get("phase", ""))
        if failed is not None:
            yield failed
        elif phase == "Bound":
            yield Check(name=label, state="OK", detail="bound")
        else:
            reasons = "its class may have no provisioner, or wait for the first pod"
            hint = f"kubectl describe pvc -n {namespace} {name}: {reasons}"
            state: State = "missing" if phase == "Lost" else "unknown"
            yield Check(name=label, state=state, detail=f"{phase or 'not bound'}", hint=hint)


def _check_quota(requests: _Cluster, cluster: ClusterParams, namespace: str) -> Check:
    """Whether the quotas of the namespace have enough left for the largest task."""
    response = requests.get("resourcequotas", "-n", namespace)
    if response.error:
        return Check(name="quota", state="unknown", detail=response.error)
    quotas = response.tree.get("items") or ()
    largest = _largest_requests(cluster)
    exceeded = [line for quota in quotas for line in _exceeded(quota, largest)]
    if exceeded:
        hint = (
            "wait for other runs, request less (cluster.steps), or raise the quota: "
            f"kubectl describe quota -n {namespace}"
        )
        return Check(name="quota", state="missing", detail="; ".join(exceeded), hint=hint)
    detail = "enough is left for the largest task" if quotas else "no quota"
    return Check(name="quota", state="OK", detail=detail)


def _largest_requests(cluster: ClusterParams) -> dict[str, Any]:
    """The largest request and limit of any task, by the names of a ResourceQuota."""
    rows = [getattr(cluster.steps, field) for field in type(cluster.steps).model_fields]
    largest: dict[str, Any] = {"pods": parse_quantity("2")}  # a driver and its task
    for name in ("cpu", "memory"):
        request = max(parse_quantity(getattr(row, name)) for row in rows)
        limit = max(parse_quantity(getattr(row, f"{name}_limit") or getattr(row, name)) for row in rows)
        largest |= {name: request, f"requests.{name}": request, f"limits.{name}": limit}
    return largest


def _exceeded(quota: Mapping[str, Any], largest: Mapping[str, Any]) -> Iterator[str]:
    status = quota.get("status", {})
    for resource, hard in (status.get("hard") or {}).items():
        if resource in largest:
            left = parse_quantity(hard) - parse_quantity((status.get("used") or {}).get(resource, "0"))
            if left < largest[resource]:
                amounts = f"has {left.normalize():f} {resource} left, a task requests {largest[resource].normalize():f}"
                yield f"{quota['metadata']['name']} {amounts}"


def _check_image(requests: _Cluster, cluster: ClusterParams) -> Check:
    label = f"image {cluster.image}"
    response = requests.get("nodes")
    if response.error:
        return Check(name=label, state="unknown", detail=response.error)
    nodes = response.tree.get("items") or ()
    names = {
        name
        for node in nodes
        for image in node.get("status", {}).get("images") or ()
        for name in image.get("names") or ()
    }
    if any(
        name in (cluster.image, f"docker.io/library/{cluster.image}", f"docker.io/{cluster.image}") for name in names
    ):
        return Check(name=label, state="OK", detail="a node has it")
    first = cluster.image.partition("/")[0]
    if "/" in cluster.image and ("." in first or ":" in first or first == "localhost"):
        hint = "the first pod shows whether the nodes can pull it: mcti pipeline status"
        return Check(name=label, state="unknown", detail="on no node yet", hint=hint)
    hint = "load it into every node, or push it and name the registry in cluster.image"
    return Check(name=label, state="missing", detail="on no node, and its name has no registry", hint=hint)


def _check_patch(deployment: Mapping[str, Any]) -> Check:
    """Whether the API server adds the retry policy that makes Argo retry failed tasks."""
    containers = deployment.get("spec", {}).get("template", {}).get("spec", {}).get("containers") or ()
    values = [
        str(pair.get("value", ""))
        for container in containers
        for pair in container.get("env") or ()
        if pair.get("name") == PATCH
    ]
    try:
        policy = json.loads(values[0])["templateDefaults"]["retryStrategy"]["retryPolicy"] if values else ""
    except (ValueError, KeyError, TypeError):
        return Check(name=PATCH, state="missing", detail=f"its value is {values[0][:200]!r}", hint=_PATCH_HINT)
    if policy != "Always":
        detail = f"retryPolicy is {policy}" if values else "not set on deployment ml-pipeline"
        return Check(name=PATCH, state="missing", detail=detail, hint=_PATCH_HINT)
    return Check(name=PATCH, state="OK", detail="failed tasks are retried")
