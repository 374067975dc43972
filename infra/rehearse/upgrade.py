"""An upgrade with a migration of MLflow's tables, and a StatefulSet with a wrong image."""

from infra.rehearse.backup import run_cronjob, stop_mlflow
from infra.rehearse.install import write_overlay
from infra.rehearse.session import MODEL, SERVICES, Session
from infra.rehearse.shell import UnexpectedResult, wait_until

MISSING_IMAGE = "postgres:no-such-image-of-the-rehearsal"


def upgrade_services(session: Session) -> str:
    """Scale MLflow to zero, run the migration, apply the overlay without the Job `buckets` of an earlier apply."""
    cluster = session.cluster
    write_overlay(session)
    stop_mlflow(session)
    cluster.call("apply", "-k", str(session.overlay), "-l", "app.kubernetes.io/name=mlflow-migrate", limit=180)
    run_cronjob(session, "mlflow-migrate", "migrate", 1800)
    cluster.call("delete", "job", "buckets", "--ignore-not-found")
    cluster.call("apply", "-k", str(session.overlay), limit=180)
    cluster.wait_for_rollout(*SERVICES)
    with session.port_forwards() as environment:
        session.mcti("ledger", "verify", "--name", MODEL, **environment)
    return "migrated while no server ran; the new servers are ready, registry and ledger agree"


def correct_image(session: Session) -> str:
    """Apply a missing image, then the right one, and delete the pod, for which the StatefulSet would wait."""
    cluster = session.cluster
    write_overlay(session, postgres=MISSING_IMAGE)
    cluster.call("delete", "job", "buckets", "--ignore-not-found")
    try:
        cluster.call("apply", "-k", str(session.overlay), limit=180)
        wait_until(
            "a pod that cannot pull its image", lambda: _image_pull_failed(session), 600 * session.options.patience
        )
    finally:
        write_overlay(session)
        cluster.call("apply", "-k", str(session.overlay), limit=180)
        cluster.call("delete", "pod", "postgresql-0", limit=180)
    cluster.wait_for_rollout("statefulset/postgresql", "deployment/mlflow")
    return "the pod waited for the missing image; after the correction and the deletion of the pod PostgreSQL is ready"


def _image_pull_failed(session: Session) -> bool:
    pods = session.cluster.read("pods", "-l", "app.kubernetes.io/name=postgresql").get("items", ())
    states = [
        status.get("state", {}).get("waiting", {}).get("reason", "")
        for pod in pods
        for part in ("initContainerStatuses", "containerStatuses")
        for status in pod.get("status", {}).get(part, ())
    ]
    if any(reason == "CreateContainerConfigError" for reason in states):
        raise UnexpectedResult("PostgreSQL's pod lacks a Secret: run the step `install`")
    return any(reason in {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"} for reason in states)
