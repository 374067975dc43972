"""Options that several commands share: one flag has one meaning."""

from typing import Annotated

import typer

Cohort = Annotated[
    str, typer.Option("--cohort", metavar="DIR", help="Cohort that `mcti ingest` wrote; local or s3://.")
]
Features = Annotated[
    str | None, typer.Option("--features", metavar="DIR", help="Features that `mcti extract` wrote; local or s3://.")
]
Folds = Annotated[str, typer.Option("--folds", metavar="FILE", help="Folds that `mcti split` wrote.")]
Models = Annotated[str, typer.Option("--models", metavar="DIR", help="Models that `mcti train` wrote.")]
Slides = Annotated[
    str,
    typer.Option("--slides", metavar="MANIFEST|FOLDER", help="Slide manifest (CSV or Parquet), or a folder."),
]
OutFolder = Annotated[str, typer.Option("--out", metavar="DIR", help="Output folder.")]
OutFile = Annotated[str, typer.Option("--out", metavar="FILE", help="Output file.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print inputs, settings and output; write nothing.")]
Name = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Registered model; default: register.name.")]
Anchor = Annotated[
    str | None,
    typer.Option("--anchor", metavar="NUMBER:HASH", help="Compare with this text that `mcti ledger anchor` printed."),
]
Model = Annotated[
    str, typer.Option("--model", metavar="URI|DIR", help="Registered model (models:/NAME@champion), or a model folder.")
]
