"""The command that makes a project of one's own tables."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mcti.cli import init_options as opts
from mcti.cli.command_context import CommandContext, command, print_status
from mcti.errors import UsageError

if TYPE_CHECKING:
    from mcti.project.clinical import Answers
    from mcti.project.proposal import Sources

group = typer.Typer()


def add_to(app: typer.Typer) -> None:
    """Add this command to the command tree."""
    app.add_typer(group)


@command(group, "init")
def init(
    context: CommandContext,  # noqa: ARG001
    folder: opts.Folder = None,
    clinical: opts.Clinical = None,
    expression: opts.Expression = None,
    slides: opts.Slides = None,
    features: opts.Features = None,
    features_format: opts.FeaturesFormat = None,
    encoder: opts.Encoder = None,
    mpp: opts.Resolution = None,
    patch_size: opts.PatchSize = None,
    expression_scale: opts.ExpressionScale = None,
    time_unit: opts.TimeUnit = None,
    endpoint: opts.Endpoints = None,
    patient: opts.Column = None,
    time: opts.Column = None,
    event: opts.Column = None,
    site: opts.Column = None,
    age: opts.Column = None,
    sex: opts.Column = None,
    subtype: opts.Column = None,
    entry: opts.Column = None,
    event_value: opts.EventValues = None,
    sex_value: opts.SexValues = None,
    event_confirmed: opts.EventConfirmed = False,
    covariate: opts.Covariates = None,
    name: opts.Name = None,
    example: opts.Example = None,
    yes: opts.Yes = False,
) -> object:
    """Make a project of your own tables: git, DVC, settings, stages. Existing files are kept.

    It reads the tables, proposes units, codings and columns, shows what it understood with counts, and converts tables
    that `mcti ingest` cannot read (other delimiters, decimal commas, genes in rows) into data/raw.

    Example: mcti init lung-os --clinical clinical.csv --expression genes.csv --slides slides.csv --yes
    """
    from mcti.project import init as projects

    if example is not None:
        return projects.init_example(Path(folder), example) if folder else projects.example(example)
    target = _folder(folder, yes)
    clinical, expression, slides, features = _tables(clinical, expression, slides, features, yes)
    of_features = {"format": features_format, "encoder": encoder, "mpp": mpp, "patch_size": patch_size}
    inputs = _sources(clinical, expression, slides, features, of_features, expression_scale)
    columns = {"patient_id": patient, "time_months": time, "event": event, "site": site, "age": age}
    columns |= {"is_female": sex, "subtype": subtype, "entry_months": entry}
    answers = _answers(columns, time_unit, endpoint or [], event_value or [], sex_value or [], covariate)
    answers = replace(answers, event_confirmed=event_confirmed)
    return projects.init(target, name or projects.name_of(target), inputs, answers, None if yes else _prompt)


def _folder(folder: str | None, yes: bool) -> Path:
    """The folder of the project; questions need a terminal."""
    if folder is None:
        raise UsageError("no folder", "DIR", "name the folder of the project: mcti init DIR")
    if not yes and not sys.stdin.isatty():
        raise UsageError("no terminal for questions", "--yes", "add --yes to take the proposals")
    return Path(folder)


def _sources(
    clinical: str, expression: str | None, slides: str | None, features: str | None, of_features: dict[str, Any],
    expression_scale: str | None,
) -> "Sources":  # fmt: skip
    """The tables, and what the user stated about the features."""
    from mcti.project.proposal import Sources

    return Sources(
        clinical=clinical,
        expression=expression,
        slides=slides,
        features=features,
        features_stated=_stated(of_features) if features else {},
        expression_scale=expression_scale,
        encoder=of_features["encoder"] or "hed44",
    )


def _answers(
    columns: dict[str, str | None], time_unit: str | None, endpoints: list[str], event_values: list[str],
    sex_values: list[str], covariates: list[str] | None,
) -> "Answers":  # fmt: skip
    """What the user stated by flags about the clinical table."""
    from mcti.project.clinical import Answers
    from mcti.project.proposal import as_mapping

    return Answers(
        columns=_stated(columns),
        time_unit=time_unit,
        endpoints=_endpoints(endpoints, columns["time_months"] or columns["event"]),
        event_values=_events(as_mapping(event_values, "--event-value")),
        sex_values=_sex_values(as_mapping(sex_values, "--sex-value")),
        covariates=tuple(covariates) if covariates else None,
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
