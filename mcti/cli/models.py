"""Commands on models: registry, promotion gates, predictions, reference checkpoints."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from mcti.cli.command_context import CommandContext, command, print_status
from mcti.cli.options import Anchor, Cohort, DryRun, Features, Model, Name, OutFile, OutFolder
from mcti.errors import UsageError

NewPatients = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="Folder of new patients (expression.csv, clinical.csv, slides.csv or slides/) instead of --cohort.",
    ),
]
PatientId = Annotated[
    list[str] | None,
    typer.Option(metavar="ID", help="Use only this patient; repeatable. Default: all patients."),
]

group = typer.Typer()
model_group = typer.Typer(help="Describe a model, or convert a checkpoint of the published reference.")


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command tree."""
    app.add_typer(group)
    app.add_typer(model_group, name="model")


@command(group, "promote")
def promote(
    context: CommandContext,
    name: Name = None,
    version: Annotated[int | None, typer.Option(metavar="N", help="Version; default: the challenger.")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Set the aliases to the state of the ledger; evaluate no gate.")
    ] = False,
    reason: Annotated[
        str,
        typer.Option(
            "--reason", metavar="TEXT", help="Why settings are looser than params.yaml; the ledger records it."
        ),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Evaluate the gates and move no alias.")] = False,
) -> object:
    """Compare the challenger with the champion and promote it if all gates pass. A rejection ends with exit code 10,
    missing evidence with 11.

    Example: mcti promote --name lung-os --dry-run
    """
    from mcti.steps.promote import step as steps

    model = name or context.settings.register_.name
    if repair:
        _require_no_version(version)
        return steps.repair(model, dry_run=dry_run, trust=context.settings.trust)
    settings, project = context.settings.promote, context.project_settings().promote
    trust = context.settings.trust
    return steps.promote(model, settings, version=version, dry_run=dry_run, agreed=project, reason=reason, trust=trust)


def _require_no_version(version: int | None) -> None:
    if version is not None:
        raise UsageError("--repair does not take a version", "--version", "omit one of the two")


@command(group, "approve")
def approve(
    context: CommandContext,
    name: Name = None,
    version: Annotated[int | None, typer.Option(metavar="N", help="Version; default: the challenger.")] = None,
    meaning: Annotated[
        str,
        typer.Option(metavar="TEXT", help="Sign electronically: what the signature means; MLflow checks a password."),
    ] = "",
    user: Annotated[
        str, typer.Option(metavar="NAME", help="MLflow user who signs; default: MLFLOW_TRACKING_USERNAME.")
    ] = "",
) -> object:
    """Approve a version that another person registered. promote.approvals sets how many approvals a promotion needs.
    With --meaning it is an electronic signature; a password that MLflow does not accept ends with exit code 12.

    Example: mcti approve --name lung-os --version 7 --meaning "reviewed and approved for release"
    """
    from mcti.steps.promote.approval import approve as step

    settings = context.settings
    model, signed_only = name or settings.register_.name, settings.promote.signed_approvals
    return step(model, version, meaning=meaning, user=user, signed_only=signed_only)


@command(group, "lineage")
def lineage(
    context: CommandContext,
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="models:/NAME@ALIAS, or kfp-run:ID, data:DIGEST, …")
    ],
    remote: Annotated[
        str | None, typer.Option(metavar="URL", help="DVC's remote, to verify the sources; default: cluster.remote.")
    ] = None,
) -> object:
    """Print the origin of a model version and verify every hash, or list the versions of a run or of a data version.

    Example: mcti lineage models:/lung-os@champion --remote s3://mcti-data/dvc
    """
    from mcti.steps import lineage as step

    if not address.startswith("models:/"):
        return step.descendants(address)
    return step.lineage(address, remote or context.settings.cluster.remote)


