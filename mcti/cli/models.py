"""Commands on models: the registry, its gate and ledger, predictions, reference checkpoints."""

from pathlib import Path
from typing import Annotated

import typer

from mcti.cli.command_context import CommandContext, command, print_status
from mcti.cli.options import Cohort, DryRun, Features, Model, Name, OutFile, OutFolder
from mcti.errors import UsageError

NewPatients = Annotated[
    str | None,
    typer.Option(
        metavar="DIR", help="Folder of new patients: expression.csv, clinical.csv, slides.csv or slides/; not --cohort."
    ),
]
PatientId = Annotated[
    list[str] | None,
    typer.Option(metavar="ID", help="Use only this patient; repeatable. Default: all patients."),
]

group = typer.Typer()
model_group = typer.Typer(help="Look into a model, or convert one of the published reference.")
ledger_group = typer.Typer(help="The hash-chained record of promotions.")


def add_to(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    app.add_typer(group)
    app.add_typer(model_group, name="model")
    app.add_typer(ledger_group, name="ledger")


@command(group, "promote")
def promote(
    context: CommandContext,
    name: Name = None,
    version: Annotated[int | None, typer.Option(metavar="N", help="Version; default: the challenger.")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Judge nothing: set the aliases to what the ledger says.")
    ] = False,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why margins looser than params.yaml; the ledger keeps it.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Move nothing: say what would be done.")] = False,
) -> object:
    """Judge the challenger against the champion and move the alias, or not: exit 0, 10 (rejected), 11 (cannot tell).

    Example: mcti promote --name lung-os --dry-run
    """
    from mcti.steps.promote import step as steps

    chosen = name or context.settings.register_.name
    if repair and version is not None:
        raise UsageError("--repair judges no version", "--version", "leave one of the two out")
    if repair:
        return steps.repair(chosen, dry_run=dry_run)
    given, agreed = context.settings.promote, context.project_settings().promote
    return steps.promote(chosen, given, version=version, dry_run=dry_run, agreed=agreed, reason=reason)


@command(group, "approve")
def approve(
    context: CommandContext,
    name: Name = None,
    version: Annotated[int | None, typer.Option(metavar="N", help="Version; default: the challenger.")] = None,
) -> object:
    """Approve a version that somebody else registered: promote.approvals asks for so many (two-person rule).

    Example: mcti approve --name lung-os --version 7
    """
    from mcti.steps.promote.step import approve as step

    return step(name or context.settings.register_.name, version)


@command(group, "lineage")
def lineage(
    context: CommandContext,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="models:/NAME@ALIAS, or kfp-run:ID, data:MD5, …")],
    remote: Annotated[
        str | None, typer.Option(metavar="URL", help="DVC's remote: verify the sources, too; cluster.remote.")
    ] = None,
) -> object:
    """Print where a version comes from and verify every hash; or list the versions that came from a run or data.

    Example: mcti lineage models:/lung-os@champion --remote s3://mcti-data/dvc
    """
    from mcti.steps import lineage as step

    if not address.startswith("models:/"):
        return step.descendants(address)
    return step.lineage(address, remote or context.settings.cluster.remote)


@command(group, "dossier")
def dossier(
    context: CommandContext,  # noqa: ARG001
    uri: Annotated[str, typer.Argument(metavar="URI", help="models:/NAME@ALIAS or models:/NAME/VERSION.")],
    out: OutFile,
    explanations: Annotated[str | None, typer.Option(metavar="DIR", help="What `mcti explain` wrote.")] = None,
) -> object:
    """Write the release dossier of a version: one HTML page that prints, and the same as JSON with the SBOM.

    Example: mcti dossier models:/lung-os@champion --out dossier.html
    """
    from mcti.steps.dossier import dossier as step

    return step(uri, Path(out), explanations=explanations)


@command(group, "rollback")
def rollback(context: CommandContext, name: Name = None) -> object:
    """Give the alias `champion` back to the version before, and write it down.

    Example: mcti rollback --name lung-os
    """
    from mcti.steps.promote.step import rollback as step

    return step(name or context.settings.register_.name)


@command(group, "predict")
def predict(
    context: CommandContext,
    model: Model,
    out: OutFile,
    cohort: Annotated[str | None, typer.Option(metavar="DIR", help="What `mcti ingest` wrote.")] = None,
    features: Features = None,
    new_patients: NewPatients = None,
    patient_id: PatientId = None,
    pages: Annotated[str | None, typer.Option(metavar="DIR", help="Also a page a patient.")] = None,
    explanation: Annotated[
        str | None, typer.Option(metavar="DIR", help="What `mcti explain` wrote, for the pages.")
    ] = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="The pages as PDF, too.")] = False,
    dry_run: DryRun = False,
) -> object:
    """Predict risk and S(t) of patients with a registered model or a folder of trained ones.

    Example: mcti predict --model models:/lung-os@champion --new-patients new/ --out new.csv --pages pages/
    """
    section = context.settings.predict
    if (pdf or explanation) and not pages:
        raise UsageError("no --pages", "--pdf" if pdf else "--explanation", "write --pages DIR, where they are to go")
    if dry_run:
        reads = {"cohort": cohort, "features": features, "new-patients": new_patients, "explanation": explanation}
        return context.plan(reads, section, out)
    from mcti.steps.predict.step import PatientPages
    from mcti.steps.predict.step import predict as step

    return step(
        model,
        cohort,
        features,
        section,
        Path(out),
        new_patients=new_patients,
        patient_ids=patient_id or (),
        extraction=context.settings.extract,
        pages=PatientPages(Path(pages), explanation, pdf) if pages else None,
        progress=context.progress,
    )


