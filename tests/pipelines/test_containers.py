"""How a container ended, as kfp.local hears it. The engine is a double here; tests/containers have a real one."""

from types import SimpleNamespace

import docker
import pytest
from kfp import local
from kfp.local.docker_task_handler import DockerTaskHandler
from kfp.local.status import Status

from mcti.params import ClusterParams
from pipelines.containers import exit_codes_read, kill, runner


class Container:
    """One that ends with this exit code, or is gone when asked for it."""

    def __init__(self, exit_code: int | None) -> None:
        self.exit_code, self.removed = exit_code, False

    def logs(self, stream: bool) -> list[bytes]:
        return [b"half a letter: \xc3", b"\xa4\n"]

    def wait(self) -> dict[str, int]:
        if self.exit_code is None:
            raise docker.errors.NotFound("No such container")
        return {"StatusCode": self.exit_code}

    def remove(self, force: bool) -> None:
        self.removed = True
        if self.exit_code is None:
            raise docker.errors.NotFound("No such container")


@pytest.fixture
def ended(monkeypatch, tmp_path):
    """Run a task of kfp.local in such a container: what kfp.local makes of it."""

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
def test_the_exit_code_of_a_container_decides(ended, exit_code, status):
    container = Container(exit_code)
    with exit_codes_read():
        assert ended(container) == status
    assert container.removed


def test_a_container_that_vanished_has_failed(ended):
    with exit_codes_read():
        assert ended(Container(None)) == Status.FAILURE


def test_a_container_that_somebody_else_is_removing_has_failed(ended):
    """As `docker rm -f` of a running task: it was killed (137), and the engine refuses a second removal (409)."""
    container = Container(137)

    def remove(force):
        raise docker.errors.APIError("removal is already in progress", SimpleNamespace(status_code=409))

    container.remove = remove
    with exit_codes_read():
        assert ended(container) == Status.FAILURE


def test_a_cancelled_run_leaves_no_container_not_even_one_that_has_ended(monkeypatch):
    """As the engine answers: without `all` it tells of those that run."""
    running, exited = Container(137), Container(0)

    def list_containers(all=False, filters=None, ignore_removed=False):
        assert filters == {"label": "mcti.run=a run"}
        return [running, exited] if all else [running]

    monkeypatch.setattr("docker.from_env", lambda: SimpleNamespace(containers=SimpleNamespace(list=list_containers)))
    kill("a run")
    assert (running.removed, exited.removed) == (True, True)


def test_kfp_itself_would_call_it_a_success(ended):
    """When this fails, KFP has mended it, and pipelines/containers.py may leave it to KFP."""
    container = Container(None)
    container.logs = lambda stream: []
    assert ended(container) == Status.SUCCESS


@pytest.mark.parametrize(("set_by_user", "in_container"), [(None, "false"), ("true", "true")])
def test_a_container_takes_files_through_the_server_of_mlflow(monkeypatch, tmp_path, set_by_user, in_container):
    name = "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD"
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv(name, raising=False)
    if set_by_user:
        monkeypatch.setenv(name, set_by_user)
    engine = SimpleNamespace(images=SimpleNamespace(get=lambda image: SimpleNamespace(id="sha256:0")))
    monkeypatch.setattr("docker.from_env", lambda: engine)
    docker_runner = runner(tmp_path, ClusterParams(), "run")
    assert docker_runner.container_run_args["environment"][name] == in_container
