"""Two backups on one day, and a restore of the second one as in the runbook."""

import gzip
import re
import time

from infra.rehearse.session import MODEL, Session
from infra.rehearse.shell import MissingRequirement, UnexpectedResult, wait_until
from infra.rehearse.store import list_addresses, read_object

PREFIX = "s3://mcti-backup/postgresql/"
COUNT_OTHER_MODELS = "SELECT count(*) FROM registered_models WHERE name <> 'mcti-rehearsal'"
# Errors of a complete restore: psql cannot drop or create the role that it is connected as.
EXPECTED_ERRORS = re.compile(r'current user cannot be dropped|role ".*" already exists')


def back_up_twice(session: Session) -> str:
    """Run the CronJob's Job twice; each run must write a separate object."""
    before = set(_backup_addresses(session))
    for _ in range(2):
        run_cronjob(session, "backup", "backup", 1800)
    new_objects = sorted(set(_backup_addresses(session)) - before)
    if len(new_objects) != 2:
        raise UnexpectedResult(f"two backups wrote {len(new_objects)} objects below {PREFIX}")
    session.facts["backup"] = new_objects[-1]
    return f"{new_objects[0]} and {new_objects[1].rpartition('/')[2]}"


def restore_backup(session: Session) -> str:
    """Restore the second backup: later rows must be absent, and registry and ledger must agree."""
    _require_no_other_models(session)
    _psql(session, "mlflow", "CREATE TABLE IF NOT EXISTS after_the_backup (n int)")
    replicas = stop_mlflow(session)
    dump = _read_dump(session, session.facts["backup"])
    try:
        errors = _restore(session, dump)
    finally:
        session.cluster.call("scale", "deployment/mlflow", f"--replicas={replicas}")
        session.cluster.wait_for_rollout("deployment/mlflow")
    if errors:
        raise UnexpectedResult(f"psql reported: {errors[0]}")
    if "t" in _psql(session, "mlflow", "SELECT to_regclass('after_the_backup') IS NOT NULL").split():
        raise UnexpectedResult("a table that was created after the backup still exists")
    with session.port_forwards() as environment:
        session.mcti("ledger", "verify", "--name", MODEL, **environment)
    name = session.facts["backup"].rpartition("/")[2]
    return f"{name} restored; MLflow has {replicas} replicas; registry and ledger agree"


def _require_no_other_models(session: Session) -> None:
    """Refuse the restore where other models are registered, since it replaces every database."""
    count = _psql(session, "mlflow", COUNT_OTHER_MODELS).strip()
    if count != "0":
        raise MissingRequirement(
            f"{count} other models are registered, and a restore replaces them: use another cluster"
        )


def stop_mlflow(session: Session) -> int:
    """Scale MLflow to zero and wait until its pods are deleted. Returns the number of replicas before, at least 1."""
    cluster = session.cluster
    replicas = int(cluster.read("deployment", "mlflow")["spec"]["replicas"])
    cluster.call("scale", "deployment/mlflow", "--replicas=0")
    label = ["-l", "app.kubernetes.io/name=mlflow"]
    wait_until(
        "the deletion of the pods of MLflow",
        lambda: not cluster.read("pods", *label)["items"],
        300 * session.options.patience,
    )
    return replicas or 1


def _restore(session: Session, dump: str) -> list[str]:
    """The unexpected error lines of psql."""
    user = session.facts["user"]
    connected = "SELECT count(*) FROM pg_stat_activity WHERE datname IN ('mlflow', 'search')"
    wait_until(
        "the end of all connections to the databases", lambda: _psql(session, "postgres", connected).strip() == "0", 120
    )
    arguments = ["exec", "-i", "postgresql-0", "--", "sh", "-c", f"psql -U '{user}' -d postgres -f - 2>&1 >/dev/null"]
    output = session.cluster.call(*arguments, limit=1800, stdin=dump)
    return [line for line in output.splitlines() if "ERROR" in line and not EXPECTED_ERRORS.search(line)]


def _read_dump(session: Session, address: str) -> str:
    """The dump as text."""
    with session.port_forwards("s3") as environment:
        return gzip.decompress(read_object(address, environment)).decode()


def _backup_addresses(session: Session) -> list[str]:
    with session.port_forwards("s3") as environment:
        return list_addresses(PREFIX, environment)


def _psql(session: Session, database: str, statement: str) -> str:
    command = [
        "psql",
        "-X",
        "-U",
        session.facts["user"],
        "-d",
        database,
        "-tA",
        "-v",
        "ON_ERROR_STOP=1",
        "-c",
        statement,
    ]
    return session.cluster.call("exec", "postgresql-0", "--", *command)


def run_cronjob(session: Session, cronjob: str, name: str, limit: float) -> None:
    """Start a Job of a CronJob and wait for its end, at most `limit` seconds times the patience factor.

    Raises UnexpectedResult when the Job fails or does not end in time.
    """
    cluster, job = session.cluster, f"{name}-rehearsal-{int(time.time() * 10)}"
    cluster.call("create", "job", f"--from=cronjob/{cronjob}", job)
    try:
        condition = wait_until(
            f"the end of job {job}", lambda: cluster.job_condition(job), limit * session.options.patience
        )
        if condition["type"] == "Failed":
            raise UnexpectedResult(f"job {job} failed ({condition.get('reason', '')}): {cluster.job_log(job)}")
    finally:
        cluster.call("delete", "job", job, "--ignore-not-found")
