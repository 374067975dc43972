"""The options of `mcti init`."""

from typing import Annotated

import typer

Folder = Annotated[str | None, typer.Argument(metavar="DIR", help="Folder of the project; it may exist.")]
Clinical = Annotated[
    str | None, typer.Option(metavar="TABLE", help="Clinical table, folder of cBioPortal or Xena, or JSON of the GDC.")
]
Expression = Annotated[
    str | None, typer.Option(metavar="TABLE", help="Expression table, or the GDC's folder of STAR counts.")
]
Slides = Annotated[str | None, typer.Option(metavar="TABLE|FOLDER", help="Table of slides, or a folder of slides.")]
Features = Annotated[str | None, typer.Option(metavar="PATH", help="Ready-made features; then no slide is read.")]
FeaturesFormat = Annotated[
    str | None, typer.Option(metavar="NAME", help="Their format (docs/slides.md); default: by the files.")
]
Encoder = Annotated[
    str | None, typer.Option(metavar="NAME", help="Encoder of the slides (default: hed44), or of the features.")
]
Resolution = Annotated[float | None, typer.Option(metavar="µm/px", help="Resolution of the features.")]
PatchSize = Annotated[int | None, typer.Option(metavar="N", help="Patch size of the features in pixels.")]
ExpressionScale = Annotated[
    str | None, typer.Option(metavar="NAME", help="counts | tpm | log2 | z-score; default: by the values.")
]
TimeUnit = Annotated[
    str | None, typer.Option(metavar="NAME", help="days | months | years; default: by name and values.")
]
Endpoints = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME[=TIMES,EVENTS]",
        help="OS | DSS | DFI | PFI | DMFS, with its columns where their names do not state it; repeatable, the "
        "first is selected; default: by the column names.",
    ),
]
Column = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of the clinical table; default: by name.")]
EventValues = Annotated[
    list[str] | None,
    typer.Option(
        metavar="VALUE=0|1|2",
        help="Meaning of a value of the event column: 1 observed, 0 censored, 2 a competing event; repeatable.",
    ),
]
SexValues = Annotated[
    list[str] | None,
    typer.Option(metavar="VALUE=WORD", help="Meaning of a value of sex: female | male | missing; repeatable."),
]
EventConfirmed = Annotated[
    bool, typer.Option("--event-confirmed", help="The provider confirmed that event 1 means observed.")
]
Covariates = Annotated[
    list[str] | None, typer.Option(metavar="COLUMN", help="Covariate that the network reads; repeatable.")
]
Name = Annotated[
    str | None, typer.Option(metavar="NAME", help="Cohort and registered model; default: name of the folder.")
]
Example = Annotated[
    str | None, typer.Option(metavar="NAME", help="Filled settings: tcga | clam | stamp; without DIR: print them.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Take every proposal, without questions.")]
