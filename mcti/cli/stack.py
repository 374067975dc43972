"""Commands for the one-machine stack (S3, MLflow) of the current folder, and the demo that runs on it."""

from pathlib import Path
from typing import Annotated

import typer

from mcti.cli.command_context import CommandContext, command, print_status

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
