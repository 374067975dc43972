"""Backup and restore: the commands of the manifest and of the runbook on a real PostgreSQL and S3."""

import gzip
import re
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from mcti import s3, storage
from tests.training.postgres import Server

pytestmark = [pytest.mark.slow, pytest.mark.stack]
INFRA = Path(__file__).parents[2] / "infra"


def psql(server, database, words, **more):
    command = [server.home / "psql", "-h", "127.0.0.1", "-p", str(server.port), "-U", "mcti", "-d", database, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, **more)


def test_the_restore_of_the_runbook_restores_the_backup_of_the_job(servers_of, tmp_path, monkeypatch):
    pod = yaml.safe_load((INFRA / "kubernetes/base/backup.yaml").read_text(encoding="utf-8"))
    pod = pod["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (dump,), (store,) = pod["initContainers"], pod["containers"]
    monkeypatch.setenv("BACKUP", "s3://mcti-backup/postgresql")
    s3.ensure_bucket("mcti-backup")
    for name in ("dump", "tmp"):
        (tmp_path / name).mkdir()
    with Server() as before:
        for database in ("mlflow", "search"):
            psql(before, "postgres", ["-c", f"CREATE DATABASE {database}"])
            psql(
                before,
                database,
                ["-c", "CREATE TABLE kept (note text)", "-c", f"INSERT INTO kept VALUES ('{database} ø')"],
            )
        program, *words = dump["command"]
        words = [
            w.replace("--host=postgresql", "--host=127.0.0.1").replace("/dump/", f"{tmp_path}/dump/") for w in words
        ]
        reach = {"PGUSER": "mcti", "PGPORT": str(before.port), "PATH": "/usr/bin:/bin"}
        subprocess.run([before.home / program, *words], check=True, env=reach)
    _, _, script = store["command"]
    for _ in range(2):  # two backups on one day
        exec(script.replace("/dump/", f"{tmp_path}/dump/").replace("/tmp/all", f"{tmp_path}/tmp/all"), {})
        time.sleep(1.1)
    address, second = storage.addresses("s3://mcti-backup/postgresql/")
    assert address < second, "the newest comes last in a listing"
    assert re.fullmatch(r"s3://mcti-backup/postgresql/\d{4}-\d\d-\d\dT\d{6}Z\.sql\.gz", address)
    (restore,) = re.findall(r"-- psql (.*) < all\.sql", (INFRA / "runbook.md").read_text(encoding="utf-8"))
    with Server() as after:
        for database in ("mlflow", "search"):  # as created by the init script of an empty cluster
            psql(after, "postgres", ["-c", f"CREATE DATABASE {database}"])
        words = restore.replace("$user", "mcti").replace('"', "").split()
        assert words[:4] == ["-U", "mcti", "-d", "postgres"]
        refusals = psql(
            after, "postgres", words[4:], input=gzip.decompress(storage.read_bytes(address)).decode()
        ).stderr
        expected = re.findall(r"grep -Ev '(.*)'", (INFRA / "runbook.md").read_text(encoding="utf-8"))
        assert len(expected) == 1
        assert [line for line in refusals.splitlines() if not re.search(expected[0], line)] == []
        assert "ERROR" in refusals, "psql reports the statements that its own role may not execute"
        for database in ("mlflow", "search"):
            assert psql(after, database, ["-tAc", "SELECT note FROM kept"]).stdout == f"{database} ø\n"
