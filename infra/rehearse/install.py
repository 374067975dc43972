"""Look at the cluster, make namespace and Secrets where they are not there, apply the overlay, ask the doctor."""

import json
import os
import re
import secrets as random
from pathlib import Path
from typing import Any

import yaml

from infra.rehearse.session import SERVICES, Session
from infra.rehearse.shell import Differs, Missing, need, wait_until
from infra.rehearse.work import write_settings

# The last two concern the whole cluster: the overlay labels its namespace and makes priority classes.
RIGHTS = (
    ("create", "statefulsets"),
    ("create", "secrets"),
    ("delete", "pods"),
    ("create", "networkpolicies"),
    ("patch", "namespaces"),
    ("create", "priorityclasses"),
)
ACTIONS = ["Admin", "Read", "Write", "List", "Tagging"]


def looked_at(session: Session) -> str:
    """Raises Missing where kubectl, the API server, a right or a storage class is not there."""
    need("kubectl", "install 1.27 or later")
    need("mcti", "run `make install`, then `make rehearse`")
    cluster, options = session.cluster, session.options
    try:
        version = json.loads(cluster.call("version", "-o", "json", "--request-timeout=20s", limit=30))
    except Differs as error:
        raise Missing(
            f"context {options.context} does not answer ({error}): check CONTEXT and its kubeconfig"
        ) from error
    if "serverVersion" not in version:
        raise Missing(f"context {options.context} names no API server: check CONTEXT")
    for verb, resource in RIGHTS:
        # The answer "no" has exit code 1, as an error has.
        answer = cluster.call("auth", "can-i", verb, resource, codes=(0, 1)).strip()
        if answer != "yes":
            raise Missing(f"no right to {verb} {resource} in {options.namespace}: use a context of its administrator")
    if not cluster.read("storageclass").get("items"):
        raise Missing("the cluster has no storage class, so claims never bind: install a provisioner of volumes")
    if options.host:
        _kubeflow_answers(session)
    return f"Kubernetes {version['serverVersion']['gitVersion']}, context {options.context}"


def _kubeflow_answers(session: Session) -> None:
    """Before anything is changed: HOST is a Kubeflow Pipelines of a release that we know, and lets us in."""
    for check in session.pipeline("doctor")["checks"]:
        if check["state"] == "missing" and check.get("name") in {"server", "version", "mode", "access"}:
            raise Missing(f"{check['detail']}: {check['hint']}")
    try:
        words = ("deployments", "-A", "--field-selector", "metadata.name=ml-pipeline")
        namespaces = [each["metadata"]["namespace"] for each in session.cluster.read(*words).get("items", ())]
    except Differs:  # no right to look elsewhere: nothing is known
        return
    options = session.options
    if namespaces and not options.multi_user and options.runs_namespace not in namespaces:
        message = (
            f"Kubeflow Pipelines lies in {namespaces[0]} and starts its runs there, not in {options.runs_namespace}"
        )
        raise Missing(f"{message}: RUNS_NAMESPACE={namespaces[0]}, or ARGS=--multi-user for Profiles")


def installed(session: Session) -> str:
    """Namespace, Secrets, overlay; then the same overlay once more, which must change nothing."""
    cluster = session.cluster
    if not cluster.exists("namespace", session.options.namespace):
        cluster.call("create", "namespace", session.options.namespace)
        session.facts["made_namespace"] = True
    session.facts.setdefault("made_services", not cluster.exists("statefulset", "postgresql"))
    _make_secrets(session)
    write_site(session)
    cluster.call("delete", "job", "buckets", "--ignore-not-found")
    cluster.call("apply", "-k", str(session.site), limit=180)
    cluster.rolled_out(*SERVICES)
    _for_runs_elsewhere(session)
    if changed := _applied_again(session):
        raise Differs(f"a second `kubectl apply -k` changed: {'; '.join(changed)}")
    _buckets_made(session)
    return "S3, PostgreSQL and MLflow are ready; applied again nothing changes"


def _buckets_made(session: Session) -> None:
    """The second `apply` started this Job anew where the first one was given up; it is gone 30 s after it ended."""
    cluster, job = session.cluster, "buckets"

    def over() -> Any:
        return cluster.job_end(job) if cluster.exists("job", job) else {"type": "Complete"}

    end = wait_until("the end of job buckets", over, 660 * session.options.patience)
    if end["type"] == "Failed":
        raise Differs(f"job buckets failed ({end.get('reason', '')}): {cluster.log_of(job)}")


def _applied_again(session: Session) -> list[str]:
    """Apply the same overlay; what this changed.

    kubectl calls a StatefulSet `configured` each time: the API server completes its claim templates, and a client
    replaces that list as a whole. Its generation says whether anything changed.
    """
    before = _generations(session)
    again = session.cluster.call("apply", "-k", str(session.site), limit=180)
    after = _generations(session)
    same = {f"statefulset.apps/{name} configured" for name, number in after.items() if before.get(name) == number}
    good = ("unchanged", "job.batch/buckets created")
    return [line for line in again.splitlines() if not line.endswith(good) and line not in same]


