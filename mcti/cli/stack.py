"""Commands for this machine: the one-machine stack (S3, MLflow), the demo that runs on it, and checks."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcti.cli.command_context import CommandContext, command, print_status

if TYPE_CHECKING:  # importing pydantic takes a third of the time limit for `mcti --help`
    from mcti.diagnosis.check import Result

group = typer.Typer()
stack_group = typer.Typer(help="Start, stop and inspect the one-machine stack: S3 and MLflow on loopback.")


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command tree."""
    app.add_typer(group)
    app.add_typer(stack_group, name="stack")


@command(stack_group, "up")
def up(context: CommandContext) -> object:  # noqa: ARG001
    """Start the servers that are not running.

    Example: mcti stack up
    """
    from mcti.local import stack

    return stack.up(Path.cwd())


@command(stack_group, "down")
def down(context: CommandContext) -> object:  # noqa: ARG001
    """Stop the servers that `up` started, by their process ids.

    Example: mcti stack down
    """
    from mcti.local import stack

    return stack.down(stack.nearest_root(Path.cwd()))


@command(stack_group, "status")
def status(context: CommandContext) -> object:  # noqa: ARG001
    """Print which servers run, and their addresses.

    Example: mcti stack status --json
    """
    from mcti.local import stack

    return stack.status(stack.nearest_root(Path.cwd()))


@command(stack_group, "join")
def join(
    context: CommandContext,  # noqa: ARG001
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Checkout whose stack is used.")],
) -> object:
    """Use the running stack of another checkout on this machine.

    Example: mcti stack join ../first-clone
    """
    from mcti.local import stack

    return stack.join(Path.cwd(), Path(folder))


@command(group, "demo")
def demo(context: CommandContext) -> object:
    """Run all steps on the demo cohort, from synthetic slides to a promoted champion.

    Example: mcti demo
    """
    from mcti.demo.run import demo as run

    return run(Path.cwd(), announce=print_status, progress=context.progress)


@command(group, "doctor")
def doctor(context: CommandContext) -> object:
    """Check this machine, the packages and the services that settings and environment name. If something needed is
    absent or does not work, it ends with exit code 4. Nothing is changed.

    Example: mcti doctor --json
    """
    from mcti.diagnosis.doctor import doctor as run

    return run(context.settings, Path.cwd(), lambda: _check_kubeflow(context))


def _check_kubeflow(context: CommandContext) -> "Result":
    """The checks of the server at KF_PIPELINES_ENDPOINT; here, since only the command line may load `pipelines`."""
    from mcti.diagnosis.check import Check

    name, host = "Kubeflow Pipelines", os.environ.get("KF_PIPELINES_ENDPOINT", "")
    if not host:
        return Check(name=name, state="not configured", detail="KF_PIPELINES_ENDPOINT is not set")
    try:
        from mcti.pipelines.doctor import check_server
    except ImportError as error:
        hint = "pip install 'mcti[pipelines]'"
        return Check(name=name, state="missing", detail=f"{error.name} is not installed", hint=hint)
    checks = check_server(context.settings.cluster, host)
    return [check.model_copy(update={"name": f"{name}, {check.name}"}) for check in checks]
