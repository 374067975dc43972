"""Check the cluster, create the missing namespace and Secrets, apply the overlay, run `mcti pipeline doctor`."""

import json
import os
import re
import secrets as random
from pathlib import Path
from typing import Any

import yaml

from infra.rehearse.session import SERVICES, Session
from infra.rehearse.shell import MissingRequirement, UnexpectedResult, require_program, wait_until
from infra.rehearse.work import write_settings

# The last two are rights on the whole cluster: the overlay labels its namespace and creates priority classes.
RIGHTS = (
    ("create", "statefulsets"),
    ("create", "secrets"),
    ("delete", "pods"),
    ("create", "networkpolicies"),
    ("patch", "namespaces"),
    ("create", "priorityclasses"),
)
ACTIONS = ["Admin", "Read", "Write", "List", "Tagging"]


def check_cluster(session: Session) -> str:
    """Check version, rights, storage class and the address of Kubeflow Pipelines; change nothing.

    Raises MissingRequirement when kubectl, the API server, a right, a storage class or Kubeflow is not available.
    """
    require_program("kubectl", "install 1.27 or later")
    require_program("mcti", "run `make install`, then `make rehearse`")
    cluster, options = session.cluster, session.options
    try:
        version = json.loads(cluster.call("version", "-o", "json", "--request-timeout=20s", limit=30))
    except UnexpectedResult as error:
        raise MissingRequirement(
            f"the API server of context {options.context} does not respond ({error}): check CONTEXT and its kubeconfig"
        ) from error
    if "serverVersion" not in version:
        raise MissingRequirement(f"context {options.context} has no API server: check CONTEXT")
    for verb, resource in RIGHTS:
        # The answer "no" has exit code 1, like an error.
        answer = cluster.call("auth", "can-i", verb, resource, codes=(0, 1)).strip()
        if answer != "yes":
            raise MissingRequirement(
                f"no right to {verb} {resource} in {options.namespace}: use the context of an administrator"
            )
    if not cluster.read("storageclass").get("items"):
        raise MissingRequirement(
            "the cluster has no storage class, so no claim can be bound: install a volume provisioner"
        )
    if options.host:
        _check_kubeflow(session)
    return f"Kubernetes {version['serverVersion']['gitVersion']}, context {options.context}"


def _check_kubeflow(session: Session) -> None:
    """Check before any change that HOST is a supported release of Kubeflow Pipelines and accepts the credentials.

    Raises MissingRequirement when it is not, or when it starts its runs in another namespace.
    """
    for check in session.pipeline("doctor")["checks"]:
        if check["state"] == "missing" and check.get("name") in {"server", "version", "mode", "access"}:
            raise MissingRequirement(f"{check['detail']}: {check['hint']}")
    try:
        arguments = ("deployments", "-A", "--field-selector", "metadata.name=ml-pipeline")
        namespaces = [
            deployment["metadata"]["namespace"] for deployment in session.cluster.read(*arguments).get("items", ())
        ]
    except UnexpectedResult:  # no right to list the deployments of all namespaces
        return
    options = session.options
    if namespaces and not options.multi_user and options.runs_namespace not in namespaces:
        message = (
            f"Kubeflow Pipelines starts its runs in its namespace {namespaces[0]}, not in {options.runs_namespace}"
        )
        raise MissingRequirement(f"{message}: set RUNS_NAMESPACE={namespaces[0]}, or ARGS=--multi-user for Profiles")


def install_services(session: Session) -> str:
    """Create namespace and Secrets, apply the overlay twice; the second time must change nothing."""
    cluster = session.cluster
    if not cluster.exists("namespace", session.options.namespace):
        cluster.call("create", "namespace", session.options.namespace)
        session.facts["created_namespace"] = True
    session.facts.setdefault("created_services", not cluster.exists("statefulset", "postgresql"))
    _create_secrets(session)
    write_overlay(session)
    cluster.call("delete", "job", "buckets", "--ignore-not-found")
    cluster.call("apply", "-k", str(session.overlay), limit=180)
    cluster.wait_for_rollout(*SERVICES)
    _copy_to_runs_namespace(session)
    if changed := _apply_again(session):
        raise UnexpectedResult(f"a second `kubectl apply -k` changed: {'; '.join(changed)}")
    _wait_for_buckets(session)
    return "S3, PostgreSQL and MLflow are ready; the second apply changed nothing"


def _wait_for_buckets(session: Session) -> None:
    """Wait for the Job `buckets`, which the second `apply` restarts; Kubernetes deletes it 30 s after its end."""
    cluster, job = session.cluster, "buckets"

    def condition() -> Any:
        return cluster.job_condition(job) if cluster.exists("job", job) else {"type": "Complete"}

    end = wait_until("the end of job buckets", condition, 660 * session.options.patience)
    if end["type"] == "Failed":
        raise UnexpectedResult(f"job buckets failed ({end.get('reason', '')}): {cluster.job_log(job)}")