@command(group, "serve")
def serve(
    context: CommandContext,
    model: Model,
    port: Annotated[int | None, typer.Option(metavar="N", help="Port; 0: a free one.")] = None,
) -> object:
    """Serve a model over HTTP until Ctrl-C: MLflow's endpoints and KServe's V2 protocol, sizes and times limited.

    Example: mcti serve --model models:/lung-os@champion --port 8080
    """
    from mcti.steps.serve import serve as step

    step(model, context.merged(context.settings.serve, port=port), announce=print_status)
    return None


@command(group, "explain")
def explain(
    context: CommandContext,
    model: Model,
    out: OutFolder,
    cohort: Annotated[str | None, typer.Option(metavar="DIR", help="What `mcti ingest` wrote.")] = None,
    features: Features = None,
    new_patients: NewPatients = None,
    patient_id: PatientId = None,
    gene_sets: Annotated[str | None, typer.Option(metavar="FILE", help="Gene sets (GMT) to look for.")] = None,
    dry_run: DryRun = False,
) -> object:
    """Explain the risk of patients: by modality, token, gene and tile, with gene groups and transport plans.

    Example: mcti explain --model models/folds --cohort data/cohort --patient-id P-1 --out explanations
    """
    section = context.settings.explain
    if dry_run:
        reads = {"cohort": cohort, "features": features, "new-patients": new_patients, "gene-sets": gene_sets}
        return context.plan(reads, section, out)
    from mcti.steps.explain.step import explain as step

    return step(
        model,
        cohort,
        features,
        section,
        Path(out),
        new_patients=new_patients,
        patient_ids=patient_id or (),
        extraction=context.settings.extract,
        gene_sets=gene_sets,
        progress=context.progress,
    )


@command(group, "monitor")
def monitor(
    context: CommandContext,
    model: Model,
    cohort: Cohort,
    out: OutFolder,
    features: Features = None,
    evaluation: Annotated[
        str | None, typer.Option(metavar="DIR", help="What `mcti evaluate` wrote; default: of the registered version.")
    ] = None,
    dry_run: DryRun = False,
) -> object:
    """Hold new patients against the model in use: drift, decay, age; say whether to train again, and which rule fired.

    Example: mcti monitor --model models:/lung-os@champion --cohort data/cohort --features data/features --out watch
    """
    section = context.settings.monitor
    if dry_run:
        return context.plan({"cohort": cohort, "features": features, "evaluation": evaluation}, section, out)
    from mcti.steps.monitor import monitor as step

    return step(model, cohort, features, section, Path(out), evaluation=evaluation, progress=context.progress)


@command(model_group, "info")
def info(
    context: CommandContext,
    model: Annotated[str, typer.Argument(metavar="PRESET|DIR|URI", help="A preset, a model's folder, or models:/…")],
    features: Annotated[int, typer.Option(metavar="N", min=1, help="Width of a patch feature, for a preset.")] = 1024,
    genes: Annotated[int, typer.Option(metavar="N", min=1, help="Number of genes, for a preset.")] = 1558,
    patches: Annotated[int, typer.Option(metavar="N", min=1, help="Patches of the patient.")] = 4000,
) -> object:
    """Print parameters by part, floating point operations a patient, and memory.

    Example: mcti model info compact
    """
    from mcti.steps.info import info as step

    return step(model, context.settings.train, features=features, genes=genes, patches=patches)


@command(model_group, "convert-reference")
def convert_reference(
    context: CommandContext,  # noqa: ARG001
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="State dict (.pt) of the published reference.")
    ],
    out: OutFolder,
    genes: Annotated[str | None, typer.Option(metavar="FILE", help="Gene names, one a line, in its order.")] = None,
    measure: Annotated[
        str, typer.Option(metavar="entropy|kl", help="Of the patch-gene coupling: POT until 0.9.4, or since.")
    ] = "entropy",
    guides: Annotated[
        str, typer.Option(metavar="fusion_x|fusion", help="Mixes that guide the decoder's streams: docs/model.md.")
    ] = "fusion_x",
) -> object:
    """Turn a checkpoint of the published reference into a model of preset `paper`.

    Example: mcti model convert-reference reference.pt --out models/reference
    """
    from mcti.steps.convert import convert_reference as step

    return step(checkpoint, Path(out), genes, measure=measure, guides=guides)


@command(ledger_group, "verify")
def verify(context: CommandContext, name: Name = None) -> object:
    """Find any line of the ledger that was edited, lost or reordered, and any alias moved by hand.

    Example: mcti ledger verify --name lung-os
    """
    from mcti.steps.promote.step import verify_ledger as step

    return step(name or context.settings.register_.name)


@command(ledger_group, "show")
def show(context: CommandContext, name: Name = None) -> object:
    """Print who moved which alias when, and on what evidence.

    Example: mcti ledger show --name lung-os --json
    """
    from mcti.steps.promote.step import show_ledger as step

    return step(name or context.settings.register_.name)
