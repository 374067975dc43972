"""What a cluster has and lacks for the pipelines of these settings: one line a check, nothing is changed."""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from kubernetes.utils.quantity import parse_quantity
from pydantic import BaseModel, ConfigDict

from mcti.errors import MctiError, OperationalError
from mcti.params import ClusterParams, Settings
from pipelines import client, kubectl

SECONDS = 45  # for all of kubectl; the server before has had ten a question
CALL_SECONDS = 5
PATCH = "COMPILED_PIPELINE_SPEC_PATCH"
_PATCH_HINT = (
    f'kubectl set env -n kubeflow deployment/ml-pipeline {PATCH}=\'{{"templateDefaults":{{"retryStrategy":'
    '{"limit":"0","retryPolicy":"Always"}}}\': without it a task that fails is not tried again (infra/runbook.md)'
)


class Check(BaseModel):
    """One thing that the pipelines need: whether it is there, and what to do where it is not."""

    model_config = ConfigDict(frozen=True)
    name: str
    state: Literal["OK", "missing", "unknown"]
    detail: str = ""
    hint: str = ""

    def line(self) -> str:
        """The check for people."""
        told = f"{self.state:<8} {self.name}" + (f": {self.detail}" if self.detail else "")
        return f"{told}: {self.hint}" if self.hint else told


class Diagnosis(BaseModel):
    """All checks."""

    model_config = ConfigDict(frozen=True)
    host: str
    checks: tuple[Check, ...]

    @property
    def exit_code(self) -> int:
        """4 where something that is needed is missing."""
        return 4 if any(check.state == "missing" for check in self.checks) else 0

    def lines(self) -> list[str]:
        """One line a check."""
        return [check.line() for check in self.checks]


def doctor(settings: Settings, host: str, namespace: str | None) -> Diagnosis:
    """Ask the server at `host`, then kubectl where it has a context; whatever cannot be read is `unknown`.

    namespace   of the runs; None: that of ml-pipeline itself, where a server without users starts them
    """
    answers, server = _of_server(settings.cluster, host, namespace)
    return Diagnosis(host=host, checks=(*answers, *_of_cluster(settings.cluster, server, namespace)))


def _of_server(cluster: ClusterParams, host: str, namespace: str | None) -> tuple[list[Check], client.Server | None]:
    try:
        with client.service(host) as service:
            server = service.about()
            checks = [Check(name="server", state="OK", detail=host), _version(server, cluster.kfp_version)]
            checks.append(_mode(server, namespace))
            checks.extend(_access(service, cluster.experiment, namespace if server.multi_user else None))
            return checks, server
    except MctiError as error:
        return [Check(name="server", state="missing", detail=f"{error.what} in {error.where}", hint=error.hint)], None


def _version(server: client.Server, wanted: str) -> Check:
    try:
        client.need_version(server, wanted, "the server")
    except OperationalError as error:
        return Check(name="version", state="missing", detail=error.what, hint=error.hint)
    if not server.minor:
        return Check(
            name="version", state="unknown", detail="the server does not say which it is", hint=f"{wanted} is tested"
        )
    return Check(name="version", state="OK", detail=server.version)


def _mode(server: client.Server, namespace: str | None) -> Check:
    if not server.multi_user:
        return Check(name="mode", state="OK", detail="one user: runs start in the namespace of ml-pipeline")
    if not namespace:
        return Check(
            name="mode", state="missing", detail="every user has a namespace", hint="name yours: --namespace NAME"
        )
    return Check(name="mode", state="OK", detail=f"every user has a namespace: {namespace}")


def _access(service: client.Client, experiment: str, namespace: str | None) -> Iterator[Check]:
    try:
        found = service.list_experiments(page_size=100, namespace=namespace).experiments or ()
    except client.ApiException as error:
        told = client.refusal(error, "the server")
        yield Check(name="access", state="missing", detail=told.what, hint=told.hint)
        return
    yield Check(name="access", state="OK", detail="experiments can be listed")
    there = any(each.display_name == experiment for each in found)
    detail = experiment if there else f"{experiment} is not there yet: submit makes it"
    yield Check(name="experiment", state="OK", detail=detail)


