"""Commands on the ledger of promotions."""

import typer

from mcti.cli.command_context import CommandContext, command
from mcti.cli.options import Name

group = typer.Typer(help="Print or verify the ledger: the hash-chained record of promotions.")


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command tree."""
    app.add_typer(group, name="ledger")


@command(group, "verify")
def verify(context: CommandContext, name: Name = None) -> object:
    """Verify that no ledger entry was edited, removed or reordered, and that no alias was moved manually.

    Example: mcti ledger verify --name lung-os
    """
    from mcti.steps.promote.step import verify_ledger as step

    return step(name or context.settings.register_.name)


@command(group, "show")
def show(context: CommandContext, name: Name = None) -> object:
    """Print the ledger: who moved which alias, when, and on what evidence.

    Example: mcti ledger show --name lung-os --json
    """
    from mcti.steps.promote.step import show_ledger as step

    return step(name or context.settings.register_.name)
