"""Commands on Kubeflow: compile, submit, schedule and inspect the pipelines, or run one on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from mcti.cli.command_context import CommandContext, command, print_status
from mcti.cli.options import OutFile, OutFolder

group = typer.Typer(help="The pipelines on Kubeflow, or on this machine.")

Data = Annotated[
    str | None, typer.Option("--data", metavar="MD5", help="Version of the sources; default: from their .dvc file.")
]
Host = Annotated[
    str, typer.Option("--host", metavar="URL", envvar="KF_PIPELINES_ENDPOINT", help="Address of the API server.")
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="Id that `mcti pipeline submit` printed.")]
Kind = Annotated[str, typer.Option("--kind", metavar="NAME", help="training | retraining | inference")]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", metavar="NAME", help="Namespace of the runs: yours (Profile) on a shared cluster."),
]


def add_to(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    app.add_typer(group, name="pipeline")


@command(group, "compile")
def compile_(context: CommandContext, out: OutFile, kind: Kind = "training", data: Data = None) -> object:
    """Write a pipeline as YAML, ready for `kfp run create -f`; the same settings give the same bytes.

    Example: mcti pipeline compile --out training.yaml
    """
    from pipelines import submit

    return submit.compile_to(context.settings, data, Path(out), kind)


@command(group, "check")
def check(
    context: CommandContext,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Compiled pipeline of Kubeflow Pipelines.")],
) -> object:
    """Check a compiled pipeline against what a cluster refuses; one line per rule, exit code 3 if one is broken.

    Example: mcti pipeline check training.yaml
    """
    from pipelines import checks

    report = checks.check(file, context.settings.cluster)
    for line in report.violation_lines():
        print_status(f"error: {line}")
    return report


@command(group, "submit")
def submit(
    context: CommandContext, host: Host, kind: Kind = "training", namespace: Namespace = None, data: Data = None
) -> object:
    """Start one run on a cluster.

    Example: mcti pipeline submit --host http://localhost:8888
    """
    from pipelines import submit

    return submit.submit(context.settings, data, host, namespace, kind)


@command(group, "schedule")
def schedule(
    context: CommandContext, host: Host, kind: Kind = "retraining", namespace: Namespace = None, data: Data = None
) -> object:
    """Run a pipeline by cluster.cron and print its next time; called again it changes nothing, unless they did.

    Example: mcti pipeline schedule --host http://localhost:8888
    """
    from pipelines import schedule

    return schedule.schedule(context.settings, data, host, namespace, kind)


@command(group, "status")
def status(context: CommandContext, run: Run, host: Host, namespace: Namespace = None) -> object:  # noqa: ARG001
    """Print one line a task: state, attempts, duration, and the last log line and exit code of one that failed.

    Example: mcti pipeline status 3f0c… --host http://localhost:8888
    """
    from pipelines import status

    return status.status(run, host, namespace)


@command(group, "logs")
def logs(
    context: CommandContext,  # noqa: ARG001
    run: Run,
    task: Annotated[str, typer.Argument(metavar="TASK", help="As `mcti pipeline status` names it: train:0.")],
    host: Host,
    namespace: Namespace = None,
) -> object:
    """Print the log of a task's last attempt.

    Example: mcti pipeline logs 3f0c… train:0 --host http://localhost:8888
    """
    from pipelines import logs

    return logs.logs(run, task, host, namespace)


@command(group, "doctor")
def doctor(context: CommandContext, host: Host, namespace: Namespace = None) -> object:
    """Read what a cluster has for these settings, and name what is missing; nothing is changed.

    Example: mcti pipeline doctor --host http://localhost:8888
    """
    from pipelines import doctor

    return doctor.doctor(context.settings, host, namespace)


@command(group, "run-local")
def run_local(
    context: CommandContext,
    out: OutFolder,
    runner: Annotated[str, typer.Option(metavar="NAME", help="subprocess | docker")] = "subprocess",
    kind: Kind = "training",
    data: Data = None,
) -> object:
    """Execute the compiled pipeline on this machine, each task as a process or as a container of cluster.image.

    Example: mcti pipeline run-local --runner subprocess --out runs
    """
    from pipelines import local_run

    return local_run.run_local(context.settings, data, runner, Path(out), kind)
