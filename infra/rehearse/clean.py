"""Take away what the rehearsal made; the namespace only where the rehearsal made that, too."""

from infra.rehearse.runs import unschedule
from infra.rehearse.session import Session
from infra.rehearse.shell import Missing

KINDS = (
    "deployment,statefulset,cronjob,job,service,configmap,poddisruptionbudget,networkpolicy,resourcequota,limitrange,"
    "role,rolebinding"
)


def cleaned(session: Session) -> str:
    """The schedule, the objects of the overlay, their claims, the Secrets that the rehearsal made."""
    cluster = session.cluster
    unschedule(session)
    if not session.facts.get("made_services"):
        raise Missing("MLflow, PostgreSQL and S3 were here before the rehearsal: nothing of them is deleted")
    if session.facts.get("made_namespace"):
        cluster.call("delete", "namespace", session.options.namespace, "--wait=true", limit=600)
        _forget(session)
        return f"namespace {session.options.namespace} deleted"
    cluster.call("delete", KINDS, "-l", "app.kubernetes.io/part-of=mcti", "--ignore-not-found", limit=600)
    cluster.call("delete", "pvc", "data-s3-0", "data-postgresql-0", "--ignore-not-found", limit=600)
    for namespace, name in session.facts.get("made_secrets", ()):
        cluster.call("delete", "secret", name, "--ignore-not-found", namespace=namespace)
    _forget(session)
    return f"the overlay's objects in {session.options.namespace} deleted, the namespace kept"


def _forget(session: Session) -> None:
    """What is there from now on was made by others: a later `--clean` spares it, and no step builds on what is gone."""
    results = session.facts["results"]
    results.clear()
    session.facts.clear()
    session.facts["results"] = results
