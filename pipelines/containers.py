"""Tasks of a local run as containers: another user, a root that cannot be written, no task lost in silence."""

import contextlib
import os
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import boto3
import docker
from kfp import local
from kfp.local import docker_task_handler

from mcti.errors import OperationalError
from mcti.local import stack
from mcti.params import ClusterParams
from mcti.registry import mlflow_client
from pipelines import resources

LABEL = "mcti.run"
VANISHED = 137  # as of a container that was killed
_SERVICES = ("AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION", "MLFLOW_TRACKING_URI", *mlflow_client.ENVIRONMENT)


def runner(out: Path, cluster: ClusterParams, run: str) -> local.DockerRunner:
    """As on a cluster; the working directory is mounted read-only, results go to `out`.

    Raises
        OperationalError: no engine answers, or it has no image `cluster.image`.
    """
    here, image = Path.cwd(), cluster.image
    out.chmod(0o777)  # the user of the image writes its results here
    try:
        found = docker.from_env().images.get(image)
    except docker.errors.ImageNotFound as error:
        raise OperationalError(f"no image {image!r}", "the Docker engine", "make image, or docker pull") from error
    except docker.errors.DockerException as error:
        raise OperationalError("no Docker engine answers", str(error), "start one, or --runner subprocess") from error
    # The stack's own folder holds files for its owner alone; what is needed of it comes in the environment.
    hidden = {str(here / stack.FOLDER): "rw,mode=0755"} if (here / stack.FOLDER).is_dir() else {}
    return local.DockerRunner(
        user=f"{resources.USER}:{resources.USER}",
        read_only=True,
        tmpfs={"/tmp": "rw,exec,mode=1777"} | hidden,  # noqa: S108  (a mount point in the container)  # nosec B108
        network_mode="host",
        labels={LABEL: run},
        working_dir=str(here),
        mounts=[docker.types.Mount(str(here), str(here), type="bind", read_only=True)],
        # A name may mean another image tomorrow; its digest says which one it is today.
        environment=mlflow_client.ENVIRONMENT
        | _services(cluster)
        | {"MCTI_RUN": run, "MCTI_IMAGE": image if "@" in image else f"{image.partition(':')[0]}@{found.id}"},
    )


def kill(run: str) -> None:
    """Stop the containers of this run, at once, and remove them, with those that ended when nobody watched."""
    label = {"label": f"{LABEL}={run}"}
    for container in docker.from_env().containers.list(all=True, filters=label, ignore_removed=True):
        _remove(container)


@contextlib.contextmanager
def told_how_they_end() -> Iterator[None]:
    """kfp.local 2.17 has the engine remove a container as it ends, and takes one that is gone by then for a success.

    Inside, a container stays until it has told its exit code; one that vanished before has failed, and is tried again.
    """
    before = docker_task_handler.run_docker_container
    docker_task_handler.run_docker_container = run_to_the_end
    try:
        yield
    finally:
        docker_task_handler.run_docker_container = before


def run_to_the_end(client: Any, image: str, command: list[str], volumes: dict[str, Any], **words: Any) -> int:
    """Run a container, print what it says, remove it: its exit code."""
    container = client.containers.run(image=image, command=command, volumes=volumes, detach=True, **words)
    try:
        for text in container.logs(stream=True):
            print(text.decode(errors="replace"), end="")  # noqa: T201  (kfp.local indents what is printed)
        return int(container.wait()["StatusCode"])
    except docker.errors.NotFound:
        return VANISHED
    finally:
        _remove(container)


def _remove(container: Any) -> None:
    """Remove it, unless it has gone, or somebody is removing it at this moment (409): then it need not be done."""
    try:
        container.remove(force=True)
    except docker.errors.NotFound:
        return
    except docker.errors.APIError as error:
        if error.status_code != HTTPStatus.CONFLICT:
            raise


def _services(cluster: ClusterParams) -> dict[str, str]:
    """Addresses and keys of the services that this process uses; on a cluster they are in secrets and config maps."""
    given = {name for keys in (*cluster.secrets.values(), *cluster.config_maps.values()) for name in keys.values()}
    found = boto3.Session().get_credentials()
    keys = {"AWS_ACCESS_KEY_ID": found.access_key, "AWS_SECRET_ACCESS_KEY": found.secret_key} if found else {}
    return {name: os.environ[name] for name in sorted({*_SERVICES, *given}) if name in os.environ} | keys
