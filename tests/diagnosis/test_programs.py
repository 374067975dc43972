"""docker and kubectl, by shell scripts with fixed answers."""

import json
import stat

import pytest

from mcti.diagnosis import programs

CLIENT = {"clientVersion": {"gitVersion": "v1.32.4"}}


@pytest.fixture
def plant(tmp_path, monkeypatch):
    """A function that makes PATH contain one shell script: plant(name, body)."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def add(name, body):
        program = folder / name
        program.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    return add


def test_absent_programs_are_not_configured(plant):
    (kubectl,) = programs.check_kubectl()
    assert programs.check_docker().state == kubectl.state == "not configured"


def test_an_engine_that_answers_is_ok_and_one_that_does_not_is_a_warning(plant):
    plant("docker", "echo 27.1.1 26.0.0")
    check = programs.check_docker()
    assert (check.state, check.detail) == ("OK", "client 27.1.1, engine 26.0.0")
    plant("docker", "echo 27.1.1; echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    check = programs.check_docker()
    assert (check.state, check.detail) == ("warning", "Cannot connect to the Docker daemon")


def test_a_program_that_does_not_answer_ends_at_the_limit(plant, monkeypatch):
    monkeypatch.setattr(programs, "SECONDS", 0.3)
    plant("docker", "exec /bin/sleep 60")
    assert programs.check_docker().detail == "docker did not answer within 0.3 s"


def test_a_program_that_cannot_be_started_is_a_warning(plant, tmp_path):
    plant("docker", "")
    (tmp_path / "bin/docker").write_text("#!/no/such/interpreter\n", encoding="utf-8")
    assert programs.check_docker().detail == "docker cannot be started (No such file or directory)"


def kubectl(context="", server=None, client=CLIENT):
    """A kubectl with this context; server: the version that the cluster answers, None: no answer."""
    both = json.dumps({**client, "serverVersion": {"gitVersion": server}})
    answer = f"echo '{both}'" if server else "echo 'Unable to connect to the server: timeout' >&2; exit 1"
    return f"""case "$*" in
  "version --client -o json") echo '{json.dumps(client)}' ;;
  "config current-context") {f"echo {context}" if context else "exit 1"} ;;
  *) {answer} ;;
esac"""


def test_the_versions_of_kubectl_and_of_its_cluster_are_reported(plant):
    plant("kubectl", kubectl("prod", "v1.30.0"))
    client, cluster = programs.check_kubectl()
    assert (client.state, client.detail) == ("OK", "client v1.32.4")
    assert (cluster.name, cluster.state, cluster.detail) == ("cluster of context prod", "OK", "Kubernetes v1.30.0")


def test_an_old_kubectl_and_a_cluster_without_an_answer_are_warnings(plant):
    plant("kubectl", kubectl("prod", None, {"clientVersion": {"gitVersion": "v1.26.9"}}))
    client, cluster = programs.check_kubectl()
    assert (client.state, client.hint) == ("warning", "install 1.27 or later")
    assert (cluster.state, cluster.detail) == ("warning", "Unable to connect to the server: timeout")


def test_without_a_context_no_cluster_is_asked(plant):
    plant("kubectl", kubectl())
    assert [check.name for check in programs.check_kubectl()] == ["kubectl"]
