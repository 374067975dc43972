"""All commands in one tree."""

import typer

from mcti.cli import data, models, pipeline, slides, stack, steps

app = typer.Typer(
    name="mcti",
    help="Slides, genes and follow-up in; a validated, registered, promoted survival model out.",
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
for group in (steps, models, slides, stack, pipeline, data):
    group.add_to(app)
