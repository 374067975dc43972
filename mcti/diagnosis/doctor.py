"""All checks of `mcti doctor`: which of them are needed depends on what settings and environment configure."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mcti.diagnosis import machine, packages, programs, services
from mcti.diagnosis.check import Check, Result, Task, exit_code, run_all
from mcti.params import Settings


class Diagnosis(BaseModel):
    """The results of all checks; exit_code: 4 where something needed is absent or does not work."""

    model_config = ConfigDict(frozen=True)
    checks: tuple[Check, ...]

    @property
    def exit_code(self) -> int:
        """Exit code of the command."""
        return exit_code(self.checks)

    def lines(self) -> list[str]:
        """One line per check, and their number by state."""
        states = [check.state for check in self.checks]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        width = max(map(len, states), default=0)
        return [*(check.line(width) for check in self.checks), f"doctor: {len(states)} checks, {counts}"]


def doctor(settings: Settings, folder: Path, kubeflow: Callable[[], Result]) -> Diagnosis:
    """Check this machine and the configured services; a temporary file per folder is all that is written.

    kubeflow    the checks of the server at KF_PIPELINES_ENDPOINT, which mcti/ cannot import
    """
    return Diagnosis(checks=run_all(list(_tasks(settings, folder, kubeflow))))


def _tasks(settings: Settings, folder: Path, kubeflow: Callable[[], Result]) -> Iterator[Task]:
    yield Task("Python", 10, machine.check_python)
    yield Task("packages", 60, lambda: packages.check_packages(needed_extras(settings, folder)))
    yield Task("disk", 10, lambda: list(machine.check_disk(folder)))
    yield Task("memory", 10, machine.check_memory)
    yield Task("GPU", 120, lambda: machine.check_gpu(settings.train.device), settings.train.device == "cuda")
    yield Task("permissions", 20, lambda: list(machine.check_permissions(folder)))
    yield Task("ports", 20, lambda: list(machine.check_ports(folder, settings)), needed=False)
    yield Task("S3", 40, lambda: list(services.check_s3(settings)))
    yield Task("MLflow", 30, services.check_mlflow)
    yield Task("PostgreSQL", 40, lambda: services.check_postgresql(settings.search.storage))
    yield Task("clock", 40, lambda: services.check_clock(settings), needed=False)
    yield Task("docker", 20, programs.check_docker, needed=False)
    yield Task("kubectl", 40, programs.check_kubectl, needed=False)
    yield Task("Kubeflow Pipelines", 60, lambda: services.check_kubeflow_address() or kubeflow())


def needed_extras(settings: Settings, folder: Path) -> set[str]:
    """The extras of mcti that this project uses: local with DVC or the stack, pipelines with a server, encoders."""
    encoder = settings.extract.encoder
    used = {
        "local": any((folder / name).exists() for name in (".dvc", ".stack")),
        "pipelines": bool(os.environ.get("KF_PIPELINES_ENDPOINT")),
        "lite0": encoder == "lite0",
        "timm": encoder.startswith("timm:"),
    }
    return {name for name, is_used in used.items() if is_used}
