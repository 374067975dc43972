"""The first start of PostgreSQL: the scripts of the manifest on real servers, run as image and kubelet run them."""

import os
import subprocess

import pytest
import yaml

from tests.infra.manifests import KUBERNETES
from tests.training.postgres import Server

pytestmark = [pytest.mark.slow, pytest.mark.stack]


@pytest.fixture(scope="module")
def scripts():
    documents = yaml.safe_load_all((KUBERNETES / "base/postgresql.yaml").read_text(encoding="utf-8"))
    return {key: text for d in documents if d["kind"] == "ConfigMap" for key, text in d["data"].items()}


@pytest.fixture(scope="module")
def server():
    with Server() as started:
        yield started


def psql(server, user, *words, **variables):
    """Run psql as docker-entrypoint.sh of the image does: without psqlrc, stopping at the first error."""
    command = [server.home / "psql", "-v", "ON_ERROR_STOP=1", "--no-psqlrc", "-h", "127.0.0.1", "-p", str(server.port)]
    environment = {**os.environ, **variables}
    return subprocess.run([*command, "-U", user, *words], env=environment, capture_output=True, text=True, check=False)


def run(script, environment, server=None, **more):
    path = f"{server.home}:{os.environ['PATH']}" if server else os.environ["PATH"]
    return subprocess.run(
        ["sh", "-c", script], env={"PATH": path, **environment}, capture_output=True, text=True, check=False, **more
    )


@pytest.mark.parametrize("user", ["mlflow", "search", "mcti", "other-user"])
def test_the_databases_are_created_for_any_name_of_the_user(scripts, tmp_path, user):
    """The image creates a database named after the user before it runs databases.sql."""
    with Server() as server:
        if user != "mcti":
            assert psql(server, "mcti", "-d", "postgres", "-c", f'CREATE ROLE "{user}" SUPERUSER LOGIN').returncode == 0
        assert psql(server, user, "-d", "postgres", "-c", f'CREATE DATABASE "{user}"').returncode == 0
        marker, file = tmp_path / "first-start", tmp_path / "databases.sql"
        marker.touch()
        file.write_text(scripts["databases.sql"], encoding="utf-8")
        for _ in range(2):  # a second run changes nothing
            done = psql(server, user, "-d", user, "-f", str(file), FIRST_START=str(marker))
            assert done.returncode == 0, done.stderr
        names = psql(server, "mcti", "-d", "postgres", "-tAc", "SELECT datname FROM pg_database").stdout.split()
        assert names.count("mlflow") == names.count("search") == 1
        assert not marker.exists(), "the first start is complete"


