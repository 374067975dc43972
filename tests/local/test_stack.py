"""The stack with real servers: start, status, join, recovery."""

import os
import socket
import sqlite3
import stat
import subprocess
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from mcti import s3, storage
from mcti.errors import OperationalError, UsageError
from mcti.local import dvc_program, servers, settings, stack

real = [pytest.mark.slow, pytest.mark.stack]


def root_of(running):
    return Path(running.folder).parent


@pytest.fixture
def environment():
    """`stack.up` sets the addresses in this process; they are restored, also after a failure."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


class TestRunning:
    pytestmark = real

    def test_both_servers_answer_and_the_buckets_exist(self, servers_of):
        with urllib.request.urlopen(f"{servers_of.mlflow}/health") as response:
            assert response.status == 200
        names = {bucket["Name"] for bucket in s3.client().list_buckets()["Buckets"]}
        assert set(stack.BUCKETS) <= names

    def test_every_port_is_bound_to_loopback_only(self, servers_of):
        processes = servers.marked_processes(Path(servers_of.folder))
        listening = [c for p in processes for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert len(listening) >= 9  # eight of SeaweedFS, one of MLflow
        assert {c.laddr.ip for c in listening} == {"127.0.0.1"}

    def test_wrong_keys_are_refused_with_one_clear_error(self, servers_of, tmp_path, monkeypatch):
        wrong = tmp_path / "credentials"
        wrong.write_text("[default]\naws_access_key_id = AKIDTYPO\naws_secret_access_key = hush-hush\n")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(wrong))
        with pytest.raises(OperationalError, match="S3 refused the credentials") as caught:
            storage.read_bytes("s3://mcti-data/x")
        assert f"the keys of profile default in {wrong}" in str(caught.value), "the file is named"
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDTYPO")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
        with pytest.raises(OperationalError, match="check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") as again:
            storage.read_bytes("s3://mcti-data/x")
        for word in ("AKIDTYPO", "hush-hush"):
            assert word not in f"{caught.value}{again.value}", "keys are never printed"

    def test_requests_without_keys_are_refused(self, servers_of):
        with pytest.raises(OSError, match="403"):
            urllib.request.urlopen(f"{servers_of.s3}/mcti-data")

    def test_a_second_up_starts_nothing(self, servers_of):
        again = stack.up(root_of(servers_of))
        assert again.already
        assert again.servers == servers_of.servers

    def test_status_reports_running_servers_and_the_state_has_no_secret(self, servers_of):
        assert stack.status(root_of(servers_of)).running
        folder = Path(servers_of.folder)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        secret = (folder / "credentials").read_text().split("aws_secret_access_key = ")[1].split()[0]
        commands = " ".join(" ".join(p.cmdline()) for p in servers.marked_processes(folder))
        assert secret not in commands + (folder / "state.json").read_text() + (folder / "env").read_text()

    def test_a_write_to_mlflow_is_appended_to_a_log_which_the_database_keeps_using(self, servers_of):
        with sqlite3.connect(Path(servers_of.folder, "mlflow.db")) as database:
            assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert database.execute("SELECT count(*) FROM experiments").fetchone()[0] >= 1, "MLflow uses this file"

    def test_another_checkout_joins_and_pushes_to_the_same_remote(self, servers_of, tmp_path):
        clone = tmp_path / "a clone"
        (clone / ".dvc").mkdir(parents=True)
        (clone / ".dvc" / "config").write_text(
            "[core]\n    remote = storage\n['remote \"storage\"']\n    url = s3://mcti-data/t\n"
        )
        assert stack.join(clone, root_of(servers_of)).running
        assert stack.status(clone).s3 == servers_of.s3
        (clone / "file").write_text("x")
        dvc_program.run(clone, "add", "file", quiet=True)
        dvc_program.run(clone, "push", quiet=True)
        assert storage.addresses("s3://mcti-data/t/files/md5/")
        stack.down(clone)
        assert stack.status(root_of(servers_of)).running

    def test_dvc_uses_the_keys_of_the_stack_despite_keys_in_the_environment(self, servers_of, tmp_path, monkeypatch):
        (tmp_path / ".dvc").mkdir()
        (tmp_path / ".dvc" / "config").write_text(
            "[core]\n    remote = storage\n['remote \"storage\"']\n    url = s3://mcti-data/u\n"
        )
        stack.join(tmp_path, root_of(servers_of))
        (tmp_path / "file").write_text("y")
        with monkeypatch.context() as other_keys:
            other_keys.setenv("AWS_ACCESS_KEY_ID", "other")
            other_keys.setenv("AWS_SECRET_ACCESS_KEY", "other")
            dvc_program.run(tmp_path, "add", "file", quiet=True)
            dvc_program.run(tmp_path, "push", quiet=True)
        assert len(storage.addresses("s3://mcti-data/u/files/md5/")) == 1

    def test_a_bucket_uses_one_volume_so_that_many_fit_on_a_small_disk(self, servers_of):
        def fill(number):
            s3.ensure_bucket(f"many-{number}")
            s3.put(f"s3://many-{number}/object", b"x")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(fill, range(40)))
        volumes = [path.name for path in Path(servers_of.folder, "s3").glob("many-*.dat")]
        assert len(volumes) == 40, volumes

    def test_only_one_of_two_conditional_writes_succeeds(self, servers_of):
        etag = s3.put("s3://mcti-data/conditional", b"1", only_if_absent=True)
        with pytest.raises(s3.Conflict):
            s3.put("s3://mcti-data/conditional", b"2", only_if_absent=True)
        s3.put("s3://mcti-data/conditional", b"3", only_if_etag=etag)
        with pytest.raises(s3.Conflict):
            s3.put("s3://mcti-data/conditional", b"4", only_if_etag=etag)
        assert s3.get("s3://mcti-data/conditional")[0] == b"3"
        etag = s3.put("s3://mcti-data/deleted", b"1")
        s3.remove("s3://mcti-data/deleted")
        with pytest.raises(s3.Conflict):
            s3.put("s3://mcti-data/deleted", b"2", only_if_etag=etag)


class TestBroken:
    pytestmark = real

    @pytest.mark.usefixtures("environment")
    def test_the_stack_recovers_from_killed_servers_lost_records_and_occupied_ports(self, tmp_path):
        try:
            first = stack.up(tmp_path)
            s3.put("s3://mcti-data/kept", b"kept")
            family = servers.marked_processes(tmp_path / ".stack")
            for process in family:
                process.kill()
            psutil.wait_procs(family, timeout=600)
            port = int(first.mlflow.rpartition(":")[2])
            with socket.socket() as taken:
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                taken.bind(("127.0.0.1", port))
                taken.listen()
                assert not stack.status(tmp_path).running
                second = stack.up(tmp_path)
            assert not second.already
            assert second.mlflow != first.mlflow
            assert storage.read_bytes("s3://mcti-data/kept") == b"kept"
            # The state of a stack whose `up` was killed before it recorded the pids.
            (tmp_path / ".stack" / "state.json").unlink()
            (line,) = stack.down(tmp_path).lines()
            assert all(f"process {server.pid}" in line for server in second.servers)
            assert all(server.process() is None for server in second.servers)
            assert servers.marked_processes(tmp_path / ".stack") == []
            assert stack.down(tmp_path).already
            assert stack.down(tmp_path).lines() == [f"no server of {tmp_path / '.stack'} is running"]
        finally:
            stack.down(tmp_path)


@pytest.mark.usefixtures("environment")
def test_a_missing_program_is_named_with_a_hint(tmp_path, monkeypatch):
    monkeypatch.setattr(stack.sys, "executable", str(tmp_path / "bin" / "python"))
    with pytest.raises(OperationalError, match=r"weed is missing.*make install"):
        stack.up(tmp_path)


@pytest.mark.usefixtures("environment")
def test_a_database_that_cannot_be_created_is_one_error_and_no_server_is_started(tmp_path):
    (tmp_path / ".stack").mkdir()
    (tmp_path / ".stack" / "mlflow.db").symlink_to(tmp_path / "absent" / "mlflow.db")
    with pytest.raises(OperationalError, match=r"database of MLflow cannot be created: unable to open .*mlflow\.db"):
        stack.up(tmp_path)
    assert servers.marked_processes(tmp_path / ".stack") == []


def test_a_folder_that_cannot_be_written_is_one_error(tmp_path):
    (tmp_path / ".stack").write_text("a file where the folder should be")
    with pytest.raises(Exception, match=r"\.stack") as caught:
        stack.up(tmp_path)
    assert caught.value.exit_code in (3, 4)


def test_a_held_lock_is_refused_with_the_pid_of_its_holder(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from mcti.local import stack\n"
        "with stack.locked(Path(sys.argv[1]), 'mcti demo'):\n    print('held', flush=True); time.sleep(300)"
    )
    holder = subprocess.Popen(
        [stack.sys.executable, "-c", script, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(OperationalError, match=rf"another `mcti demo` is running \(pid {holder.pid}\)"),
            stack.locked(tmp_path / "lock", "mcti demo"),
        ):
            pytest.fail("two processes hold the lock")
        holder.kill()
        holder.wait()
        with stack.locked(tmp_path / "lock", "mcti demo"):  # the lock was released when its holder ended
            assert (tmp_path / "lock").read_text() == str(os.getpid())
    finally:
        holder.kill()
        holder.wait()


def test_the_nearest_stack_at_or_above_is_used(tmp_path):
    (below := tmp_path / "data" / "raw").mkdir(parents=True)
    assert stack.nearest_root(below) == below, "no stack"
    (tmp_path / ".stack").mkdir()
    assert stack.nearest_root(below) == stack.nearest_root(tmp_path) == tmp_path


def test_joining_a_folder_without_a_stack_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no stack"):
        stack.join(tmp_path, tmp_path / "nowhere")


def test_joining_a_stack_that_is_not_running_is_refused(tmp_path):
    (tmp_path / ".stack").mkdir()
    with pytest.raises(OperationalError, match="is not running"):
        stack.join(tmp_path / "clone", tmp_path)


def test_the_demo_in_a_folder_of_other_files_is_refused(tmp_path):
    from mcti.demo.run import demo

    (tmp_path / "notes.txt").write_text("of another work")
    with pytest.raises(UsageError, match=r"no dvc\.yaml"):
        demo(tmp_path, announce=lambda _: None)


def test_the_environment_names_the_credentials_of_another_folder(tmp_path):
    settings.write(tmp_path, {"s3": 1, "mlflow": 2}, credentials=tmp_path / "elsewhere" / "credentials")
    assert "elsewhere/credentials" in (tmp_path / "env").read_text()
