"""Commands on slides and their features, besides the step `extract`."""

from pathlib import Path
from typing import Annotated

import typer

from mcti.cli.command_context import CommandContext, command, print_status
from mcti.cli.options import OutFile, OutFolder

group = typer.Typer()
features_group = typer.Typer(help="Import, export and merge feature sets.")

FormatName = Annotated[
    str, typer.Option("--format", metavar="NAME", help="Format: trident | clam | stamp | pt | anndata.")
]
ImportFormat = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="NAME",
        help="Format: trident | clam | stamp | slide2vec | pt | h5 | npy | parquet | anndata.",
    ),
]
Mpp = Annotated[
    float | None,
    typer.Option("--mpp", metavar="µm/px", help="Resolution of level 0, for files that do not state it."),
]
FeatureFile = Annotated[
    str, typer.Option("--features", metavar="FILE", help="Feature file <slide_id>.h5 of the slide.")
]
SlideFile = Annotated[str, typer.Argument(metavar="SLIDE", help="Path or s3:// address of the slide.")]
ScoreColumn = Annotated[str, typer.Option(metavar="NAME", help="Column with the score.")]
Centre = Annotated[float | None, typer.Option(metavar="X", help="Middle of a diverging colour scale.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command tree."""
    app.add_typer(group)
    app.add_typer(features_group, name="features")


@command(group, "inventory")
def inventory(
    context: CommandContext,
    slides: Annotated[str, typer.Argument(metavar="MANIFEST|FOLDER", help="CSV or Parquet manifest, or a folder.")],
    out: OutFile,
    workers: Annotated[int, typer.Option(metavar="N", help="Threads; 0: one per core.")] = 0,
) -> object:
    """Check every slide without decoding it: format, resolution, completeness, duplicates.

    Example: mcti inventory slides/ --out inventory.csv
    """
    from mcti.steps.inventory import inventory as step

    return step(slides, Path(out), workers=workers, progress=context.progress)


@command(group, "heatmap")
def heatmap(
    context: CommandContext,  # noqa: ARG001
    slide: SlideFile,
    features: FeatureFile,
    scores: Annotated[str, typer.Option(metavar="FILE", help="CSV with x, y (level-0 pixels) and the score.")],
    out: OutFolder,
    column: ScoreColumn = "score",
    centre: Centre = None,
    mpp: Mpp = None,
) -> object:
    """Draw a score of each tile over its slide: PNG, GeoJSON for QuPath, pyramidal OME-TIFF.

    Example: mcti heatmap a.svs --features data/features/a.h5 --scores scores.csv --out heatmaps/a
    """
    from mcti.steps.heatmap import heatmap as step

    return step(slide, features, scores, Path(out), column=column, centre=centre, mpp=mpp)


@command(group, "view")
def view(
    context: CommandContext,  # noqa: ARG001
    slide: SlideFile,
    features: Annotated[
        str | None, typer.Option(metavar="FILE", help="Feature file <slide_id>.h5: adds tiles and tissue mask.")
    ] = None,
    scores: Annotated[str | None, typer.Option(metavar="FILE", help="CSV with x, y and the score.")] = None,
    column: ScoreColumn = "score",
    centre: Centre = None,
    mpp: Mpp = None,
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="Port on 127.0.0.1; 0: a free one.")] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address; open no browser.")] = False,
) -> object:
    """Show a slide in the browser, with tissue, tiles and scores as layers. Stop with Ctrl-C.

    Example: mcti view a.svs --features data/features/a.h5 --scores scores.csv
    """
    import webbrowser

    from mcti.steps.view import view as step

    def announce(url: str) -> None:
        print_status(f"open {url}")
        if not no_browser:
            webbrowser.open(url)

    return step(slide, features, scores, column=column, centre=centre, mpp=mpp, port=port, on_ready=announce)


@command(features_group, "import")
def import_features(
    context: CommandContext,  # noqa: ARG001
    source: Annotated[str, typer.Argument(metavar="SRC", help="File or folder of the other tool.")],
    format_name: ImportFormat,
    out: OutFolder,
    mpp: Mpp = None,
    slides: Annotated[
        str | None, typer.Option("--slides", metavar="FILE", help="Table with patient_id, slide_id and optional mpp.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", metavar="NAME", help="Encoder, where the files do not state it.")
    ] = None,
    patch_size_level0: Annotated[
        int | None,
        typer.Option("--patch-size-level0", metavar="PX", min=1, help="Edge of a tile, where the files lack it."),
    ] = None,
    coordinates: Annotated[
        str | None,
        typer.Option("--coordinates", metavar="DIR", help="CLAM's folder patches, or hs2p's folder tiles."),
    ] = None,
) -> object:
    """Import features of other tools, of patches, slides or patients, so that training needs no slides.

    Example: mcti features import clam-features/ --format clam --slides slides.csv --out data/features
    """
    from mcti.steps.exchange import import_features as step

    return step(
        source,
        format_name,
        Path(out),
        mpp=mpp,
        slides=slides,
        encoder=encoder,
        patch_size_level0=patch_size_level0,
        coordinates=coordinates,
    )


@command(features_group, "list")
def list_features(context: CommandContext, out: OutFile = "data/feature_files.json") -> object:
    """List the ready-made feature files of extract.import with their versions; DVC runs it before `extract`.

    Example: mcti features list --out data/feature_files.json
    """
    from mcti.steps.list_features import list_features as step

    return step(context.settings.extract, Path(out))


@command(features_group, "export")
def export_features(
    context: CommandContext,  # noqa: ARG001
    source: Annotated[str, typer.Argument(metavar="SRC", help="Folder that `mcti extract` wrote.")],
    format_name: FormatName,
    out: OutFolder,
) -> object:
    """Export features as TRIDENT, CLAM, STAMP or plain .pt files.

    Example: mcti features export data/features --format trident --out trident-features
    """
    from mcti.steps.exchange import export_features as step

    return step(source, format_name, Path(out))


@command(features_group, "merge")
def merge_shards(
    context: CommandContext,
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Output of `mcti extract --shard I/N`; local or s3://.")],
) -> object:
    """Join the tables of all shards: then DIR holds what one run would have written.

    Example: mcti features merge data/features
    """
    from mcti.steps.extract import merge_shards as step

    return step(folder, context.settings.extract)
