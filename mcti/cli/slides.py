"""Commands on slides and their features, beside the step `extract`."""

from pathlib import Path
from typing import Annotated

import typer

from mcti.cli.caller import Caller, command
from mcti.cli.options import OutFile

group = typer.Typer()


def add_to(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    app.add_typer(group)


@command(group, "inventory")
def inventory(
    caller: Caller,
    slides: Annotated[str, typer.Argument(metavar="MANIFEST|FOLDER", help="CSV or Parquet manifest, or a folder.")],
    out: OutFile,
    workers: Annotated[int, typer.Option(metavar="N", help="Threads; 0: one a core.")] = 0,
) -> object:
    """Check every slide without decoding it: format, resolution, completeness, duplicates.

    Example: mcti inventory slides/ --out inventory.csv
    """
    from mcti.steps.inventory import inventory as step

    return step(slides, Path(out), workers=workers, progress=caller.progress)