class _Cluster:
    """kubectl with one time limit for all questions."""

    def __init__(self) -> None:
        self.until = time.monotonic() + SECONDS

    def get(self, *words: str) -> kubectl.Answer:
        left = self.until - time.monotonic()
        if left <= 1:
            return kubectl.Answer("", "no time left for this question")
        return kubectl.call("get", *words, "-o", "json", seconds=int(min(CALL_SECONDS, left)))

    def check(self, name: str, hint: str, *words: str) -> tuple[Check | None, dict[str, Any]]:
        """An object, or the check that says why there is none."""
        answer = self.get(*words)
        if not answer.error:
            return None, answer.tree
        absent = "not found" in answer.error.lower()
        state: Literal["missing", "unknown"] = "missing" if absent else "unknown"
        return Check(name=name, state=state, detail=answer.error, hint=hint if absent else ""), {}


def _of_cluster(cluster: ClusterParams, server: client.Server | None, namespace: str | None) -> Iterator[Check]:
    context = kubectl.context()
    if not context:
        hint = "with kubectl and a context this command also reads Secrets, ConfigMaps, accounts, quota and claims"
        yield Check(name="kubectl", state="unknown", detail="not on PATH, or without a context", hint=hint)
        return
    asked = _Cluster()
    api = _deployment(asked, namespace)
    if isinstance(api, Check):
        yield api
        if api.state == "unknown" and not namespace:
            return
        api = {}
    place = namespace or (str(api["metadata"]["namespace"]) if api else "")
    if not place:
        return
    yield Check(name="kubectl", state="OK", detail=f"context {context}, namespace {place}")
    absent, _ = asked.check(
        "namespace", f"name one that is there: --namespace; or kubectl create namespace {place}", "namespace", place
    )
    if absent is not None:
        yield absent
        if absent.state == "missing":
            return
    yield from _needed(asked, cluster, place)
    yield _account(asked, place, "default-editor" if server is not None and server.multi_user else "pipeline-runner")
    yield from _claims(asked, cluster, place)
    yield from _quotas(asked, cluster, place)
    yield _image(asked, cluster)
    if api:
        yield _patch(api)


def _deployment(asked: _Cluster, namespace: str | None) -> Check | dict[str, Any]:
    """The API server's own deployment, wherever it is; without rights for that, in `namespace` or the context's."""
    selector = ("--field-selector", "metadata.name=ml-pipeline")
    answer = asked.get("deployments", "-A", *selector)
    refusal = answer.error if kubectl.refused(answer) else ""
    if refusal:
        answer = asked.get("deployments", *(("-n", namespace) if namespace else ()), *selector)
    items = answer.tree.get("items") or ()
    if items:
        return dict(items[0])
    detail = answer.error or refusal or "kubectl's context shows no deployment ml-pipeline"
    hint = (
        "kubectl config use-context NAME: is it the cluster of --host? Without rights for all namespaces, name its own"
    )
    return Check(name="deployment ml-pipeline", state="unknown", detail=detail, hint=hint)


def _needed(asked: _Cluster, cluster: ClusterParams, place: str) -> Iterator[Check]:
    for kind, table in (("secret", cluster.secrets), ("configmap", cluster.config_maps)):
        for name, keys in table.items():
            literals = " ".join(f"--from-literal={key}=…" for key in keys)
            hint = f"kubectl create {kind}{' generic' if kind == 'secret' else ''} -n {place} {name} {literals}"
            absent, found = asked.check(f"{kind} {name}", hint, kind, name, "-n", place)
            lacking = sorted(set(keys) - set(found.get("data") or {}))
            if absent is not None:
                yield absent
            elif lacking:
                yield Check(name=f"{kind} {name}", state="missing", detail=f"no key {', '.join(lacking)}", hint=hint)
            else:
                yield Check(name=f"{kind} {name}", state="OK", detail=f"keys {', '.join(sorted(keys))}")


def _account(asked: _Cluster, place: str, name: str) -> Check:
    absent, found = asked.check(
        f"account {name}",
        "apply the overlay of infra/kubernetes, or Kubeflow's own manifests",
        "serviceaccount",
        name,
        "-n",
        place,
    )
    if absent is not None:
        return absent
    if found.get("automountServiceAccountToken") is False:
        hint = "remove automountServiceAccountToken: Argo's executor stops in the first pod without a token"
        return Check(name=f"account {name}", state="missing", detail="it mounts no token", hint=hint)
    return Check(name=f"account {name}", state="OK")


