"""The settings and the steps of the training pipeline, as commands."""

from pathlib import Path
from typing import Annotated

import typer

from mcti.cli.command_context import CommandContext, command
from mcti.cli.options import Cohort, DryRun, Features, Folds, Models, Name, OutFile, OutFolder, Slides
from mcti.errors import UsageError

group = typer.Typer()


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command tree."""
    app.add_typer(group)


@command(group, "settings")
def settings(context: CommandContext, out: OutFolder) -> object:
    """Check the settings and write those that each stage of dvc.yaml depends on, with the defaults filled in.

    Example: mcti settings --out data/settings
    """
    from mcti.steps.settings import settings as step

    return step(context.settings, Path(out))


@command(group, "ingest")
def ingest(
    context: CommandContext,
    out: OutFolder,
    clinical: Annotated[str | None, typer.Option(metavar="FILE", help="Clinical table.")] = None,
    expression: Annotated[str | None, typer.Option(metavar="FILE", help="Expression table.")] = None,
    slides: Annotated[str | None, typer.Option(metavar="FILE", help="Slide manifest.")] = None,
    format: Annotated[
        str | None, typer.Option(metavar="NAME", help="Layout of the source tables; default: ingest.format.")
    ] = None,
    dry_run: DryRun = False,
) -> object:
    """Read the source tables and write the canonical cohort.

    Example: mcti ingest --clinical clinical.csv --expression expression.parquet --slides slides.csv --out data/cohort
    """
    section = context.merged(
        context.settings.ingest, clinical=clinical, expression=expression, slides=slides, format=format
    )
    if dry_run:
        reads = {"clinical": section.clinical, "expression": section.expression, "slides": section.slides}
        return context.plan(reads, section, out)
    from mcti.steps.ingest import ingest as step

    return step(section.clinical, section.expression, section.slides, section, Path(out))


@command(group, "validate")
def validate(context: CommandContext, cohort: Cohort, out: OutFolder, dry_run: DryRun = False) -> object:
    """Check the cohort against its data contract. A failed critical expectation ends with exit code 3.

    Example: mcti validate --cohort data/cohort --out reports/validation
    """
    section = context.settings.validation
    if dry_run:
        return context.plan({"cohort": cohort}, section, out)
    from mcti.steps.validate import validate as step

    return step(cohort, section, Path(out), progress=context.progress)


@command(group, "extract")
def extract(
    context: CommandContext,
    slides: Slides,
    out: OutFolder,
    encoder: Annotated[
        str | None, typer.Option(metavar="NAME", help="Encoder: hed44 | lite0 | timm:NAME[@FILE] | onnx:FILE.")
    ] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Decoding threads; 0: one per core.")] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Process only the slides of shard I of N (from 0).")
    ] = None,
    dry_run: DryRun = False,
) -> object:
    """Detect the tissue of every slide, tile it and encode each tile as a feature vector.

    Example: mcti extract --slides data/cohort/slides.parquet --out data/features --encoder hed44
    """
    section = context.merged(context.settings.extract, encoder=encoder, workers=workers)
    if dry_run:
        return context.plan({"slides": slides}, section, out)
    from mcti.steps.extract import extract as step

    return step(slides, section, out, shard=_shard(shard), progress=context.progress)


@command(group, "validate-features")
def validate_features(
    context: CommandContext,
    cohort: Cohort,
    features: Annotated[str, typer.Option(metavar="DIR", help="Features that `mcti extract` wrote.")],
    out: OutFolder,
    dry_run: DryRun = False,
) -> object:
    """Check the features against their data contract. A failed critical expectation ends with exit code 3.

    Example: mcti validate-features --cohort data/cohort --features data/features --out reports/feature_validation
    """
    section = context.settings.validation
    if dry_run:
        return context.plan({"cohort": cohort, "features": features}, section, out)
    from mcti.steps.validate_features import validate_features as step

    return step(cohort, features, section, Path(out))


@command(group, "split")
def split(
    context: CommandContext, cohort: Cohort, out: OutFile, features: Features = None, dry_run: DryRun = False
) -> object:
    """Assign the patients to folds, and the training patients of each fold to inner folds.

    Example: mcti split --cohort data/cohort --features data/features --out data/folds.csv
    """
    section = context.settings.split
    if dry_run:
        return context.plan({"cohort": cohort, "features": features}, section, out)
    from mcti.steps.split import split as step

    return step(cohort, features, section, Path(out), progress=context.progress)


@command(group, "search")
def search(
    context: CommandContext,
    cohort: Cohort,
    folds: Folds,
    out: OutFolder,
    features: Features = None,
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="Study: SQLite, or postgresql://… for several workers.")
    ] = None,
    init: Annotated[bool, typer.Option("--init", help="Only create the study in PostgreSQL.")] = False,
    dry_run: DryRun = False,
) -> object:
    """Search the training settings over inner folds. The test patients of search.outer_fold are never read.

    Example: mcti search --cohort data/cohort --features data/features --folds data/folds.csv --out models/search
    """
    section = context.merged(context.settings.search, storage=storage)
    if dry_run:
        reads = {"cohort": cohort, "features": features, "folds": folds}
        return context.plan(reads, section, out, sources=True)
    from mcti.steps.search.step import search as step

    return step(
        cohort, features, folds, section, context.settings.train, Path(out), init=init, progress=context.progress
    )


@command(group, "list-sources")
def list_sources(context: CommandContext, out: OutFile = "data/source_files.json") -> object:
    """List the files of train.sources and the version of train.prior; DVC runs it before `search` and `train`.

    Example: mcti list-sources --out data/source_files.json
    """
    from mcti.steps.list_sources import list_sources as step

    return step(context.settings.train, Path(out))


@command(group, "pretrain")
def pretrain(context: CommandContext, out: OutFolder, dry_run: DryRun = False) -> object:
    """Train one model per fold over the cohorts of train.sources, as a prior for other cohorts (docs/transfer.md).

    Example: mcti pretrain --out pan-cancer
    """
    section, folds = context.settings.train, context.settings.split
    if dry_run:
        return context.plan({}, section, out, sources=True)
    from mcti.steps.pretrain import pretrain as step

    return step(section, folds, Path(out), progress=context.progress)


@command(group, "train")
def train(
    context: CommandContext,
    cohort: Cohort,
    folds: Folds,
    out: OutFolder,
    features: Features = None,
    best: Annotated[
        str | None, typer.Option(metavar="FILE", help="Settings that `mcti search` wrote (best.yaml).")
    ] = None,
    fold: Annotated[int | None, typer.Option(metavar="N", help="Train this fold only.")] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write a profiler trace of a few steps of the first fold.")
    ] = None,
    refit: Annotated[bool, typer.Option("--refit", help="Train one model on all patients instead: OUT/refit.")] = False,
    dry_run: DryRun = False,
) -> object:
    """Train one model per fold. An interrupted training resumes from its last checkpoint.

    Example: mcti train --cohort data/cohort --features data/features --folds data/folds.csv --out models/folds
    """
    section = context.settings.train
    if dry_run:
        reads = {"cohort": cohort, "features": features, "folds": folds, "best": best}
        return context.plan(reads, section, out, sources=True)
    from mcti.steps.train import train as step

    return step(
        cohort,
        features,
        folds,
        section,
        Path(out),
        best=best,
        fold=fold,
        refit=refit,
        profile=None if profile is None else Path(profile),
        progress=context.progress,
    )


@command(group, "evaluate")
def evaluate(
    context: CommandContext,
    cohort: Cohort,
    folds: Folds,
    models: Models,
    out: OutFolder,
    features: Features = None,
    comparator: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="Model trained on the same folds, for the comparison; repeatable."),
    ] = None,
    slides: Annotated[
        str | None,
        typer.Option(metavar="MANIFEST|FOLDER", help="Show the most relevant patches of these slides in the report."),
    ] = None,
    dry_run: DryRun = False,
) -> object:
    """Compare the out-of-fold risks with the baselines, with confidence intervals, and write the report.

    Example: mcti evaluate --cohort data/cohort --folds data/folds.csv --models models/folds --out reports/evaluation
    """
    section, comparators = context.settings.evaluate, tuple(comparator or ())
    if dry_run:
        reads = {"cohort": cohort, "features": features, "folds": folds, "models": models, "slides": slides}
        return context.plan(reads | {f"comparator {folder}": folder for folder in comparators}, section, out)
    from mcti.steps.evaluate.step import evaluate as step

    return step(
        cohort,
        features,
        folds,
        models,
        section,
        Path(out),
        comparators=comparators,
        slides=slides,
        progress=context.progress,
    )


Evaluation = Annotated[
    str,
    typer.Argument(
        metavar="DIR|URI",
        help="Output of `mcti evaluate` or `mcti test`, or a registered version (models:/NAME/3), or a run (runs:/ID).",
    ),
]


@command(group, "compare")
def compare(context: CommandContext, a: Evaluation, b: Evaluation, out: OutFolder) -> object:
    """Compare two evaluated models on their common patients: paired difference of every metric, settings and data that
    differ, and overlaid curves, as HTML and JSON.

    Example: mcti compare models:/lung-os@champion reports/evaluation --out reports/comparison
    """
    from mcti.steps.compare import compare as step

    return step(a, b, context.settings.evaluate, Path(out))


@command(group, "register")
def register(
    context: CommandContext,
    models: Models,
    evaluation: Annotated[str, typer.Option(metavar="DIR", help="Evaluation that `mcti evaluate` wrote.")],
    validation: Annotated[
        str | None, typer.Option(metavar="DIR", help="Validation that `mcti validate` wrote.")
    ] = None,
    name: Name = None,
    out: OutFile = "reports/registration.json",
    dry_run: DryRun = False,
) -> object:
    """Register the trained models as one MLflow version with the alias `challenger`.

    Example: mcti register --models models/folds --evaluation reports/evaluation --name lung-os
    """
    section = context.merged(context.settings.register_, name=name)
    if dry_run:
        reads = {"models": models, "evaluation": evaluation, "validation": validation}
        return context.plan(reads, section, out)
    from mcti import versions
    from mcti.registry.lineage import Origin
    from mcti.steps.register import register as step

    # Without the version of its sources, as a pipeline records it, a retraining would train on them again.
    origin = Origin(data=versions.source_md5(context.settings.ingest.clinical))
    return step(models, evaluation, validation, section, Path(out), origin=origin)


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise UsageError(f"invalid shard {text!r}", "--shard", "write I/N with 0 <= I < N, e.g. 0/4")
    return int(index), int(count)
