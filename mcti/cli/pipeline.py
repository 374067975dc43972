"""Commands for Kubeflow: compile, submit, schedule and inspect the pipelines, or run one on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from mcti.cli.command_context import CommandContext, command, print_status
from mcti.cli.options import OutFile, OutFolder

group = typer.Typer(help="Compile, run, schedule and inspect the pipelines on Kubeflow, or run one on this machine.")

Data = Annotated[
    str | None, typer.Option("--data", metavar="MD5", help="Version of the sources; default: that of their .dvc file.")
]
Host = Annotated[
    str, typer.Option("--host", metavar="URL", envvar="KF_PIPELINES_ENDPOINT", help="Address of the API server.")
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="Id of the run, as `mcti pipeline submit` printed it.")]
Pipeline = Annotated[
    str, typer.Option("--kind", metavar="NAME", help="Pipeline: training | retraining | inference | pretraining.")
]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", metavar="NAME", help="Namespace of the runs: that of your profile in multi-user mode."),
]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command tree."""
    app.add_typer(group, name="pipeline")


@command(group, "compile")
def compile_(context: CommandContext, out: OutFile, pipeline: Pipeline = "training", data: Data = None) -> object:
    """Compile a pipeline to YAML for `kfp run create -f`. The same settings give the same bytes.

    Example: mcti pipeline compile --out training.yaml
    """
    from mcti.pipelines import submit

    return submit.compile_to(context.settings, data, Path(out), pipeline)


@command(group, "check")
def check(
    context: CommandContext,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Compiled pipeline of Kubeflow Pipelines.")],
) -> object:
    """Check a compiled pipeline against the rules of a cluster. A violated rule ends with exit code 3.

    Example: mcti pipeline check training.yaml
    """
    from mcti.pipelines import checks

    report = checks.check(file, context.settings.cluster)
    for line in report.violation_lines():
        print_status(f"error: {line}")
    return report


@command(group, "submit")
def submit(
    context: CommandContext, host: Host, pipeline: Pipeline = "training", namespace: Namespace = None, data: Data = None
) -> object:
    """Start one run of a pipeline on a cluster.

    Example: mcti pipeline submit --host http://localhost:8888
    """
    from mcti.pipelines import submit

    return submit.submit(context.settings, data, host, namespace, pipeline)


@command(group, "schedule")
def schedule(
    context: CommandContext,
    host: Host,
    pipeline: Pipeline = "retraining",
    namespace: Namespace = None,
    data: Data = None,
) -> object:
    """Schedule a pipeline by cluster.cron and print its next time. An unchanged schedule is kept.

    Example: mcti pipeline schedule --host http://localhost:8888
    """
    from mcti.pipelines import schedule

    return schedule.schedule(context.settings, data, host, namespace, pipeline)


@command(group, "status")
def status(context: CommandContext, run: Run, host: Host, namespace: Namespace = None) -> object:  # noqa: ARG001
    """Print one line per task: state, attempts, duration, and the last log line and exit code of a failed task.

    Example: mcti pipeline status 3f0c… --host http://localhost:8888
    """
    from mcti.pipelines import status

    return status.status(run, host, namespace)


@command(group, "logs")
def logs(
    context: CommandContext,  # noqa: ARG001
    run: Run,
    task: Annotated[str, typer.Argument(metavar="TASK", help="Name as in `mcti pipeline status`, such as train:0.")],
    host: Host,
    namespace: Namespace = None,
) -> object:
    """Print the log of the last attempt of a task.

    Example: mcti pipeline logs 3f0c… train:0 --host http://localhost:8888
    """
    from mcti.pipelines.task_log import task_log

    return task_log(run, task, host, namespace)


@command(group, "doctor")
def doctor(context: CommandContext, host: Host, namespace: Namespace = None) -> object:
    """Check what a cluster has for these settings, and name what is missing. Nothing is changed.

    Example: mcti pipeline doctor --host http://localhost:8888
    """
    from mcti.pipelines import doctor

    return doctor.doctor(context.settings, host, namespace)


@command(group, "run-local")
def run_local(
    context: CommandContext,
    out: OutFolder,
    runner: Annotated[
        str, typer.Option(metavar="NAME", help="Runner of the tasks: subprocess | docker.")
    ] = "subprocess",
    pipeline: Pipeline = "training",
    data: Data = None,
) -> object:
    """Run a compiled pipeline on this machine, each task as a process or as a container of cluster.image.

    Example: mcti pipeline run-local --runner subprocess --out runs
    """
    from mcti.pipelines import local_run

    return local_run.run_local(context.settings, data, runner, Path(out), pipeline)