@command(group, "verify")
def verify_version(
    context: CommandContext,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="models:/NAME@ALIAS or models:/NAME/VERSION.")],
    offline: Annotated[
        str | None, typer.Option(metavar="BUNDLE", help="Verify this file of `mcti bundle`; call no service.")
    ] = None,
    anchor: Anchor = None,
) -> object:
    """Verify files, signatures, lineage, gate decision and ledger of a version against the trust file `trust.keys`.
    A broken one ends with exit code 3, an unsigned one or an unknown key with 12.

    Example: mcti verify models:/lung-os@champion --set trust.keys=trust.yaml
    """
    from mcti.steps.verify import verify as step

    return step(address, context.settings.trust, offline=offline, anchor=anchor)


@command(group, "bundle")
def bundle(
    context: CommandContext,  # noqa: ARG001
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="models:/NAME@ALIAS or models:/NAME/VERSION.")],
    out: OutFile,
) -> object:
    """Write a version with its signatures into one file, which a site without a network verifies and predicts with.

    Example: mcti bundle models:/lung-os@champion --out lung-os.tar
    """
    from mcti.steps.verify import bundle as step

    return step(address, Path(out))


@command(group, "dossier")
def dossier(
    context: CommandContext,  # noqa: ARG001
    uri: Annotated[str, typer.Argument(metavar="URI", help="models:/NAME@ALIAS or models:/NAME/VERSION.")],
    out: OutFile,
    explanations: Annotated[str | None, typer.Option(metavar="DIR", help="Output of `mcti explain`.")] = None,
) -> object:
    """Write the release dossier of a version as a printable HTML page, and as JSON with the software bill of materials.

    Example: mcti dossier models:/lung-os@champion --out dossier.html
    """
    from mcti.steps.dossier import dossier as step

    return step(uri, Path(out), explanations=explanations)


@command(group, "rollback")
def rollback(context: CommandContext, name: Name = None) -> object:
    """Return the alias `champion` to the previous version, and record this in the ledger.

    Example: mcti rollback --name lung-os
    """
    from mcti.steps.promote.step import rollback as step

    return step(name or context.settings.register_.name, trust=context.settings.trust)


@command(group, "predict")
def predict(
    context: CommandContext,
    model: Model,
    out: OutFile,
    cohort: Annotated[str | None, typer.Option(metavar="DIR", help="Cohort that `mcti ingest` wrote.")] = None,
    features: Features = None,
    new_patients: NewPatients = None,
    patient_id: PatientId = None,
    pages: Annotated[
        str | None, typer.Option(metavar="DIR", help="Output folder for one HTML report per patient.")
    ] = None,
    explanation: Annotated[
        str | None, typer.Option(metavar="DIR", help="Output of `mcti explain`, shown in the reports of --pages.")
    ] = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="Write the reports of --pages as PDF, too.")] = False,
    dry_run: DryRun = False,
) -> object:
    """Predict the risk and the survival curve S(t) of patients with a registered model or a folder of trained models.

    Example: mcti predict --model models:/lung-os@champion --new-patients new/ --out new.csv --pages pages/
    """
    section = context.settings.predict
    if (pdf or explanation) and not pages:
        _refuse_without_pages("--pdf" if pdf else "--explanation")
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
        age_values=context.settings.ingest.age_values,
        category_values=context.settings.ingest.category_values,
        pages=PatientPages(Path(pages), explanation, pdf) if pages else None,
        trust=context.settings.trust,
        progress=context.progress,
    )


def _refuse_without_pages(option: str) -> NoReturn:
    raise UsageError("no --pages", option, "add --pages DIR, the output folder of the reports")


@command(group, "serve")
def serve(
    context: CommandContext,
    model: Model,
    port: Annotated[int | None, typer.Option(metavar="N", help="Port; 0: a free one.")] = None,
) -> object:
    """Serve a model over HTTP with MLflow's endpoints and KServe's V2 protocol. Stop with Ctrl-C.

    Example: mcti serve --model models:/lung-os@champion --port 8080
    """
    from mcti.steps.serve import serve as step

    step(model, context.merged(context.settings.serve, port=port), context.settings.trust, announce=print_status)
    return None


