"""The options that several commands share: one flag, one meaning."""

from typing import Annotated

import typer

Cohort = Annotated[str, typer.Option("--cohort", metavar="DIR", help="What `mcti ingest` wrote; local or s3://.")]
Features = Annotated[
    str | None, typer.Option("--features", metavar="DIR", help="What `mcti extract` wrote; local or s3://.")
]
Folds = Annotated[str, typer.Option("--folds", metavar="FILE", help="What `mcti split` wrote.")]
Models = Annotated[str, typer.Option("--models", metavar="DIR", help="What `mcti train` wrote.")]
Slides = Annotated[
    str, typer.Option("--slides", metavar="MANIFEST|FOLDER", help="CSV or Parquet manifest, or a folder.")
]
OutFolder = Annotated[str, typer.Option("--out", metavar="DIR", help="Folder to write.")]
OutFile = Annotated[str, typer.Option("--out", metavar="FILE", help="File to write.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show inputs, settings and output; write nothing.")]
Name = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Registered model; default register.name.")]
Model = Annotated[str, typer.Option("--model", metavar="URI|DIR", help="models:/NAME@champion, or a folder.")]
