"""Two backups of one day, and a restore of the second one as the runbook says."""

import gzip
import re
import time

from infra.rehearse.session import MODEL, Session
from infra.rehearse.shell import Differs, Missing, wait_until
from infra.rehearse.store import fetch, listed

PREFIX = "s3://mcti-backup/postgresql/"
OTHERS = "SELECT count(*) FROM registered_models WHERE name <> 'mcti-rehearsal'"
# What psql cannot do with the role that it runs as.
EXPECTED = re.compile(r'current user cannot be dropped|role ".*" already exists')


def backed_up(session: Session) -> str:
    """The CronJob's Job, twice; each leaves an object of its own."""
    before = set(_stored(session))
    for _ in range(2):
        run_job(session, "backup", "backup", 1800)
    new_objects = sorted(set(_stored(session)) - before)
    if len(new_objects) != 2:
        raise Differs(f"two backups left {len(new_objects)} objects below {PREFIX}")
    session.facts["backup"] = new_objects[-1]
    return f"{new_objects[0]} and {new_objects[1].rpartition('/')[2]}"


def restored(session: Session) -> str:
    """What was written after the backup is gone, what was there before is back, and registry and ledger agree."""
    _only_ours(session)
    _psql(session, "mlflow", "CREATE TABLE IF NOT EXISTS after_the_backup (n int)")
    replicas = stop_writers(session)
    dump = _fetched(session, session.facts["backup"])
    try:
        refused = _restore(session, dump)
    finally:
        session.cluster.call("scale", "deployment/mlflow", f"--replicas={replicas}")
        session.cluster.rolled_out("deployment/mlflow")
    if refused:
        raise Differs(f"psql refused: {refused[0]}")
    if "t" in _psql(session, "mlflow", "SELECT to_regclass('after_the_backup') IS NOT NULL").split():
        raise Differs("what was written after the backup is still there")
    with session.outside() as environment:
        session.mcti("ledger", "verify", "--name", MODEL, **environment)
    return (
        f"{session.facts['backup'].rpartition('/')[2]} restored with {replicas} replicas of MLflow; the ledger agrees"
    )


def _only_ours(session: Session) -> None:
    """A restore replaces every database: not where somebody else's models are registered."""
    others = _psql(session, "mlflow", OTHERS).strip()
    if others != "0":
        raise Missing(f"{others} other models are registered here, and a restore replaces them: rehearse elsewhere")


def stop_writers(session: Session) -> int:
    """Scale MLflow to zero and wait until its pods are gone; how many replicas it had."""
    cluster = session.cluster
    replicas = int(cluster.read("deployment", "mlflow")["spec"]["replicas"])
    cluster.call("scale", "deployment/mlflow", "--replicas=0")
    label = ["-l", "app.kubernetes.io/name=mlflow"]
    wait_until("the end of MLflow", lambda: not cluster.read("pods", *label)["items"], 300 * session.options.patience)
    return replicas or 1


def _restore(session: Session, dump: str) -> list[str]:
    """Lines of psql that are no expected refusal."""
    user = session.facts["user"]
    connected = "SELECT count(*) FROM pg_stat_activity WHERE datname IN ('mlflow', 'search')"
    wait_until("nobody connected to the databases", lambda: _psql(session, "postgres", connected).strip() == "0", 120)
    words = ["exec", "-i", "postgresql-0", "--", "sh", "-c", f"psql -U '{user}' -d postgres -f - 2>&1 >/dev/null"]
    output = session.cluster.call(*words, limit=1800, stdin=dump)
    return [line for line in output.splitlines() if "ERROR" in line and not EXPECTED.search(line)]


def _fetched(session: Session, address: str) -> str:
    """The dump as text."""
    with session.outside("s3") as environment:
        return gzip.decompress(fetch(address, environment)).decode()


def _stored(session: Session) -> list[str]:
    with session.outside("s3") as environment:
        return listed(PREFIX, environment)


def _psql(session: Session, database: str, statement: str) -> str:
    words = ["psql", "-X", "-U", session.facts["user"], "-d", database, "-tA", "-v", "ON_ERROR_STOP=1", "-c", statement]
    return session.cluster.call("exec", "postgresql-0", "--", *words)


def run_job(session: Session, cronjob: str, name: str, limit: float) -> None:
    """Start a CronJob's Job now and wait until it has succeeded or failed."""
    cluster, job = session.cluster, f"{name}-rehearsal-{int(time.time() * 10)}"
    cluster.call("create", "job", f"--from=cronjob/{cronjob}", job)
    try:
        end = wait_until(f"the end of job {job}", lambda: cluster.job_end(job), limit * session.options.patience)
        if end["type"] == "Failed":
            raise Differs(f"job {job} failed ({end.get('reason', '')}): {cluster.log_of(job)}")
    finally:
        cluster.call("delete", "job", job, "--ignore-not-found")
