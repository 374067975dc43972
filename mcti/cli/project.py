"""The command that makes a project of one's own tables."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mcti.cli.command_context import CommandContext, command, print_status
from mcti.errors import UsageError

group = typer.Typer()

Column = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of the clinical table; default: by name.")]


def add_to(app: typer.Typer) -> None:
    """Add this command to the command tree."""
    app.add_typer(group)


@command(group, "init")
def init(
    context: CommandContext,  # noqa: ARG001
    folder: Annotated[str | None, typer.Argument(metavar="DIR", help="Folder of the project; it may exist.")] = None,
    clinical: Annotated[
        str | None,
        typer.Option(metavar="TABLE", help="Clinical table, folder of cBioPortal or Xena, or JSON of the GDC."),
    ] = None,
    expression: Annotated[
        str | None, typer.Option(metavar="TABLE", help="Expression table, or the GDC's folder of STAR counts.")
    ] = None,
    slides: Annotated[
        str | None, typer.Option(metavar="TABLE|FOLDER", help="Table of slides, or a folder of slides.")
    ] = None,
    features: Annotated[
        str | None, typer.Option(metavar="PATH", help="Ready-made features; then no slide is read.")
    ] = None,
    features_format: Annotated[
        str | None, typer.Option(metavar="NAME", help="Their format (docs/slides.md); default: by the files.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(metavar="NAME", help="Encoder of the slides (default: hed44), or of the features.")
    ] = None,
    mpp: Annotated[float | None, typer.Option(metavar="µm/px", help="Resolution of the features.")] = None,
    patch_size: Annotated[int | None, typer.Option(metavar="N", help="Patch size of the features in pixels.")] = None,
    expression_scale: Annotated[
        str | None, typer.Option(metavar="NAME", help="counts | tpm | log2 | z-score; default: by the values.")
    ] = None,
    time_unit: Annotated[
        str | None, typer.Option(metavar="NAME", help="days | months | years; default: by name and values.")
    ] = None,
    endpoint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=TIMES,EVENTS]",
            help="OS | DSS | DFI | PFI | DMFS, with its columns where their names do not state it; repeatable, the "
            "first is selected; default: by the column names.",
        ),
    ] = None,
    patient: Column = None,
    time: Column = None,
    event: Column = None,
    site: Column = None,
    age: Column = None,
    sex: Column = None,
    subtype: Column = None,
    entry: Column = None,
    event_value: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VALUE=0|1|2",
            help="Meaning of a value of the event column: 1 observed, 0 censored, 2 a competing event; repeatable.",
        ),
    ] = None,
    sex_value: Annotated[
        list[str] | None,
        typer.Option(metavar="VALUE=WORD", help="Meaning of a value of sex: female | male | missing; repeatable."),
    ] = None,
    event_confirmed: Annotated[
        bool, typer.Option("--event-confirmed", help="The provider confirmed that event 1 means observed.")
    ] = False,
    covariate: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Covariate that the network reads; repeatable.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Cohort and registered model; default: name of the folder.")
    ] = None,
    example: Annotated[
        str | None, typer.Option(metavar="NAME", help="Filled settings: tcga | clam | stamp; without DIR: print them.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Take every proposal, without questions.")] = False,
) -> object:
    """Make a project of your own tables: git, DVC, settings, stages. Existing files are kept.

    It reads the tables, proposes units, codings and columns, shows what it understood with counts, and converts tables
    that `mcti ingest` cannot read (other delimiters, decimal commas, genes in rows) into data/raw.

    Example: mcti init lung-os --clinical clinical.csv --expression genes.csv --slides slides.csv --yes
    """
    from mcti.project import init as projects
    from mcti.project.clinical import Answers
    from mcti.project.proposal import Sources, as_mapping

    if example is not None:
        return projects.init_example(Path(folder), example) if folder else projects.example(example)
    if folder is None:
        raise UsageError("no folder", "DIR", "name the folder of the project: mcti init DIR")
    if not yes and not sys.stdin.isatty():
        raise UsageError("no terminal for questions", "--yes", "add --yes to take the proposals")
    clinical, expression, slides, features = _tables(clinical, expression, slides, features, yes)
    named = {"format": features_format, "encoder": encoder, "mpp": mpp, "patch_size": patch_size}
    columns = {"patient_id": patient, "time_months": time, "event": event, "site": site, "age": age}
    columns |= {"is_female": sex, "subtype": subtype, "entry_months": entry}
    inputs = Sources(
        clinical=clinical,
        expression=expression,
        slides=slides,
        features=features,
        features_stated=_stated(named) if features else {},
        expression_scale=expression_scale,
        encoder=encoder or "hed44",
    )
    answers = Answers(
        columns=_stated(columns),
        time_unit=time_unit,
        endpoints=_endpoints(endpoint or [], time or event),
        event_values=_events(as_mapping(event_value or [], "--event-value")),
        sex_values=_sex_values(as_mapping(sex_value or [], "--sex-value")),
        event_confirmed=event_confirmed,
        covariates=tuple(covariate) if covariate else None,
    )
    return projects.init(
        Path(folder), name or projects.name_of(Path(folder)), inputs, answers, None if yes else _prompt
    )


def _tables(
    clinical: str | None, expression: str | None, slides: str | None, features: str | None, yes: bool
) -> tuple[str, str | None, str | None, str | None]:
    """The paths of the tables: as stated, or answers."""
    if clinical is None and yes:
        raise UsageError("no clinical table", "--clinical", "name it, or leave out --yes to answer questions")
    if clinical is not None:
        return clinical, expression, slides, features
    clinical = _path("clinical table (path)", "clinical.csv")
    expression = expression or _path("expression table (path)", "expression.csv")
    slides = slides or _optional(_path("table or folder of slides (path, or none)", "slides.csv"))
    return clinical, expression, slides, features or _optional(_path("ready-made features (path, or none)", "none"))


def _path(question: str, proposed: str) -> str:
    """A path that exists, requested until it does; also `none`, where the question offers it."""
    from mcti import storage

    while True:
        answer = _prompt(question, proposed).strip()
        if (answer == "none" and "none" in question) or (answer and storage.exists(answer)):
            return answer
        print_status(f"no such file or folder: {answer}")


def _optional(answer: str) -> str | None:
    return None if answer == "none" else answer


def _stated(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _events(values: Any) -> dict[str, int]:
    for value, meaning in values.items():
        if meaning not in ("0", "1", "2"):
            hint = "write 1 (observed), 0 (censored) or 2 (a competing event)"
            raise UsageError(f"{value!r} means {meaning!r}", "--event-value", hint)
    return {value: int(meaning) for value, meaning in values.items()}


def _sex_values(values: Any) -> dict[str, str]:
    from mcti.project.coding import SEX_MEANINGS

    for value, word in values.items():
        if word not in SEX_MEANINGS:
            raise UsageError(f"{value!r} means {word!r}", "--sex-value", "write female, male or missing")
    return {value.casefold(): SEX_MEANINGS[word] for value, word in values.items()}


def _endpoints(stated: list[str], column: str | None) -> dict[str, Any]:
    """End point -> its columns, None where they are found by name, in the order of the flags."""
    from typing import get_args

    from mcti.params.data import Endpoint
    from mcti.project.endpoints import Outcome

    endpoints: dict[str, Any] = {}
    for text in stated:
        name, equals, columns = text.partition("=")
        times, comma, events = columns.partition(",")
        if name not in get_args(Endpoint):
            raise UsageError(f"no end point {name!r}", "--endpoint", f"one of {', '.join(get_args(Endpoint))}")
        if name in endpoints:
            raise UsageError(f"{name} is stated twice", "--endpoint", "state each end point once")
        if equals and not (times and comma and events):
            raise UsageError(f"{text!r} has not the form NAME=TIMES,EVENTS", "--endpoint", "name both columns")
        endpoints[name] = Outcome(times, events) if equals else None
    if column and (len(endpoints) > 1 or any(endpoints.values())):
        hint = "write --endpoint NAME=TIMES,EVENTS in place of --time and --event"
        raise UsageError("--time and --event do not state their end point", "--endpoint", hint)
    return endpoints


def _prompt(question: str, proposed: str) -> str:
    """Show a question on stderr; without a proposed answer the text is only shown."""
    if not proposed:
        print_status(question)
        return ""
    try:
        return str(typer.prompt(question, default=proposed, err=True))
    except typer.Abort:
        print_status("")  # the error begins on a line of its own
        raise
