"""Commands on data versions in DVC's remote, for machines without DVC, and for declaring the latest version."""

from pathlib import Path
from typing import Annotated

import typer

from mcti.cli.command_context import CommandContext, command
from mcti.cli.options import OutFolder
from mcti.errors import DataError, UsageError

group = typer.Typer(help="Data versions in DVC's remote: declare the latest, verify, publish and fetch without DVC.")

Remote = Annotated[
    str | None,
    typer.Option("--remote", metavar="URL", help="s3://bucket/prefix of DVC's remote; default: cluster.remote."),
]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command tree."""
    app.add_typer(group, name="data")


@command(group, "set-latest")
def set_latest(
    context: CommandContext,
    md5: Annotated[
        str | None, typer.Argument(metavar="MD5", help="MD5 of the version; default: the MD5 in the .dvc file.")
    ] = None,
    remote: Remote = None,
) -> object:
    """Declare the latest version of the source tables, which the next retraining uses. Run `dvc push` first.

    Example: mcti data set-latest --remote s3://mcti-data/dvc
    """
    from mcti import versions

    name, address = context.settings.ingest.name, _remote(context, remote)
    version = versions.set_latest_version(address, name, md5 or _source_md5(context))
    return {"cohort": name, **version.model_dump()}


@command(group, "verify")
def verify(
    context: CommandContext,  # noqa: ARG001
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="Address of a version: dvc+s3://bucket/prefix/MD5[.dir].")
    ],
) -> object:
    """Read every file of a version and compare its MD5 with the one in the address or the manifest.

    Example: mcti data verify dvc+s3://mcti-data/dvc/0f343b0931126a20f133d67c2b018a3b.dir
    """
    from mcti import versions

    _require_intact(address, versions.verify(address))
    return {"address": address, "faults": 0}


def _require_intact(address: str, faults: list[str]) -> None:
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise DataError(faults[0] + more, address, "push the version again from a machine that has it (`dvc push`)")


@command(group, "publish")
def publish(
    context: CommandContext,
    path: Annotated[str, typer.Argument(metavar="PATH", help="File or folder.")],
    remote: Remote = None,
) -> object:
    """Upload a file or folder to the remote as `dvc push` does, and print its MD5 and address.

    Example: mcti data publish data/features --remote s3://mcti-data/dvc
    """
    from mcti import versions

    return versions.publish(path, _remote(context, remote)).model_dump(exclude={"pointer"})


@command(group, "pull-files")
def pull_files(
    context: CommandContext,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Id of a pipeline run.")],
    out: OutFolder,
    remote: Remote = None,
) -> object:
    """Write the .dvc files of the results of a pipeline run; `dvc pull` then downloads the results.

    Example: mcti data pull-files 3f0c9d… --out from-cluster && dvc pull from-cluster/*.dvc
    """
    from mcti import storage, versions

    pointers = versions.run_pointers(_remote(context, remote), run)
    for name, text in pointers.items():
        storage.write_text(Path(out, name), text)
    return {"out": out, "files": sorted(pointers)}


def _remote(context: CommandContext, option: str | None) -> str:
    remote = option or context.settings.cluster.remote
    if remote is None:
        raise UsageError("no remote is set", "--remote", "use this option, or set cluster.remote in params.yaml")
    return remote


def _source_md5(context: CommandContext) -> str:
    from mcti import versions

    clinical = context.settings.ingest.clinical
    md5 = versions.source_md5(clinical)
    if not md5:
        hint = "run `dvc add` on that folder, or pass the MD5"
        raise UsageError("no .dvc file for the folder of the source tables", clinical, hint)
    return md5
