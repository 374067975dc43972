"""Upgrade of MLflow with a migration of its tables, and the way back: two releases, a real PostgreSQL and S3.

MCTI_OTHER_MLFLOW names the `mlflow` of an environment with another release than the pinned one; `make drill` creates
it. The older of the two releases is upgraded to the newer one with the commands of the manifests and of the runbook.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from mcti import s3
from mcti.errors import DataError
from mcti.params import PromoteParams, RegisterParams
from mcti.registry import models, tracking
from mcti.steps import lineage
from mcti.steps.ledger import verify_ledger
from mcti.steps.promote.step import promote, repair, rollback
from mcti.steps.register import register
from tests.mlflow_server import EndedEarlier, running
from tests.registry.factories import Run
from tests.registry.http_client import BIN
from tests.stack.test_backup import psql
from tests.training.postgres import Server

pytestmark = [pytest.mark.slow, pytest.mark.stack]
INFRA = Path(__file__).parents[2] / "infra"
NAME = "upgraded"
LAX = PromoteParams(
    min_events=2, bootstrap=100, margin=-1.0, alpha=0.4, ibs_margin=1, calibration_margin=1, group_margin=1,
    max_latency_ratio=100, benchmark_patches=5,
)  # fmt: skip


def release(program):
    """(3, 17, 2) of an `mlflow`."""
    done = subprocess.run([program, "--version"], check=True, capture_output=True, text=True)
    return tuple(int(part) for part in re.search(r"(\d+)\.(\d+)\.(\d+)", done.stdout).groups())


@pytest.fixture(scope="module")
def releases():
    """The `mlflow` of the older and of the newer release."""
    other = os.environ.get("MCTI_OTHER_MLFLOW")
    if not other:
        pytest.skip("no other release of MLflow is named by MCTI_OTHER_MLFLOW (make drill)")
    older, newer = sorted((Path(other), BIN / "mlflow"), key=release)
    assert release(older) < release(newer), "MCTI_OTHER_MLFLOW is the pinned release: name another one"
    return older, newer


@pytest.fixture
def database():
    with Server() as server:
        psql(server, "postgres", ["-c", "CREATE DATABASE mlflow"])
        yield server


def uri_of(database):
    return f"postgresql+psycopg://mcti@127.0.0.1:{database.port}/mlflow"


def serving(program, database, folder, monkeypatch):
    """A server on the database, which this process uses; the writers of the test are the calls below."""
    options = ["--backend-store-uri", uri_of(database), "--artifacts-destination", "s3://mcti-mlflow/upgrade"]
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return running(program, folder / f"{'.'.join(map(str, release(program)))}.log", *options, variables={})


def migrate(program, database):
    """The command of the Job `mlflow-migrate`, with the Python of the newer release."""
    cronjob = yaml.safe_load((INFRA / "kubernetes/base/migrate.yaml").read_text(encoding="utf-8"))
    (container,) = cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    _, *words = container["command"]
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": uri_of(database)}
    subprocess.run([program.with_name("python3"), *words], check=True, env=environment, capture_output=True)


def revision(database):
    """The state of the tables."""
    return psql(database, "mlflow", ["-tAc", "SELECT version_num FROM alembic_version"]).stdout.strip()


def dump(database):
    """The command of the Job `backup`; the text of the dump."""
    pod = yaml.safe_load((INFRA / "kubernetes/base/backup.yaml").read_text(encoding="utf-8"))
    (container,) = pod["spec"]["jobTemplate"]["spec"]["template"]["spec"]["initContainers"]
    program, *words = [word for word in container["command"] if not word.startswith(("--host=", "--file="))]
    reach = {"PGUSER": "mcti", "PGHOST": "127.0.0.1", "PGPORT": str(database.port), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([database.home / program, *words], check=True, capture_output=True, text=True, env=reach)
    return done.stdout


def restore(database, text):
    """The command of the runbook; it must report only what the runbook expects."""
    page = (INFRA / "runbook.md").read_text(encoding="utf-8")
    (words,) = re.findall(r"-- psql -U \"\$user\" -d postgres (.*)< all\.sql", page)
    (expected,) = re.findall(r"grep -Ev '(.*)'", page)
    errors = psql(database, "postgres", words.split(), input=text).stderr.splitlines()
    assert [line for line in errors if "ERROR" in line and not re.search(expected, line)] == []


def add_version(folder, seed):
    run = Run(folder / f"run {seed}", seed=seed, patients=40)
    params = RegisterParams(name=NAME, experiment=NAME)
    register(run.models, run.evaluation, run.validation, params, folder / "r.json")
    promote(NAME, LAX)


def registry_state():
    """Versions with tags, aliases, metrics and parameters of their runs, and the lineage of the champion."""
    with tracking.service() as client:
        versions = sorted(client.search_model_versions(f"name = '{NAME}'"), key=lambda version: int(version.version))
        runs = [client.get_run(models.run_of(version)).data for version in versions]
        state = {
            "versions": [(v.version, dict(v.tags), v.source, v.description) for v in versions],
            "aliases": dict(client.get_registered_model(NAME).aliases),
            "runs": [(dict(run.metrics), dict(run.params)) for run in runs],
        }
    verify_ledger(NAME)
    links = lineage.lineage(f"models:/{NAME}@champion").links
    return state | {"lineage": [(link.what, link.value, link.state) for link in links]}


def test_an_upgrade_keeps_registry_ledger_and_lineage_and_can_be_reverted(
    releases, database, servers_of, tmp_path, monkeypatch
):
    older, newer = releases
    s3.ensure_bucket("mcti-mlflow")
    with serving(older, database, tmp_path, monkeypatch) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        for seed in (0, 1):
            add_version(tmp_path, seed)
        before = registry_state()
    backup, old_revision = dump(database), revision(database)  # every writer has stopped
    migrate(newer, database)
    assert revision(database) != old_revision, "these releases have the same tables: name another one"
    with (
        pytest.raises(EndedEarlier, match="out-of-date database schema"),
        serving(older, database, tmp_path, monkeypatch),
    ):
        pass
    with serving(newer, database, tmp_path, monkeypatch) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert registry_state() == before
        assert rollback(NAME).champion == 1
        add_version(tmp_path, 2)
        assert registry_state()["aliases"]["champion"] == "3"
    # The way back: MLflow cannot migrate its tables back, so the backup is restored.
    restore(database, backup)
    with serving(older, database, tmp_path, monkeypatch) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(DataError, match="version 3"):
            verify_ledger(NAME)
        repaired = repair(NAME)
        assert repaired.champion == 1, "version 3 was registered after the backup, the champion before it was 1"
        assert registry_state()["versions"] == before["versions"]
