"""Tasks of a local run as Docker containers: other user, read-only root file system, exit codes read reliably."""

import contextlib
import os
from collections.abc import Iterator, Mapping
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
from mcti.pipelines import resources
from mcti.registry import mlflow_client, refusals

LABEL = "mcti.run"
KILLED = 137  # exit code of a process that ended by SIGKILL
_SERVICES = ("AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION", "MLFLOW_TRACKING_URI", *mlflow_client.ENVIRONMENT)


def runner(out: Path, cluster: ClusterParams, identity: Mapping[str, str]) -> local.DockerRunner:
    """Containers as on a cluster: the working directory is mounted read-only, results are written to `out`.

    identity    variables of the run; MCTI_RUN is also the label of its containers

    Raises
        OperationalError: no Docker engine is reachable, or it does not have the image `cluster.image`.
    """
    directory, image = Path.cwd(), cluster.image
    out.chmod(0o777)  # the user of the image writes its results to this folder
    try:
        local_image = docker.from_env().images.get(image)
    except docker.errors.ImageNotFound as error:
        hint = "build it with make image, or fetch it with docker pull"
        raise OperationalError(f"no image {image!r}", "the Docker engine", hint) from error
    except docker.errors.DockerException as error:
        hint = "start the engine, or use --runner subprocess"
        raise OperationalError("no Docker engine is reachable", str(error), hint) from error
    # Files of the stack's folder are readable for their owner only; the tasks get what they need from the environment.
    hidden = {str(directory / stack.FOLDER): "rw,mode=0755"} if (directory / stack.FOLDER).is_dir() else {}
    return local.DockerRunner(
        user=f"{resources.USER}:{resources.USER}",
        read_only=True,
        tmpfs={"/tmp": "rw,exec,mode=1777"} | hidden,  # noqa: S108  (a mount point in the container)  # nosec B108
        network_mode="host",
        labels={LABEL: identity["MCTI_RUN"]},
        working_dir=str(directory),
        mounts=[docker.types.Mount(str(directory), str(directory), type="bind", read_only=True)],
        # A tag may point to another image later; the digest identifies the image of this run.
        environment=mlflow_client.ENVIRONMENT
        | _services(cluster)
        | {name: identity[name] for name in ("MCTI_RUN", refusals.FOLDER)}
        | {"MCTI_IMAGE": image if "@" in image else f"{image.partition(':')[0]}@{local_image.id}"},
    )


def kill(run: str) -> None:
    """Kill and remove the containers of this run, those that have exited included."""
    label = {"label": f"{LABEL}={run}"}
    for container in docker.from_env().containers.list(all=True, filters=label, ignore_removed=True):
        _remove(container)


@contextlib.contextmanager
def exit_codes_read() -> Iterator[None]:
    """Inside, a container is kept until its exit code was read; a container that is gone before has failed.

    kfp.local 2.17 lets the engine remove a container when it exits, and treats a removed container as a success.
    """
    before = docker_task_handler.run_docker_container
    docker_task_handler.run_docker_container = run_container
    try:
        yield
    finally:
        docker_task_handler.run_docker_container = before


def run_container(client: Any, image: str, command: list[str], volumes: dict[str, Any], **options: Any) -> int:
    """Run a container, print its output and remove it; returns its exit code."""
    container = client.containers.run(image=image, command=command, volumes=volumes, detach=True, **options)
    try:
        for text in container.logs(stream=True):
            print(text.decode(errors="replace"), end="")  # noqa: T201  (kfp.local indents what is printed)
        return int(container.wait()["StatusCode"])
    except docker.errors.NotFound:
        return KILLED
    finally:
        _remove(container)


def _remove(container: Any) -> None:
    """Remove a container; one that is gone, or whose removal is already in progress (409), needs no removal."""
    try:
        container.remove(force=True)
    except docker.errors.NotFound:
        return
    except docker.errors.APIError as error:
        if error.status_code != HTTPStatus.CONFLICT:
            raise


def _services(cluster: ClusterParams) -> dict[str, str]:
    """Addresses and keys of the services that this process uses; on a cluster Secrets and ConfigMaps hold them."""
    mapped = {name for keys in (*cluster.secrets.values(), *cluster.config_maps.values()) for name in keys.values()}
    credentials = boto3.Session().get_credentials()
    keys = {}
    if credentials:
        keys = {"AWS_ACCESS_KEY_ID": credentials.access_key, "AWS_SECRET_ACCESS_KEY": credentials.secret_key}
    return {name: os.environ[name] for name in sorted({*_SERVICES, *mapped}) if name in os.environ} | keys
