"""Settings of the cohort: its tables, its data contract and its folds."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mcti.params.base import Params, refuse

AGE_YEARS = (0.0, 120.0)
"""Possible ages: the contract and a prediction accept the same range."""
MAX_FOLLOWUP_MONTHS = 1200.0
"""A longer follow-up of one patient is a date or another unit: no person is observed for a hundred years."""
MAX_MISSING_GENES = 0.05
"""Largest share of the genes of a model or baseline that may be absent from a table; they count as not measured."""


Endpoint = Literal["OS", "DSS", "DFI", "PFI", "DMFS"]


class EndpointColumns(Params):
    """The source columns of one end point in the clinical table."""

    time_months: str = Field(min_length=1, description="source column of the follow-up, in `ingest.time_unit`")
    event: str = Field(min_length=1, description="source column of the event")
    competing: str | None = Field(
        None,
        min_length=1,
        description="source column with 1 where a competing event ended the observation; null: none, or a value of the "
        "event column that `ingest.event_values` maps to 2",
    )

    def columns(self) -> dict[str, str]:
        """Canonical column -> source column."""
        names = {"time_months": self.time_months, "event": self.event}
        return names if self.competing is None else names | {"competing": self.competing}


class IngestParams(Params):
    """Source tables of the cohort, and the interpretation of their values."""

    name: str = Field("cohort", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="name of the cohort")
    notice: str = Field("", description="a sentence that every report of this cohort shows")
    clinical: str = Field("data/raw/clinical.csv", description="clinical table: path or s3:// address")
    expression: str = Field("data/raw/expression.csv", description="expression table: path or s3:// address")
    slides: str | None = Field(
        "data/raw/slides.csv", description="slide manifest: path or s3:// address; null: no slides"
    )
    format: Literal["canonical", "mcat", "xena", "tcga-cbioportal", "gdc"] = Field(
        "canonical", description="layout of the tables"
    )
    time_unit: Literal["days", "months", "years"] = Field(
        "months", description="unit of the follow-up times (canonical, mcat); the other layouts define it"
    )
    endpoint: Endpoint = Field("OS", description="the end point of event and time")
    endpoints: dict[Endpoint, EndpointColumns] = Field(
        {},
        description="source columns of each end point of a canonical table that has several, one of which `endpoint` "
        "selects, e.g. {OS: {time_months: OS_months, event: OS}, DFI: {time_months: DFI_months, event: DFI}}; "
        "none of them is a covariate",
    )
    columns: dict[str, str] = Field(
        {}, description="canonical column -> source column where the names differ, e.g. {subtype: histology}"
    )
    covariates: tuple[str, ...] | None = Field(
        None,
        strict=False,
        description="source columns kept as covariates; null: every further column (canonical), none (other layouts)",
    )
    event_values: dict[str, int] = Field(
        {},
        description="values of the event column and their meaning: 1 the event, 0 censored, 2 a competing event; e.g. "
        "{dead: 1, alive: 0}, {yes: 1, no: 0} or {relapse: 1, alive: 0, dead: 2}",
    )
    age_values: dict[str, float] = Field(
        {}, description='masked ages and the years that replace them, e.g. {">89": 90, "<18": 17}'
    )
    ordered_levels: dict[str, tuple[Annotated[str, Field(min_length=1)], ...]] = Field(
        {},
        description="ordered categorical covariates and all their levels, lowest first, e.g. {stage: [I, II, III]}; "
        "any other covariate with a text in it is nominal",
    )
    category_values: dict[str, dict[str, str | None]] = Field(
        {},
        description="cells of categorical covariates and the levels that replace them, null: missing, e.g. "
        '{stage: {"Stage IIA": II, "Stage X": null}}; the covariate is categorical even if its cells are numbers',
    )
    event_confirmed: bool = Field(
        False,
        description="true: the provider of the table confirmed that event 1 means observed; required where "
        "`mcti validate` cannot decide it from event rate and times",
    )
    expression_scale: Literal["counts", "tpm", "log2", "z-score"] = Field(
        "log2", description="scale of the expression values"
    )
    missing_modality: Literal["drop", "keep"] = Field(
        "drop", description="patients without slides or genes: drop excludes them"
    )

    @field_validator("event_values", mode="before")
    @classmethod
    def _labels_as_written(cls, labels: Any) -> Any:
        """YAML parses yes, true and on as one truth value and 2 as a number; the labels of a table are text."""
        if not isinstance(labels, Mapping):
            return labels
        spellings = {True: ("yes", "true", "on"), False: ("no", "false", "off")}
        events: dict[Any, Any] = {}
        for label, event in labels.items():
            names = spellings[label] if isinstance(label, bool) else (str(label),)
            events.update(dict.fromkeys(names, event))
        return events

    @field_validator("ordered_levels", mode="before")
    @classmethod
    def _levels_as_text(cls, levels: Any) -> Any:
        """YAML parses the level 1 as a number; the levels of a table are text."""
        if not isinstance(levels, Mapping):
            return levels
        return {
            name: tuple(map(_text, group)) if isinstance(group, list | tuple) else group
            for name, group in levels.items()
        }

    @field_validator("category_values", mode="before")
    @classmethod
    def _cells_as_text(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {
            name: {_text(cell): _text(level) for cell, level in group.items()} if isinstance(group, Mapping) else group
            for name, group in values.items()
        }

    @field_validator("ordered_levels")
    @classmethod
    def _levels_once(cls, levels: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, group in levels.items():
            if len(set(group)) < len(group) or len(group) < 2:
                raise ValueError(f"{name}: {list(group)!r} is no order: list two levels or more, each once")
        return levels

    @model_validator(mode="after")
    def _endpoint_is_one_of_them(self) -> "IngestParams":
        if not self.endpoints:
            return self
        if self.endpoint not in self.endpoints:
            refuse("endpoint", self.endpoint, f"ingest.endpoints lists {', '.join(self.endpoints)}: add its columns")
        if self.format != "canonical":
            hint = f"remove it: format {self.format} finds the columns by `endpoint`"
            refuse("endpoints", list(self.endpoints), hint)
        for name in ("time_months", "event", "competing"):
            if name in self.columns:
                refuse(("columns", name), self.columns[name], "remove it: ingest.endpoints names this column")
        for column in self.outcome_columns & set(self.covariates or ()):
            refuse("covariates", column, "remove it: an outcome of ingest.endpoints is no covariate")
        return self

    @property
    def outcome_columns(self) -> set[str]:
        """The source columns of all `endpoints`."""
        return {column for one in self.endpoints.values() for column in one.columns().values()}

    @model_validator(mode="after")
    def _levels_are_ordered(self) -> "IngestParams":
        for name, cells in self.category_values.items():
            order = self.ordered_levels.get(name)
            foreign = sorted({level for level in cells.values() if level is not None} - set(order or ()))
            if order is not None and foreign:
                refuse(("category_values", name), foreign[0], f"use one of {', '.join(order)}, or null")
        return self


def _text(value: Any) -> Any:
    """An integer as text; any other value unchanged, since YAML's yes and 1.0 have several spellings."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class ValidateParams(Params):
    """Limits of the data contract (docs/cohort.md lists the expectations that use them)."""

    min_patients: int = Field(30, ge=2, description="patients; fewer stop the run")
    min_events: int = Field(20, ge=1, description="events; fewer stop the run")
    folds_planned: int = Field(5, ge=2, description="outer folds for which the events must suffice")
    min_events_per_fold: int = Field(5, ge=0, description="events per planned fold; fewer are a warning")
    min_events_per_subtype: int = Field(3, ge=0, description="events in a subtype; fewer are a warning")
    min_events_per_site: int = Field(0, ge=0, description="events at a site; fewer are a warning")
    min_patients_per_level: int = Field(
        10, ge=0, description="patients with a level of a categorical covariate; fewer are a warning"
    )
    event_rate: tuple[float, float] = Field(
        (0.02, 0.98),
        description="range of the share of patients with an event; outside it the run stops",
        strict=False,
    )
    median_followup_months: tuple[float, float] = Field(
        (1.0, 250.0), description="range of the reverse Kaplan-Meier median; outside it the run stops", strict=False
    )
    max_tied_share: float = Field(
        0.1, ge=0, le=1, description="share of patients with the same time; a larger one is a warning"
    )
    max_early_censored_share: float = Field(
        0.2, ge=0, le=1, description="share of patients censored within three months; a larger one is a warning"
    )
    max_no_followup_share: float = Field(
        0.1, ge=0, le=1, description="share of patients without follow-up; a larger one is a warning"
    )
    max_missing_share: float = Field(
        0.2, ge=0, le=1, description="share of missing values of a covariate or gene; a larger one is a warning"
    )
    max_site_variance: float = Field(
        0.1, ge=0, le=1, description="mean share of a gene's variance explained by the site; a larger one is a warning"
    )
    max_site_predictability: float = Field(
        0.5,
        ge=0,
        le=1,
        description="how well expression predicts the site, 0 (chance) to 1 (always); a larger value is a warning",
    )
    max_sex_mismatch_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of patients whose XIST/RPS4Y1 contradict is_female; a larger share is a warning",
    )
    max_er_mismatch_share: float = Field(
        0.15,
        ge=0,
        le=1,
        description="share of patients whose ESR1 contradicts the receptor status; a larger one is a warning",
    )
    max_abs_z: float = Field(
        20.0, gt=0, description="absolute expression value where z-scores are declared; a larger one is a warning"
    )
    max_slides_per_patient: int = Field(20, ge=1, description="slides of a patient; more are a warning")
    max_failed_slides_share: float = Field(
        0.1, ge=0, le=1, description="share of slides without features; a larger one stops the run"
    )
    min_tiles_per_patient: int = Field(1, ge=1, description="tiles of a patient; fewer are a warning")
    reference_profile: str | None = Field(
        None, description="profile.json of the reference data version, for the drift report; null: no comparison"
    )
    experiment: str | None = Field(
        "mcti", min_length=1, description="MLflow experiment of the run, where a server is configured; null: no run"
    )

    @field_validator("event_rate", "median_followup_months")
    @classmethod
    def _low_before_high(cls, limits: tuple[float, float]) -> tuple[float, float]:
        if limits[0] > limits[1]:
            raise ValueError(f"{list(limits)!r} is no range: set [low, high] with low first")
        return limits


class SplitParams(Params):
    """Assignment of the patients to folds."""

    seed: int = Field(7, ge=0, description="seed of the shuffles")
    scheme: Literal["stratified", "site", "leave-one-site-out", "time", "files"] = Field(
        "stratified", description="how patients are assigned to folds (docs/cohort.md)"
    )
    folds: int = Field(
        5, ge=2, le=50, description="outer folds; leave-one-site-out has one per site, files one per file"
    )
    repeats: int = Field(1, ge=1, le=50, description="repetitions with other shuffles (stratified, site)")
    inner_folds: int = Field(3, ge=2, le=20, description="inner folds of the search, inside each training part")
    time_column: str | None = Field(None, description="scheme time: a numeric covariate that rises with calendar time")
    files: str | None = Field(None, description="scheme files: folder of MCAT split CSVs")
    missing_modality: Literal["drop", "keep"] = Field(
        "drop", description="patients without features of a slide: drop excludes them"
    )
    min_test_events: int = Field(10, ge=0, description="events in a test part; fewer are a warning (docs/protocol.md)")