def _apply_again(session: Session) -> list[str]:
    """Apply the same overlay. Returns the lines of kubectl that report a change.

    kubectl prints `configured` for a StatefulSet each time: the API server completes its claim templates, and a client
    replaces that list as a whole. Only a new generation shows a change.
    """
    before = _generations(session)
    output = session.cluster.call("apply", "-k", str(session.overlay), limit=180)
    after = _generations(session)
    unchanged = {f"statefulset.apps/{name} configured" for name, number in after.items() if before.get(name) == number}
    expected = ("unchanged", "job.batch/buckets created")
    return [line for line in output.splitlines() if not line.endswith(expected) and line not in unchanged]


def _generations(session: Session) -> dict[str, int]:
    statefulsets = session.cluster.read("statefulsets").get("items", ())
    return {item["metadata"]["name"]: item["metadata"]["generation"] for item in statefulsets}


def write_overlay(session: Session, **images: str) -> Path:
    """Write the overlay of this rehearsal: `local` with the images of the command line, replaced by `images`."""
    options = session.options
    image_names = {
        "mcti-services": options.services_image,
        "mcti-python": options.image,
        "postgres": options.postgres_image,
        "chrislusf/seaweedfs": options.seaweedfs_image,
    } | images
    up = os.path.relpath(session.root / "infra/kubernetes", session.overlay)
    tree: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{up}/overlays/local"],
        "components": [f"{up}/components/profile"] if options.multi_user else [],
        "images": [_image(name, text) for name, text in image_names.items() if text],
    }
    session.overlay.mkdir(parents=True, exist_ok=True)
    path = session.overlay / "kustomization.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path


def _image(name: str, text: str) -> dict[str, str]:
    """The entry of a kustomization for `text`, which is repository[:tag][@digest]."""
    match = re.fullmatch(r"(?P<newName>.+?)(:(?P<newTag>[\w][\w.-]*))?(@(?P<digest>sha256:[0-9a-f]{64}))?", text)
    if not match:
        raise MissingRequirement(f"{text!r} is not the name of an image: write repository:tag or repository@sha256:…")
    return {"name": name, **{key: value for key, value in match.groupdict().items() if value}}


def _create_secrets(session: Session) -> None:
    """Create the missing Secrets of the runbook with random keys, which are never written to a file."""
    cluster = session.cluster
    if not cluster.exists("secret", "mcti-s3"):
        access, key = random.token_hex(10), random.token_hex(20)
        create_secret(session, "mcti-s3", access_key=access, secret_key=key)
    if not cluster.exists("secret", "mcti-s3-identities"):
        pair = session.secret("mcti-s3")
        create_secret(
            session,
            "mcti-s3-identities",
            **{"identities.json": identities((pair["access_key"], pair["secret_key"]))},
        )
    if not cluster.exists("secret", "mcti-postgresql"):
        write_password(session, "mcti", random.token_hex(16))
    session.facts["user"] = session.secret("mcti-postgresql")["user"]


def identities(*pairs: tuple[str, str]) -> str:
    """The identities of SeaweedFS as JSON, one per pair of access key and secret key."""
    rows = [
        {"name": f"mcti-{n}", "credentials": [{"accessKey": access, "secretKey": key}], "actions": ACTIONS}
        for n, (access, key) in enumerate(pairs)
    ]
    return json.dumps({"identities": rows})


def write_password(session: Session, user: str, password: str) -> None:
    """Write the Secret of PostgreSQL; the password is also part of its addresses."""
    server = f"postgresql+psycopg://{user}:{password}@postgresql.{session.options.namespace}:5432"
    uris = {"mlflow_uri": f"{server}/mlflow", "search_uri": f"{server}/search"}
    create_secret(session, "mcti-postgresql", user=user, password=password, **uris)


def create_secret(session: Session, name: str, *, namespace: str | None = None, **values: str) -> None:
    """Create a Secret or replace its values, through standard input: a process list must not show them."""
    target = namespace or session.options.namespace
    if not session.cluster.exists("secret", name, namespace=target):
        session.facts.setdefault("created_secrets", []).append([target, name])
    tree = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}
    session.cluster.call("apply", "-f", "-", stdin=json.dumps(tree), namespace=namespace)


def _copy_to_runs_namespace(session: Session) -> None:
    """Copy Secrets and ConfigMap of the tasks to the namespace where Kubeflow starts them."""
    namespace = session.options.runs_namespace
    if namespace == session.options.namespace:
        return
    create_secret(session, "mcti-s3", namespace=namespace, **session.secret("mcti-s3"))
    create_secret(
        session, "mcti-postgresql", namespace=namespace, password=session.secret("mcti-postgresql")["password"]
    )
    services = session.cluster.read("configmap", "mcti-services")["data"]
    tree = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mcti-services"}, "data": services}
    session.cluster.call("apply", "-f", "-", stdin=json.dumps(tree), namespace=namespace)


def run_doctor(session: Session) -> str:
    """Run `mcti pipeline doctor`.

    Raises MissingRequirement when a check has the state `missing`.
    """
    write_settings(session)
    diagnosis = session.pipeline("doctor")
    missing = [check for check in diagnosis["checks"] if check["state"] == "missing"]
    if missing:
        message = "; ".join(f"{check['name']} ({check['detail']}: {check['hint']})" for check in missing)
        raise MissingRequirement(f"`mcti pipeline doctor` reports as missing: {message}")
    return f"{len(diagnosis['checks'])} checks, nothing missing"
