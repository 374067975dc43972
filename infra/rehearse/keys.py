"""Rotate keys as in the runbook: add a second key, move every client to it, remove the first."""

import secrets as random

from infra.rehearse.install import create_secret, identities, write_password
from infra.rehearse.session import MODEL, Session
from infra.rehearse.shell import UnexpectedResult


def rotate_keys(session: Session) -> str:
    """Rotate the keys of S3, then the password of PostgreSQL, and verify both.

    Raises UnexpectedResult when S3 still accepts the old key.
    """
    _rotate_s3(session)
    _rotate_password(session)
    with session.port_forwards() as environment:
        session.mcti("ledger", "verify", "--name", MODEL, **environment)
    return "S3 accepts the new key and refuses the old one; MLflow and the ledger work with the new password"


def _rotate_s3(session: Session) -> None:
    cluster, old = session.cluster, session.secret("mcti-s3")
    old_keys = (old["access_key"], old["secret_key"])
    new_keys = (random.token_hex(10), random.token_hex(20))
    _write_identities(session, old_keys, new_keys)
    namespaces = {session.options.namespace, session.options.runs_namespace}
    for namespace in sorted(namespaces):
        create_secret(session, "mcti-s3", namespace=namespace, access_key=new_keys[0], secret_key=new_keys[1])
    cluster.call("rollout", "restart", "deployment/mlflow")
    cluster.wait_for_rollout("deployment/mlflow")
    _write_identities(session, new_keys)
    address = f"dvc+s3://mcti-data/{MODEL}/{session.facts['data']}"
    with session.port_forwards("s3") as environment:
        session.mcti("data", "verify", address, **environment)
        credentials = {"AWS_ACCESS_KEY_ID": old_keys[0], "AWS_SECRET_ACCESS_KEY": old_keys[1]}
        try:
            session.mcti("data", "verify", address, **{**environment, **credentials})
        except UnexpectedResult:
            return
    raise UnexpectedResult("S3 still accepts the old key")


def _write_identities(session: Session, *pairs: tuple[str, str]) -> None:
    """Replace the identities and restart SeaweedFS, which reads them at its start."""
    create_secret(session, "mcti-s3-identities", **{"identities.json": identities(*pairs)})
    session.cluster.call("rollout", "restart", "statefulset/s3")
    session.cluster.wait_for_rollout("statefulset/s3")


def _rotate_password(session: Session) -> None:
    cluster, user, password = session.cluster, session.secret("mcti-postgresql")["user"], random.token_hex(16)
    command = ["psql", "-U", user, "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-f", "-"]
    statement = f"ALTER ROLE CURRENT_USER PASSWORD '{password}'"
    cluster.call("exec", "-i", "postgresql-0", "--", *command, stdin=statement)
    write_password(session, user, password)
    if session.options.runs_namespace != session.options.namespace:
        create_secret(session, "mcti-postgresql", namespace=session.options.runs_namespace, password=password)
    cluster.call("rollout", "restart", "deployment/mlflow")
    cluster.wait_for_rollout("deployment/mlflow")
