"""An upgrade with a migration of MLflow's tables, and a StatefulSet that was given a wrong image."""

from infra.rehearse.backup import run_job, stop_writers
from infra.rehearse.install import write_site
from infra.rehearse.session import MODEL, SERVICES, Session
from infra.rehearse.shell import Differs, wait_until

WRONG = "postgres:no-such-image-of-the-rehearsal"


def upgraded(session: Session) -> str:
    """MLflow scaled to zero, one Job that migrates, then the servers; a Job that is there is not in the way."""
    cluster = session.cluster
    write_site(session)
    stop_writers(session)
    cluster.call("apply", "-k", str(session.site), "-l", "app.kubernetes.io/name=mlflow-migrate", limit=180)
    run_job(session, "mlflow-migrate", "migrate", 1800)
    cluster.call("delete", "job", "buckets", "--ignore-not-found")
    cluster.call("apply", "-k", str(session.site), limit=180)
    cluster.rolled_out(*SERVICES)
    with session.outside() as environment:
        session.mcti("ledger", "verify", "--name", MODEL, **environment)
    return "migrated with no server running; the new servers are ready and the ledger agrees"


def unstuck(session: Session) -> str:
    """A wrong image, the correction, and the pod deleted, since a StatefulSet waits for a pod that was never ready."""
    cluster = session.cluster
    write_site(session, postgres=WRONG)
    cluster.call("delete", "job", "buckets", "--ignore-not-found")
    try:
        cluster.call("apply", "-k", str(session.site), limit=180)
        wait_until("a pod that cannot fetch its image", lambda: _waits(session), 600 * session.options.patience)
    finally:
        write_site(session)
        cluster.call("apply", "-k", str(session.site), limit=180)
        cluster.call("delete", "pod", "postgresql-0", limit=180)
    cluster.rolled_out("statefulset/postgresql", "deployment/mlflow")
    return "the wrong image kept the pod waiting; corrected and the pod deleted, PostgreSQL is ready"


def _waits(session: Session) -> bool:
    pods = session.cluster.read("pods", "-l", "app.kubernetes.io/name=postgresql").get("items", ())
    states = [
        status.get("state", {}).get("waiting", {}).get("reason", "")
        for pod in pods
        for part in ("initContainerStatuses", "containerStatuses")
        for status in pod.get("status", {}).get(part, ())
    ]
    if any(reason == "CreateContainerConfigError" for reason in states):
        raise Differs("PostgreSQL's pod lacks a Secret: run the step `install`")
    return any(reason in {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"} for reason in states)
