"""Commands on the ledger of promotions."""

from pathlib import Path
from typing import Annotated

import typer

from mcti.cli.command_context import CommandContext, command
from mcti.cli.options import Anchor, Name, OutFile

group = typer.Typer(help="Print, verify, sign or export the ledger: the signed, hash-chained record of promotions.")


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command tree."""
    app.add_typer(group, name="ledger")


@command(group, "verify")
def verify(context: CommandContext, name: Name = None, anchor: Anchor = None) -> object:
    """Verify that no ledger entry was edited, removed or reordered, that the ledger agrees with aliases and anchors,
    and that its signatures satisfy the policy `trust`.

    Example: mcti ledger verify --name lung-os
    """
    from mcti.steps.ledger import verify_ledger as step

    return step(name or context.settings.register_.name, context.settings.trust, anchor=anchor)


@command(group, "anchor")
def print_anchor(context: CommandContext, name: Name = None) -> object:
    """Print number and hash of the last entry, for a protocol on paper: a rewritten ledger cannot agree with it.

    Example: mcti ledger anchor --name lung-os
    """
    from mcti.steps.ledger import last_anchor as step

    return step(name or context.settings.register_.name)


@command(group, "show")
def show(
    context: CommandContext,
    name: Name = None,
    at: Annotated[
        str | None, typer.Option(metavar="DATE", help="Print who was champion then: 2026-05-01, 2026-05-01T12:00Z.")
    ] = None,
) -> object:
    """Print the ledger: who moved which alias, when, and on what evidence; or which version was champion at a date.

    Example: mcti ledger show --name lung-os --at 2026-05-01
    """
    from mcti.steps import ledger as steps

    model, trust = name or context.settings.register_.name, context.settings.trust
    return steps.show_ledger(model, trust) if at is None else steps.champion_at(model, at, trust)


@command(group, "sign")
def sign(
    context: CommandContext,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="What was reviewed; the entry records it.")],
    name: Name = None,
) -> object:
    """Add a signed entry that pins all entries before it: for a ledger without signatures, or after a key was revoked.

    Example: mcti ledger sign --name lung-os --reason "ledger of before the signing key, compared with the protocol"
    """
    from mcti.steps.ledger import sign_ledger as step

    return step(name or context.settings.register_.name, reason, context.settings.trust)


@command(group, "export")
def export(context: CommandContext, out: OutFile, name: Name = None) -> object:
    """Write the ledger as CSV for auditors: one row per entry with who, when, what, reason, signature and hash.
    A ledger with faults is written, too, and ends with exit code 3.

    Example: mcti ledger export --name lung-os --out ledger.csv
    """
    from mcti.steps.ledger import export_ledger as step

    return step(name or context.settings.register_.name, Path(out), context.settings.trust)
