"""Delete the objects that the rehearsal created; the namespace only if the rehearsal created it."""

from infra.rehearse.runs import unschedule
from infra.rehearse.session import Session
from infra.rehearse.shell import MissingRequirement

RESOURCES = (
    "deployment,statefulset,cronjob,job,service,configmap,poddisruptionbudget,networkpolicy,resourcequota,limitrange,"
    "role,rolebinding"
)


def delete_rehearsal(session: Session) -> str:
    """Delete the schedule, the objects of the overlay, their claims and the Secrets that the rehearsal created."""
    cluster = session.cluster
    unschedule(session)
    if not session.facts.get("created_services"):
        raise MissingRequirement(
            "MLflow, PostgreSQL and S3 existed before the rehearsal: they are not deleted; delete them with kubectl"
        )
    if session.facts.get("created_namespace"):
        cluster.call("delete", "namespace", session.options.namespace, "--wait=true", limit=600)
        _clear_facts(session)
        return f"namespace {session.options.namespace} is deleted"
    cluster.call("delete", RESOURCES, "-l", "app.kubernetes.io/part-of=mcti", "--ignore-not-found", limit=600)
    cluster.call("delete", "pvc", "data-s3-0", "data-postgresql-0", "--ignore-not-found", limit=600)
    for namespace, name in session.facts.get("created_secrets", ()):
        cluster.call("delete", "secret", name, "--ignore-not-found", namespace=namespace)
    _clear_facts(session)
    return f"the overlay's objects in {session.options.namespace} are deleted, the namespace is kept"


def _clear_facts(session: Session) -> None:
    """Keep the results only: a later `--clean` must not delete objects that other users create from now on."""
    results = session.facts["results"]
    results.clear()
    session.facts.clear()
    session.facts["results"] = results
