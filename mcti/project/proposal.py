"""The proposal of `mcti init`: settings for the user's tables, checked by reading the tables as `ingest` does."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from mcti import params, storage
from mcti.cohort import left_truncation, sources
from mcti.cohort.assembly import RawCohort, assemble
from mcti.cohort.tables import Cohort
from mcti.contracts.orientation import orientation
from mcti.errors import DataError, UsageError
from mcti.params import IngestParams, Settings
from mcti.project import clinical, expression, foreign_tables, slide_sets
from mcti.project.clinical import Answers
from mcti.project.files import Writer

RAW = "data/raw"
_Part = clinical.ClinicalProposal | expression.ExpressionProposal | slide_sets.SlidesProposal
_FOLDS, _MIN_EVENTS_PER_FOLD = 5, 5


@dataclass(frozen=True)
class Sources:
    """Where the user's tables are; None: there is none.

    features    folder or file of ready-made features;  features_stated: settings of `extract.import` that are known
    """

    clinical: str
    expression: str | None = None
    slides: str | None = None
    features: str | None = None
    features_stated: dict[str, Any] = field(default_factory=dict)
    expression_scale: str | None = None
    encoder: str = "hed44"


@dataclass(frozen=True)
class Proposal:
    """Settings of a project, the tables to be written, and what was understood.

    settings    {section: {key: value}} of params.yaml, where they differ from the defaults
    reasons     "section.key" -> why the value is proposed, for the comments of params.yaml
    files       {path below the project: writer} of converted tables
    lines       for the terminal;  questions: what is uncertain, each with its flag
    endpoints   all end points of the project, the selected one first
    unread_sex  {column: values} of sex where the values do not state which is female
    """

    settings: dict[str, dict[str, Any]]
    reasons: dict[str, str]
    files: dict[str, Writer]
    lines: tuple[str, ...]
    questions: tuple[str, ...]
    endpoints: tuple[str, ...]
    unread_sex: dict[str, tuple[str, ...]]


def propose(name: str, inputs: Sources, answers: Answers, folder: Path) -> Proposal:
    """The proposal for the tables of a cohort; nothing is written.

    name    of the cohort and the registered model;  folder: of the project

    Raises
        DataError when a table cannot be read, or `ingest` would refuse the cohort, with file, row and column.
        UsageError when a stated value is invalid.
    """
    layout = _layout(inputs)
    draft = _of_layout(layout, name, inputs, answers) if layout else _canonical(name, inputs, answers, folder)
    settings = params.check(Settings, draft.settings, "the proposal")
    selected = tuple(answers.endpoints) or (settings.ingest.endpoint,)
    cohorts = _read(draft, inputs, settings.ingest, selected)
    lines, questions = _summaries(cohorts, settings)
    located = {section: dict(keys) for section, keys in draft.settings.items()}
    located["ingest"] |= _paths(draft, inputs, folder)
    if "extract" in located and "import" in located["extract"]:
        path = located["extract"]["import"]["path"]
        located["extract"]["import"] = located["extract"]["import"] | {"path": _from(folder, path)}
    _fit_to_cohort(located, list(cohorts.values()), draft.reasons)
    return Proposal(
        located,
        draft.reasons,
        draft.files,
        (*draft.lines, *lines),
        (*draft.questions, *questions),
        selected,
        draft.unread_sex,
    )


@dataclass
class _Draft:
    """A proposal before its tables are joined."""

    settings: dict[str, dict[str, Any]]
    reasons: dict[str, str]
    files: dict[str, Writer]
    lines: list[str]
    questions: list[str]
    converted: dict[str, str] = field(default_factory=dict)
    """Table -> its path in `files`."""
    unread_sex: dict[str, tuple[str, ...]] = field(default_factory=dict)


def _canonical(name: str, inputs: Sources, answers: Answers, folder: Path) -> _Draft:
    """The draft of one clinical table, one expression table and one table of slides."""
    read = clinical.propose(foreign_tables.read(inputs.clinical), answers)
    ids = set(read.ids)
    if inputs.expression is None:
        raise UsageError("no expression table", "--expression", "name it: a table of patients by genes")
    genes = expression.propose(inputs.expression, ids, inputs.expression_scale)
    features = slide_sets.propose_features(inputs.features, inputs.features_stated) if inputs.features else None
    slides = _slides(inputs, features, ids)
    ingest: dict[str, Any] = {
        "name": name,
        "time_unit": read.unit.value,
        "endpoint": read.endpoint,
        "expression_scale": genes.scale.value,
        "covariates": list(read.covariates),
    }
    ingest |= {"event_confirmed": True} if answers.event_confirmed else {}
    ingest |= {"columns": read.columns} if read.columns else {}
    ingest |= {"endpoints": _endpoint_columns(read)} if read.outcomes else {}
    ingest |= {"event_values": read.event_values} if read.event_values else {}
    ingest |= {"age_values": dict(read.masked_ages)} if read.masked_ages else {}
    settings = _settings(name, ingest, inputs, features, read.read_by_network)
    reasons = {
        "ingest.time_unit": read.unit.reason,
        "ingest.event_values": read.event_text,
        "ingest.expression_scale": genes.scale.reason,
        "ingest.covariates": "numeric columns that are no outcome",
    }
    draft = _Draft(settings, reasons, {}, [], [*read.questions], unread_sex=read.unread_sex)
    parts: dict[str, tuple[str | None, _Part]] = {
        "clinical": (inputs.clinical, read),
        "expression": (inputs.expression, genes),
        "slides": (inputs.slides, slides),
    }
    for table_name, (source, part) in parts.items():
        if part.table is not None:
            path = _path_of_converted(table_name, source, folder)
            draft.files[path] = _writer(table_name, part.table)
            draft.converted[table_name] = path
            draft.lines.append(f"convert    {path}: {source or inputs.features} ({'; '.join(part.changes)})")
    draft.lines += _understood(read, genes, slides, features, inputs)
    if not genes.scale.is_sure:
        reason = f"{genes.scale.value} ({genes.scale.reason})"
        draft.questions.append(f"the scale of the expression is taken as {reason}: --expression-scale")
    return draft


def _endpoint_columns(read: clinical.ClinicalProposal) -> dict[str, dict[str, str]]:
    return {name: {"time_months": one.time, "event": one.event} for name, one in read.outcomes.items()}


def _path_of_converted(table_name: str, source: str | None, folder: Path) -> str:
    """The path of a converted table below the project; never that of its source, which is kept."""
    ending = "parquet" if table_name == "expression" else "csv"
    path = f"{RAW}/{table_name}.{ending}"
    is_source = source is not None and Path(source).resolve() == (folder / path).resolve()
    return f"{RAW}/{table_name}_converted.{ending}" if is_source else path


def _slides(inputs: Sources, features: slide_sets.FeaturesProposal | None, ids: set[str]) -> slide_sets.SlidesProposal:
    if inputs.slides is not None:
        return slide_sets.propose_table(inputs.slides, ids)
    if features is None or inputs.features is None:
        hint = "name a table or folder of slides, or ready-made features: --features FOLDER"
        raise UsageError("neither slides nor features", "--slides", hint)
    table = slide_sets.of_names(dict.fromkeys(features.names, ""), ids, inputs.features)
    return slide_sets.SlidesProposal(tuple(table["patient_id"]), len(table), table, ("from the names of the features",))


def _understood(
    read: clinical.ClinicalProposal,
    genes: expression.ExpressionProposal,
    slides: slide_sets.SlidesProposal,
    features: slide_sets.FeaturesProposal | None,
    inputs: Sources,
) -> list[str]:
    """What was read, with counts: for the terminal."""
    ids = set(read.ids)
    columns = ", ".join(f"{name} = {column}" for name, column in sorted(read.columns.items())) or "as documented"
    lines = [
        f"clinical   {inputs.clinical}: {len(read.ids)} patients; columns {columns}",
        f"time       {read.unit.value} ({read.unit.reason})",
        f"event      {read.event_text}; end point {', '.join(read.outcomes) or read.endpoint}",
        f"genes      {inputs.expression}: {len(genes.ids)} patients, "
        f"{len(ids & set(genes.ids))} of the clinical table, {genes.genes} genes; "
        f"scale {genes.scale.value} ({genes.scale.reason})",
        f"slides     {slides.slides} slides of {len(set(slides.patients))} patients, "
        f"{len(ids & set(slides.patients))} of the clinical table",
    ]
    if features is not None:
        described = ", ".join(f"{key} {features.settings[key]}" for key in ("format", "encoder", "mpp", "patch_size"))
        lines.append(
            f"features   {inputs.features}: {len(features.names)} entries of width {features.width}; {described}"
        )
    kept = ", ".join(read.covariates) or "none"
    return [*lines, f"covariates {kept}; the network reads {', '.join(read.read_by_network) or 'none'}"]


def _settings(
    name: str,
    ingest: dict[str, Any],
    inputs: Sources,
    features: slide_sets.FeaturesProposal | None,
    covariates: tuple[str, ...],
) -> dict[str, dict[str, Any]]:
    extract: dict[str, Any] = {"encoder": inputs.encoder}
    if features is not None:
        extract = {"source": "import", "import": dict(features.settings)}
    return {
        "ingest": ingest,
        "extract": extract,
        "train": {"preset": "compact", "architecture": {"covariates": list(covariates)}},
        "register": {"name": name, "experiment": name},
    }


def _writer(table_name: str, table: pd.DataFrame) -> Writer:
    if table_name == "expression":
        return lambda path: expression.parquet(table, path)
    return lambda path: storage.write_text(path, table.to_csv(index=False, lineterminator="\n"))


_MARKS = {"tcga-cbioportal": "data_clinical_patient.txt", "xena": "clinicalmatrix"}


def _layout(inputs: Sources) -> str | None:
    """The layout of public source tables; None: tables of the user."""
    path = Path(inputs.clinical)
    if path.is_dir():
        names = [entry.name.casefold() for entry in path.iterdir()]
        layout = next((layout for layout, mark in _MARKS.items() if any(mark in name for name in names)), None)
        if layout is None:
            hint = "name a table, a folder of cBioPortal or Xena, or the clinical JSON of the GDC"
            raise DataError("a folder of no known layout", inputs.clinical, hint)
        return layout
    if path.suffix.casefold() == ".json" and path.is_file():
        return "gdc"
    if path.is_file() and inputs.expression in (None, inputs.clinical):
        header = {str(name).casefold() for name in foreign_tables.read(inputs.clinical).frame.columns}
        if {"case_id", "survival_months", "censorship"} <= header:
            return "mcat"
    return None


def _of_layout(layout: str, name: str, inputs: Sources, answers: Answers) -> _Draft:
    """The draft of public source tables: the layout defines columns, units and events."""
    _check_answers_of_layout(layout, answers)
    genes = inputs.expression or (inputs.clinical if layout == "mcat" else None)
    if genes is None:
        raise UsageError(f"no expression of the layout {layout}", "--expression", "name its matrix or folder")
    features = slide_sets.propose_features(inputs.features, inputs.features_stated) if inputs.features else None
    scale = inputs.expression_scale or {"mcat": "z-score"}.get(layout, "log2")
    ingest: dict[str, Any] = {"name": name, "format": layout, "expression_scale": scale}
    ingest |= {"endpoint": answers.endpoint} if answers.endpoint else {}
    ingest |= {"event_confirmed": True} if answers.event_confirmed else {}
    ingest |= {"columns": dict(answers.columns)} if answers.columns else {}
    ingest |= {"covariates": list(answers.covariates)} if answers.covariates is not None else {}
    ingest |= {"event_values": dict(answers.event_values)} if answers.event_values else {}
    covariates = answers.covariates if answers.covariates is not None else ("age", "is_female")
    settings = _settings(name, ingest, inputs, features, covariates)
    draft = _Draft(settings, {"ingest.format": "the files have this layout"}, {}, [], [])
    if inputs.slides is None:
        raw = sources.read(inputs.clinical, genes, None, IngestParams(**ingest))
        table, reason = _slides_of_layout(raw, inputs, features)
        draft.files[f"{RAW}/slides.csv"] = _writer("slides", table)
        draft.converted["slides"] = f"{RAW}/slides.csv"
        draft.lines.append(f"convert    {RAW}/slides.csv: {len(table)} slides {reason}")
    draft.lines.append(f"layout     {layout}: {inputs.clinical} and {genes}")
    return draft


def _check_answers_of_layout(layout: str, answers: Answers) -> None:
    if any(answers.endpoints.values()):
        hint = "write the name only, such as --endpoint DFI"
        raise UsageError(f"the layout {layout} finds the columns by the end point", "--endpoint", hint)
    if answers.sex_values:
        raise UsageError(f"the layout {layout} defines the values of sex", "--sex-value", "remove the flag")


def _slides_of_layout(
    raw: RawCohort, inputs: Sources, features: slide_sets.FeaturesProposal | None
) -> tuple[pd.DataFrame, str]:
    """The table of slides where the user has none: those of the layout, else those of the features."""
    if raw.slides is not None:
        return raw.slides.frame, "of the clinical table"
    if features is None or inputs.features is None:
        hint = "name a table of slides, or ready-made features: --features FOLDER"
        raise UsageError("neither slides nor features", "--slides", hint)
    ids = set(raw.clinical.frame["patient_id"])
    table = slide_sets.of_names(dict.fromkeys(features.names, ""), ids, inputs.features)
    return table, "from the names of the features"


def _sources(inputs: Sources) -> dict[str, str | None]:
    return {"clinical": inputs.clinical, "expression": inputs.expression or inputs.clinical,
            "slides": inputs.slides}  # fmt: skip


def _read(draft: _Draft, inputs: Sources, ingest: IngestParams, endpoints: tuple[str, ...]) -> dict[str, Cohort]:
    """The cohort of each end point as `ingest` would read it; converted tables are written to a temporary folder."""
    cohorts = {}
    with TemporaryDirectory(prefix="mcti-init-") as scratch:
        locations = _sources(inputs)
        for table_name, path in draft.converted.items():
            target = Path(scratch, Path(path).name)
            draft.files[path](target)
            locations[table_name] = str(target)
        for name in endpoints:
            selected = ingest.model_copy(update={"endpoint": name})
            raw = sources.read(str(locations["clinical"]), str(locations["expression"]), locations["slides"], selected)
            cohorts[name] = assemble(raw, selected)
    return cohorts


def _summaries(cohorts: Mapping[str, Cohort], settings: Settings) -> tuple[list[str], list[str]]:
    """The lines and questions of each end point, with its name where there are several."""
    all_lines: list[str] = []
    all_questions: list[str] = []
    for name, cohort in cohorts.items():
        lines, questions = _summary(cohort, settings)
        if len(cohorts) > 1:
            lines = [f"{line[:11]}{name}: {line[11:]}" for line in lines]
            questions = [f"{name}: {question}" for question in questions]
        all_lines += lines
        all_questions += questions
    return all_lines, all_questions


def _summary(cohort: Cohort, settings: Settings) -> tuple[list[str], list[str]]:
    """The size of the cohort, the excluded patients, and the question of the event flag that `validate` would raise."""
    counts = cohort.info.counts
    names = [name for name in ("patients", "events", "competing_events", "genes", "slides") if name in counts]
    parts = ", ".join(f"{counts[name]} {name.replace('_', ' ')}" for name in names)
    lines = [f"cohort     {parts}; subtypes {json.dumps(_subtypes(cohort), ensure_ascii=False)}"]
    reasons = Counter(patient.reason for patient in cohort.info.attrition)
    lines += [f"excluded   {count}: {reason}" for reason, count in sorted(reasons.items())]
    patients = cohort.patients
    if settings.ingest.event_confirmed:
        return lines, []
    event, months = patients["event"].to_numpy() == 1, patients["time_months"].to_numpy(float)
    question = orientation(months, event, cohort.info.endpoint, patients["cohort"].tolist(),
                           left_truncation.entries(patients)).question()  # fmt: skip
    return lines, [f"{question}: --event-confirmed, or --event-value"] if question else []


def _subtypes(cohort: Cohort) -> dict[str, int]:
    return {str(name): int(count) for name, count in cohort.patients["subtype"].value_counts().items()}


def _paths(draft: _Draft, inputs: Sources, folder: Path) -> dict[str, str]:
    """The paths of the tables as the project writes them: relative where they are below it, else absolute."""
    return {
        table_name: draft.converted.get(table_name) or _from(folder, path)
        for table_name, path in _sources(inputs).items()
    }


def _from(folder: Path, path: str | None) -> str:
    if path is None or storage.is_s3(path) or "://" in path:
        return str(path)
    absolute, root = Path(path).resolve(), folder.resolve()
    return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else str(absolute)


def _fit_to_cohort(settings: dict[str, dict[str, Any]], cohorts: list[Cohort], reasons: dict[str, str]) -> None:
    """Settings that depend on the size of the cohorts: those of the end points of one project."""
    events = min(cohort.info.counts["events"] for cohort in cohorts)
    folds = max(2, min(_FOLDS, events // _MIN_EVENTS_PER_FOLD))
    if folds < _FOLDS:
        settings["split"] = {"folds": folds}
        settings["validate"] = {"folds_planned": folds}
        reasons["split.folds"] = f"{events} events: {_MIN_EVENTS_PER_FOLD} in each fold"
    if any(len(_subtypes(cohort)) == 1 for cohort in cohorts):
        settings["train"]["lambda_subtype"] = 0.0
        reasons["train.lambda_subtype"] = "one subtype: the second task is off"


def as_mapping(pairs: list[str], flag: str) -> Mapping[str, str]:
    """`NAME=VALUE` arguments of a repeatable flag.

    Raises UsageError when one has another form.
    """
    split = [pair.partition("=") for pair in pairs]
    for name, equals, value in split:
        if not (name and equals and value):
            raise UsageError(f"{name + equals + value!r} has not the form NAME=VALUE", flag, "write it as NAME=VALUE")
    return {name: value for name, _, value in split}