def _claims(asked: _Cluster, cluster: ClusterParams, place: str) -> Iterator[Check]:
    for name in cluster.claims:
        label = f"claim {name}"
        absent, found = asked.check(label, "create it: cluster.claims names it", "pvc", name, "-n", place)
        phase = str(found.get("status", {}).get("phase", ""))
        if absent is not None:
            yield absent
        elif phase == "Bound":
            yield Check(name=label, state="OK", detail="bound")
        else:
            hint = (
                f"kubectl describe pvc -n {place} {name}: its class may have no provisioner, or wait for the first pod"
            )
            state: Literal["missing", "unknown"] = "missing" if phase == "Lost" else "unknown"
            yield Check(name=label, state=state, detail=f"{phase or 'not bound'}", hint=hint)


def _quotas(asked: _Cluster, cluster: ClusterParams, place: str) -> Iterator[Check]:
    answer = asked.get("resourcequotas", "-n", place)
    if answer.error:
        yield Check(name="quota", state="unknown", detail=answer.error)
        return
    rows = [getattr(cluster.steps, field) for field in type(cluster.steps).model_fields]
    requests = {kind: [parse_quantity(getattr(row, kind)) for row in rows] for kind in ("cpu", "memory")}
    limits = {
        kind: [parse_quantity(getattr(row, f"{kind}_limit") or getattr(row, kind)) for row in rows] for kind in requests
    }
    needs = {f"{side}{kind}": max(sizes) for kind, sizes in requests.items() for side in ("", "requests.")}
    needs |= {f"limits.{kind}": max(sizes) for kind, sizes in limits.items()}
    needs["pods"] = parse_quantity("2")  # a driver and its task
    short = [line for quota in answer.tree.get("items") or () for line in _short(quota, needs)]
    if short:
        hint = f"wait for other runs, ask for less (cluster.steps), or raise it: kubectl describe quota -n {place}"
        yield Check(name="quota", state="missing", detail="; ".join(short), hint=hint)
    else:
        count = len(answer.tree.get("items") or ())
        detail = "no quota" if not count else "there is room for the largest task"
        yield Check(name="quota", state="OK", detail=detail)


def _short(quota: Mapping[str, Any], needs: Mapping[str, Any]) -> Iterator[str]:
    status = quota.get("status", {})
    for kind, hard in (status.get("hard") or {}).items():
        if kind in needs:
            room = parse_quantity(hard) - parse_quantity((status.get("used") or {}).get(kind, "0"))
            if room < needs[kind]:
                left, asked = f"{room.normalize():f}", f"{needs[kind].normalize():f}"
                yield f"{quota['metadata']['name']} has {left} {kind} left, a task asks {asked}"


def _image(asked: _Cluster, cluster: ClusterParams) -> Check:
    label = f"image {cluster.image}"
    answer = asked.get("nodes")
    if answer.error:
        return Check(name=label, state="unknown", detail=answer.error)
    nodes = answer.tree.get("items") or ()
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
        hint = "whether the nodes may pull it shows with the first pod: mcti pipeline status"
        return Check(name=label, state="unknown", detail="on no node yet", hint=hint)
    hint = "load it into every node, or push it and name the registry in cluster.image"
    return Check(name=label, state="missing", detail="on no node, and its name holds no registry", hint=hint)


def _patch(api: Mapping[str, Any]) -> Check:
    containers = api.get("spec", {}).get("template", {}).get("spec", {}).get("containers") or ()
    values = [
        str(pair.get("value", "")) for each in containers for pair in each.get("env") or () if pair.get("name") == PATCH
    ]
    try:
        policy = json.loads(values[0])["templateDefaults"]["retryStrategy"]["retryPolicy"] if values else ""
    except (ValueError, KeyError, TypeError):
        return Check(name=PATCH, state="missing", detail=f"its value is {values[0][:200]!r}", hint=_PATCH_HINT)
    if policy != "Always":
        detail = f"retryPolicy is {policy}" if values else "not set on deployment ml-pipeline"
        return Check(name=PATCH, state="missing", detail=detail, hint=_PATCH_HINT)
    return Check(name=PATCH, state="OK", detail="failed tasks are tried again")
