"""The compiled pipeline on this machine, without a cluster: tasks as processes, or as containers of the image."""

import contextlib
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
from kfp import components, local

from mcti.errors import EnvironmentTrouble, UsageError
from mcti.local import stack
from mcti.params import Settings
from pipelines import resources
from pipelines.submit import compile_to

_SERVICES = ("AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION", "MLFLOW_TRACKING_URI")


def run_local(settings: Settings, data: str | None, runner: str, out: Path, kind: str = "training") -> dict[str, str]:
    """Compile the pipeline, then execute exactly that file with kfp.local; results and the file lie below `out`.

    Each run gets a folder of its own, named after the pipeline and the time; the error of a failed task stands in the
    output above the end.

    Raises
        EnvironmentTrouble: a task failed after its retries, or no Docker engine answers.
    """
    if runner not in ("subprocess", "docker"):
        raise UsageError(f"no runner {runner!r}", "--runner", "write subprocess or docker")
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    package = out / "pipeline.yaml"
    about = compile_to(settings, data, package, kind)
    run = str(uuid.uuid4())  # as the label of the pods on a cluster
    engine = _docker(out, settings.cluster.image, run) if runner == "docker" else local.SubprocessRunner(use_venv=False)
    before = set(out.iterdir())
    local.init(engine, pipeline_root=str(out))
    try:
        with _told(run), contextlib.redirect_stdout(sys.stderr):  # what the tasks print; ours may be one JSON document
            components.load_component_from_file(str(package))()
    except RuntimeError as error:
        raise EnvironmentTrouble(str(error), str(out), "see the message of the task above") from error
    folder = next(path for path in sorted(set(out.iterdir()) - before) if path.is_dir())
    return {**about, "run": run, "folder": str(folder)}


@contextlib.contextmanager
def _told(run: str) -> Iterator[None]:
    """Tasks that are processes find the id of the run in the environment."""
    before = os.environ.get("MCTI_RUN")
    os.environ["MCTI_RUN"] = run
    try:
        yield
    finally:
        del os.environ["MCTI_RUN"]
        if before is not None:
            os.environ["MCTI_RUN"] = before


def _docker(out: Path, image: str, run: str) -> Any:
    """As on a cluster: another user, a root file system that cannot be written, the sources read-only."""
    import docker

    here = Path.cwd()
    out.chmod(0o777)  # the user of the image writes its results here
    try:
        found = docker.from_env().images.get(image)
    except docker.errors.ImageNotFound as error:
        raise EnvironmentTrouble(f"no image {image!r}", "the Docker engine", "make image, or docker pull") from error
    except docker.errors.DockerException as error:
        raise EnvironmentTrouble("no Docker engine answers", str(error), "start one, or --runner subprocess") from error
    # The stack's own folder holds files for its owner alone; what is needed of it comes in the environment.
    hidden = {str(here / stack.FOLDER): "rw,mode=0755"} if (here / stack.FOLDER).is_dir() else {}
    return local.DockerRunner(
        user=f"{resources.USER}:{resources.USER}",
        read_only=True,
        tmpfs={"/tmp": "rw,exec,mode=1777"} | hidden,  # noqa: S108  (a mount point in the container)  # nosec B108
        network_mode="host",
        working_dir=str(here),
        mounts=[docker.types.Mount(str(here), str(here), type="bind", read_only=True)],
        # A name may mean another image tomorrow; its digest says which one it is today.
        environment=_services()
        | {"MCTI_RUN": run, "MCTI_IMAGE": image if "@" in image else f"{image.partition(':')[0]}@{found.id}"},
    )


def _services() -> dict[str, str]:
    """Addresses and keys of the services that this process uses."""
    found = boto3.Session().get_credentials()
    keys = {"AWS_ACCESS_KEY_ID": found.access_key, "AWS_SECRET_ACCESS_KEY": found.secret_key} if found else {}
    return {name: os.environ[name] for name in _SERVICES if name in os.environ} | keys
