"""The command tree, its sections in `mcti --help`, and `mcti --version`."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import mcti
from mcti.cli import data, ledger, models, pipeline, project, slides, stack, steps

SECTIONS = {
    "Data": ("settings", "ingest", "validate", "validate-features", "split", "list-sources", "data"),
    "Slides": ("inventory", "extract", "features", "heatmap", "view"),
    "Training": ("search", "train", "pretrain", "evaluate", "compare", "test", "model"),
    "Registry": ("register", "promote", "approve", "rollback", "lineage", "verify", "bundle", "dossier", "ledger"),
    "Serving": ("predict", "explain", "serve", "monitor"),
    "Operations": ("init", "doctor", "pipeline", "stack", "demo"),
}
"""Section of `mcti --help` -> its commands and groups of commands, in the order of a project."""


class _Sections(TyperGroup):
    """The top level of the command tree: its help lists the commands by section, each with its whole first sentence."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  (the signature of TyperGroup)
        for section, names in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, summary(self.commands[name])) for name in names])


def summary(command: Any) -> str:
    """The first paragraph of the help of a command or group."""
    return " ".join((command.help or "").partition("\n\n")[0].split())


app = typer.Typer(
    name="mcti",
    cls=_Sections,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"mcti {mcti.__version__}")  # noqa: T201
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Train, register and serve survival models from slides, gene expression and follow-up.

    `mcti COMMAND --help` describes a command with an example; docs/cli.md lists all options and exit codes.
    """


for group in (steps, models, ledger, slides, stack, pipeline, data, project):
    group.add_to(app)