@command(group, "explain")
def explain(
    context: CommandContext,
    model: Model,
    out: OutFolder,
    cohort: Annotated[str | None, typer.Option(metavar="DIR", help="Cohort that `mcti ingest` wrote.")] = None,
    features: Features = None,
    new_patients: NewPatients = None,
    patient_id: PatientId = None,
    gene_sets: Annotated[str | None, typer.Option(metavar="FILE", help="Gene sets (GMT) to test.")] = None,
    dry_run: DryRun = False,
) -> object:
    """Explain the risk of patients by modality, token, gene and tile, with gene groups and transport plans.

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
        age_values=context.settings.ingest.age_values,
        category_values=context.settings.ingest.category_values,
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
        str | None, typer.Option(metavar="DIR", help="Output of `mcti evaluate`; default: that of the version.")
    ] = None,
    dry_run: DryRun = False,
) -> object:
    """Check the model in use on new patients for drift, loss of performance and age, and report whether to retrain it.

    Example: mcti monitor --model models:/lung-os@champion --cohort data/cohort --out monitoring
    """
    section = context.settings.monitor
    if dry_run:
        return context.plan({"cohort": cohort, "features": features, "evaluation": evaluation}, section, out)
    from mcti.steps.monitor import monitor as step

    return step(model, cohort, features, section, Path(out), evaluation=evaluation, progress=context.progress)


@command(group, "test")
def test(
    context: CommandContext,
    model: Model,
    cohort: Cohort,
    out: OutFolder,
    features: Features = None,
    evaluation: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Evaluation of the development; default: that of the registered version."),
    ] = None,
    recalibrate: Annotated[
        bool,
        typer.Option(
            "--recalibrate",
            help="Also fit intercept and slope of the survival curves on a part of the cohort "
            "(test.recalibration_share). The recalibrated model, a new version of a registered one, is tested on the "
            "other part.",
        ),
    ] = False,
    dry_run: DryRun = False,
) -> object:
    """Validate a model externally: test it, unchanged, on a cohort that it never saw. A cohort with patients of the
    development, or of another endpoint, scale or encoder, ends with exit code 3.

    Example: mcti test --model models:/lung-os@champion --cohort other/cohort --features other/features --out external
    """
    section = context.settings.evaluate
    if dry_run:
        return context.plan({"cohort": cohort, "features": features, "evaluation": evaluation}, section, out)
    from mcti.steps.test.step import test as step

    return step(
        model,
        cohort,
        features,
        section,
        Path(out),
        evaluation=evaluation,
        recalibration_share=context.settings.test.recalibration_share if recalibrate else None,
        progress=context.progress,
    )


@command(model_group, "info")
def info(
    context: CommandContext,
    model: Annotated[str, typer.Argument(metavar="PRESET|DIR|URI", help="Preset, model folder, or models:/…")],
    features: Annotated[int, typer.Option(metavar="N", min=1, help="Width of a patch feature, for a preset.")] = 1024,
    genes: Annotated[int, typer.Option(metavar="N", min=1, help="Number of genes, for a preset.")] = 1558,
    patches: Annotated[int, typer.Option(metavar="N", min=1, help="Number of patches of the patient.")] = 4000,
) -> object:
    """Print the number of parameters by part, the floating point operations per patient, and the memory of a model.

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
    genes: Annotated[
        str | None, typer.Option(metavar="FILE", help="Gene names, one per line, in the model's order.")
    ] = None,
    measure: Annotated[
        str, typer.Option(metavar="entropy|kl", help="Measure of the coupling: entropy (POT until 0.9.4) or kl.")
    ] = "entropy",
    guides: Annotated[
        str, typer.Option(metavar="fusion_x|fusion", help="Inputs of the decoder streams (docs/model.md).")
    ] = "fusion_x",
) -> object:
    """Convert a checkpoint of the published reference to a model of preset `paper`.

    Example: mcti model convert-reference reference.pt --out models/reference
    """
    from mcti.steps.convert import convert_reference as step

    return step(checkpoint, Path(out), genes, measure=measure, guides=guides)
