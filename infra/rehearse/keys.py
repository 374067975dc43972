"""Keys are changed as the runbook says: a second one beside the first, everything moved over, the first taken away."""

import secrets as random

from infra.rehearse.install import identities, make_secret, set_password
from infra.rehearse.session import MODEL, Session
from infra.rehearse.shell import Differs


def rotated(session: Session) -> str:
    """S3: the new key works and the old one is refused. PostgreSQL: MLflow answers with the new password."""
    _rotate_s3(session)
    _rotate_password(session)
    with session.outside() as environment:
        session.mcti("ledger", "verify", "--name", MODEL, **environment)
    return "the new key of S3 works, the old one is refused; MLflow and the ledger answer with the new password"


def _rotate_s3(session: Session) -> None:
    cluster, old = session.cluster, session.secret("mcti-s3")
    before = (old["access_key"], old["secret_key"])
    new = (random.token_hex(10), random.token_hex(20))
    _identities(session, before, new)
    everywhere = {session.options.namespace, session.options.runs_namespace}
    for namespace in sorted(everywhere):
        make_secret(session, "mcti-s3", namespace=namespace, access_key=new[0], secret_key=new[1])
    cluster.call("rollout", "restart", "deployment/mlflow")
    cluster.rolled_out("deployment/mlflow")
    _identities(session, new)
    address = f"dvc+s3://mcti-data/{MODEL}/{session.facts['data']}"
    with session.outside("s3") as environment:
        session.mcti("data", "verify", address, **environment)
        keys = {"AWS_ACCESS_KEY_ID": before[0], "AWS_SECRET_ACCESS_KEY": before[1]}
        try:
            session.mcti("data", "verify", address, **{**environment, **keys})
        except Differs:
            return
    raise Differs("the old key of S3 is still taken")


def _identities(session: Session, *pairs: tuple[str, str]) -> None:
    """SeaweedFS reads its identities when it starts."""
    make_secret(session, "mcti-s3-identities", **{"identities.json": identities(*pairs)})
    session.cluster.call("rollout", "restart", "statefulset/s3")
    session.cluster.rolled_out("statefulset/s3")


def _rotate_password(session: Session) -> None:
    cluster, user, password = session.cluster, session.secret("mcti-postgresql")["user"], random.token_hex(16)
    words = ["psql", "-U", user, "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-f", "-"]
    statement = f"ALTER ROLE CURRENT_USER PASSWORD '{password}'"
    cluster.call("exec", "-i", "postgresql-0", "--", *words, stdin=statement)
    set_password(session, user, password)
    if session.options.runs_namespace != session.options.namespace:
        make_secret(session, "mcti-postgresql", namespace=session.options.runs_namespace, password=password)
    cluster.call("rollout", "restart", "deployment/mlflow")
    cluster.rolled_out("deployment/mlflow")
