"""Commands on versions in DVC's remote, for machines without DVC, and for telling a retraining what is new."""

from pathlib import Path
from typing import Annotated

import typer

from mcti.cli.command_context import CommandContext, command
from mcti.cli.options import OutFolder
from mcti.errors import DataError, UsageError

group = typer.Typer(help="Versions in DVC's remote: declare the newest, verify, send and fetch without DVC.")

Remote = Annotated[
    str | None, typer.Option("--remote", metavar="URL", help="s3://bucket/prefix of DVC's remote; cluster.remote.")
]


def add_to(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    app.add_typer(group, name="data")


@command(group, "head")
def head(
    context: CommandContext,
    md5: Annotated[str | None, typer.Argument(metavar="MD5", help="Version; default: that of the .dvc file.")] = None,
    remote: Remote = None,
) -> object:
    """Declare the newest version of the sources, which the next retraining takes; after `dvc push`.

    Example: mcti data head --remote s3://mcti-data/dvc
    """
    from mcti import versions

    name = context.settings.ingest.name
    return {"cohort": name, **versions.set_head(_remote(context, remote), name, md5 or _recorded(context)).model_dump()}


@command(group, "verify")
def verify(
    context: CommandContext,  # noqa: ARG001
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="dvc+s3://bucket/prefix/MD5[.dir]")],
) -> object:
    """Read every file of a version and hold it against its MD5.

    Example: mcti data verify dvc+s3://mcti-data/dvc/0f343b0931126a20f133d67c2b018a3b.dir
    """
    from mcti import versions

    faults = versions.verify(address)
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise DataError(faults[0] + more, address, "push the version again from a machine that has it (`dvc push`)")
    return {"address": address, "faults": 0}


@command(group, "publish")
def publish(
    context: CommandContext,
    path: Annotated[str, typer.Argument(metavar="PATH", help="File or folder.")],
    remote: Remote = None,
) -> object:
    """Send a file or folder to the remote as `dvc push` would; prints its MD5 and address.

    Example: mcti data publish data/features --remote s3://mcti-data/dvc
    """
    from mcti import versions

    made = versions.publish(path, _remote(context, remote))
    return made.model_dump(exclude={"pointer"})


@command(group, "records")
def records(
    context: CommandContext,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Id of a run of a pipeline.")],
    out: OutFolder,
    remote: Remote = None,
) -> object:
    """Write the .dvc files of what a run on a cluster made; `dvc pull` then fetches it.

    Example: mcti data records 3f0c9d… --out from-cluster && dvc pull from-cluster/*.dvc
    """
    from mcti import storage, versions

    found = versions.recorded(_remote(context, remote), run)
    for name, text in found.items():
        storage.write_text(Path(out, name), text)
    return {"out": out, "files": sorted(found)}


def _remote(context: CommandContext, given: str | None) -> str:
    remote = given or context.settings.cluster.remote
    if remote is None:
        raise UsageError("no remote is named", "--remote", "write it, or set cluster.remote in params.yaml")
    return remote


def _recorded(context: CommandContext) -> str:
    from mcti import versions

    md5 = versions.of_source(context.settings.ingest.clinical)
    if not md5:
        where = context.settings.ingest.clinical
        raise UsageError("no .dvc file beside the folder of the sources", where, "run `dvc add`, or write the MD5")
    return md5