def _generations(session: Session) -> dict[str, int]:
    statefulsets = session.cluster.read("statefulsets").get("items", ())
    return {each["metadata"]["name"]: each["metadata"]["generation"] for each in statefulsets}


def write_site(session: Session, **images: str) -> Path:
    """The overlay of this rehearsal: `local` with the images of the command line, or those of `images`."""
    options = session.options
    named = {
        "mcti-services": options.services_image,
        "mcti-python": options.image,
        "postgres": options.postgres_image,
        "chrislusf/seaweedfs": options.seaweedfs_image,
    } | images
    up = os.path.relpath(session.root / "infra/kubernetes", session.site)
    tree: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{up}/overlays/local"],
        "components": [f"{up}/components/profile"] if options.multi_user else [],
        "images": [_image(name, text) for name, text in named.items() if text],
    }
    session.site.mkdir(parents=True, exist_ok=True)
    path = session.site / "kustomization.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path


def _image(name: str, text: str) -> dict[str, str]:
    """`text` is repository[:tag][@digest], as a kustomization names its parts."""
    match = re.fullmatch(r"(?P<newName>.+?)(:(?P<newTag>[\w][\w.-]*))?(@(?P<digest>sha256:[0-9a-f]{64}))?", text)
    if not match:
        raise Missing(f"{text!r} is no name of an image: write repository:tag or repository@sha256:…")
    return {"name": name, **{key: value for key, value in match.groupdict().items() if value}}


def _make_secrets(session: Session) -> None:
    """Those of the runbook, where they are not there yet; random keys, never written to a file."""
    cluster = session.cluster
    if not cluster.exists("secret", "mcti-s3"):
        access, key = random.token_hex(10), random.token_hex(20)
        make_secret(session, "mcti-s3", access_key=access, secret_key=key)
    if not cluster.exists("secret", "mcti-s3-identities"):
        pair = session.secret("mcti-s3")
        make_secret(
            session,
            "mcti-s3-identities",
            **{"identities.json": identities((pair["access_key"], pair["secret_key"]))},
        )
    if not cluster.exists("secret", "mcti-postgresql"):
        set_password(session, "mcti", random.token_hex(16))
    session.facts["user"] = session.secret("mcti-postgresql")["user"]


def identities(*pairs: tuple[str, str]) -> str:
    """SeaweedFS's identities, one for each pair of keys."""
    entries = [
        {"name": f"mcti-{n}", "credentials": [{"accessKey": access, "secretKey": key}], "actions": ACTIONS}
        for n, (access, key) in enumerate(pairs)
    ]
    return json.dumps({"identities": entries})


def set_password(session: Session, user: str, password: str) -> None:
    """The Secret of PostgreSQL with this password in all its values."""
    where = f"postgresql+psycopg://{user}:{password}@postgresql.{session.options.namespace}:5432"
    uris = {"mlflow_uri": f"{where}/mlflow", "search_uri": f"{where}/search"}
    make_secret(session, "mcti-postgresql", user=user, password=password, **uris)


def make_secret(session: Session, name: str, *, namespace: str | None = None, **values: str) -> None:
    """Create a Secret or replace its values; they go through standard input, so that no process list shows them."""
    where = namespace or session.options.namespace
    if not session.cluster.exists("secret", name, namespace=where):
        session.facts.setdefault("made_secrets", []).append([where, name])
    tree = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}
    session.cluster.call("apply", "-f", "-", stdin=json.dumps(tree), namespace=namespace)


def _for_runs_elsewhere(session: Session) -> None:
    """What tasks name, in the namespace where Kubeflow starts them."""
    namespace = session.options.runs_namespace
    if namespace == session.options.namespace:
        return
    make_secret(session, "mcti-s3", namespace=namespace, **session.secret("mcti-s3"))
    make_secret(session, "mcti-postgresql", namespace=namespace, password=session.secret("mcti-postgresql")["password"])
    services = session.cluster.read("configmap", "mcti-services")["data"]
    tree = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mcti-services"}, "data": services}
    session.cluster.call("apply", "-f", "-", stdin=json.dumps(tree), namespace=namespace)


def diagnosed(session: Session) -> str:
    """`mcti pipeline doctor`: everything that the pipelines need is there."""
    write_settings(session)
    diagnosis = session.pipeline("doctor")
    lacking = [check for check in diagnosis["checks"] if check["state"] == "missing"]
    if lacking:
        message = "; ".join(f"{check['name']} ({check['detail']}: {check['hint']})" for check in lacking)
        raise Missing(f"`mcti pipeline doctor` finds missing: {message}")
    return f"{len(diagnosis['checks'])} checks, nothing missing"
