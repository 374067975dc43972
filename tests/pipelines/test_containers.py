"""The exit code of a container, as kfp.local receives it, with a fake engine; tests/containers use a real one."""

from types import SimpleNamespace

import docker
import pytest
from kfp import local
from kfp.local.docker_task_handler import DockerTaskHandler
from kfp.local.status import Status

from mcti.params import ClusterParams
from mcti.pipelines.containers import exit_codes_read, kill, runner


class Container:
    """A container with this exit code; None: it does not exist any more when the exit code is read."""

    def __init__(self, exit_code: int | None) -> None:
        self.exit_code, self.removed = exit_code, False

    def logs(self, stream: bool) -> list[bytes]:
        return [b"half a character: \xc3", b"\xa4\n"]

    def wait(self) -> dict[str, int]:
        if self.exit_code is None:
            raise docker.errors.NotFound("No such container")
        return {"StatusCode": self.exit_code}

    def remove(self, force: bool) -> None:
        self.removed = True
        if self.exit_code is None:
            raise docker.errors.NotFound("No such container")


@pytest.fixture
def run_in(monkeypatch, tmp_path):
    """A function that runs a task of kfp.local in a container and returns the status that kfp.local reports."""

    def run(container):
        engine = SimpleNamespace(
            close=lambda: None,
            info=dict,
            images=SimpleNamespace(
                list=lambda: [SimpleNamespace(tags=["mcti-python:test"], attrs={"RepoDigests": []})]
            ),
            containers=SimpleNamespace(run=lambda **words: container),
        )
        monkeypatch.setattr("docker.from_env", lambda: engine)
        return DockerTaskHandler("mcti-python:test", ["true"], str(tmp_path), local.DockerRunner()).run()

    return run


@pytest.mark.parametrize(("exit_code", "status"), [(0, Status.SUCCESS), (3, Status.FAILURE), (137, Status.FAILURE)])
def test_the_exit_code_of_a_container_decides(run_in, exit_code, status):
    container = Container(exit_code)
    with exit_codes_read():
        assert run_in(container) == status
    assert container.removed


def test_a_container_that_does_not_exist_any_more_has_failed(run_in):
    with exit_codes_read():
        assert run_in(Container(None)) == Status.FAILURE


def test_a_container_whose_removal_is_in_progress_has_failed(run_in):
    """As `docker rm -f` of a running task: it was killed (137), and the engine refuses a second removal (409)."""
    container = Container(137)

    def remove(force):
        raise docker.errors.APIError("removal is already in progress", SimpleNamespace(status_code=409))

    container.remove = remove
    with exit_codes_read():
        assert run_in(container) == Status.FAILURE


def test_a_cancelled_run_leaves_no_container_running_or_exited(monkeypatch):
    """As the engine does: without `all` it lists running containers only."""
    running, exited = Container(137), Container(0)

    def list_containers(all=False, filters=None, ignore_removed=False):
        assert filters == {"label": "mcti.run=a run"}
        return [running, exited] if all else [running]

    monkeypatch.setattr("docker.from_env", lambda: SimpleNamespace(containers=SimpleNamespace(list=list_containers)))
    kill("a run")
    assert (running.removed, exited.removed) == (True, True)


def test_kfp_reports_a_removed_container_as_a_success(run_in):
    """If this fails, KFP has fixed the fault, and pipelines/containers.py can drop its replacement."""
    container = Container(None)
    container.logs = lambda stream: []
    assert run_in(container) == Status.SUCCESS


@pytest.mark.parametrize(("set_by_user", "in_container"), [(None, "false"), ("true", "true")])
def test_a_container_downloads_files_through_the_server_of_mlflow(monkeypatch, tmp_path, set_by_user, in_container):
    name = "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD"
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv(name, raising=False)
    if set_by_user:
        monkeypatch.setenv(name, set_by_user)
    engine = SimpleNamespace(images=SimpleNamespace(get=lambda image: SimpleNamespace(id="sha256:0")))
    monkeypatch.setattr("docker.from_env", lambda: engine)
    refused = str(tmp_path / "refused")
    docker_runner = runner(tmp_path, ClusterParams(), {"MCTI_RUN": "run", "MCTI_REFUSALS": refused})
    environment = docker_runner.container_run_args["environment"]
    assert environment[name] == in_container
    assert (environment["MCTI_RUN"], environment["MCTI_REFUSALS"]) == ("run", refused)