def run_startup_probe(scripts, server, tmp_path, **environment):
    """Run the start-up probe against a server, with the files of the Secret."""
    for name, text in (("user", "mcti"), ("password", "x")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    reach = {"PGPORT": str(server.port), "PGHOST": "127.0.0.1"}
    files = {"POSTGRES_USER_FILE": str(tmp_path / "user"), "POSTGRES_PASSWORD_FILE": str(tmp_path / "password")}
    marker = {"FIRST_START": str(tmp_path / "first-start")}
    return run(scripts["started.sh"], {**reach, **files, **marker, **environment}, server)


def test_a_server_without_its_databases_is_not_started(scripts, tmp_path, server):
    """After an interruption of the first start behind initdb the image would treat it as complete."""
    done = run_startup_probe(scripts, server, tmp_path)
    assert done.returncode == 1
    assert "no database mlflow" in done.stdout
    assert "infra/runbook.md" in done.stdout
    for name in ("mlflow", "search"):
        assert psql(server, "mcti", "-d", "postgres", "-c", f"CREATE DATABASE {name}").returncode == 0
    assert run_startup_probe(scripts, server, tmp_path).returncode == 0
    (tmp_path / "first-start").touch()
    done = run_startup_probe(scripts, server, tmp_path)
    assert done.returncode == 1
    assert "the first start was interrupted" in done.stdout


def test_a_server_that_does_not_respond_is_not_started(scripts, tmp_path, server):
    assert run_startup_probe(scripts, server, tmp_path, PGPORT="1").returncode != 0


def test_the_probes_need_no_user_of_the_system(server):
    """As in the pod: a uid without an entry in /etc/passwd. Without -U pg_isready makes no attempt."""
    if os.geteuid() != 0:
        pytest.skip("needs root to run as another uid")
    manifest = (KUBERNETES / "base/postgresql.yaml").read_text(encoding="utf-8")
    (pod,) = [d["spec"]["template"]["spec"] for d in yaml.safe_load_all(manifest) if d["kind"] == "StatefulSet"]
    (container,) = pod["containers"]
    unknown = {"user": pod["securityContext"]["runAsUser"], "group": 10999, "extra_groups": []}
    environment = {"PGPORT": str(server.port), "PATH": f"{server.home}:{os.environ['PATH']}"}
    for probe in ("readinessProbe", "livenessProbe"):
        command = container[probe]["exec"]["command"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **unknown)
        assert done.returncode == 0, done.stdout + done.stderr
    bare = subprocess.run(
        ["pg_isready", "-h", "127.0.0.1"], env=environment, capture_output=True, text=True, check=False, **unknown
    )
    assert bare.returncode == 3, "no attempt: the reason for -U"


@pytest.fixture
def volume(tmp_path):
    return {"PGDATA": str(tmp_path / "pgdata"), "FIRST_START": str(tmp_path / "first-start")}


def test_an_empty_volume_is_marked_until_its_databases_exist(scripts, tmp_path, volume):
    assert run(scripts["prepare.sh"], volume).returncode == 0
    assert (tmp_path / "first-start").exists()


@pytest.mark.parametrize("left", ["PG_VERSION", "base"])
def test_the_directory_of_an_interrupted_first_start_is_renamed(scripts, tmp_path, volume, left):
    (tmp_path / "pgdata").mkdir()
    (tmp_path / "pgdata" / left).touch()
    (tmp_path / "first-start").touch()
    for attempt in range(2):  # also after a second interruption
        done = run(scripts["prepare.sh"], volume)
        assert done.returncode == 0, done.stderr
        assert "the first start was interrupted" in done.stdout
        assert not (tmp_path / "pgdata").exists()
        assert (tmp_path / "pgdata.incomplete").exists()
        assert (tmp_path / "first-start").exists()
        if attempt == 0:
            (tmp_path / "pgdata").mkdir()


def test_a_complete_directory_is_unchanged(scripts, tmp_path, volume):
    """Also a directory without a marker file."""
    (tmp_path / "pgdata").mkdir()
    (tmp_path / "pgdata/PG_VERSION").write_text("16", encoding="utf-8")
    done = run(scripts["prepare.sh"], volume)
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "pgdata/PG_VERSION").read_text(encoding="utf-8") == "16"
    assert not (tmp_path / "first-start").exists()


def test_a_first_start_completes_after_an_interruption(scripts, tmp_path, volume):
    """prepare.sh, initdb, databases.sql as in the image, the probe: interrupted once, complete at the second start."""
    with Server() as server:
        assert run(scripts["prepare.sh"], volume).returncode == 0
        (tmp_path / "pgdata").mkdir()
        (tmp_path / "pgdata/PG_VERSION").touch()  # initdb has run, then the node failed
        done = run_startup_probe(scripts, server, tmp_path)
        assert done.returncode == 1
        assert run(scripts["prepare.sh"], volume).returncode == 0
        (tmp_path / "databases.sql").write_text(scripts["databases.sql"], encoding="utf-8")
        words, marker = ("-d", "postgres", "-f", str(tmp_path / "databases.sql")), volume["FIRST_START"]
        assert psql(server, "mcti", *words, FIRST_START=marker).returncode == 0
        assert run_startup_probe(scripts, server, tmp_path).returncode == 0
