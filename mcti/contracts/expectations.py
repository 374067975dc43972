"""The rules of the data contract: table, expectation of Great Expectations, severity, description and hint."""

from dataclasses import dataclass
from typing import Any, Literal

from mcti.cohort.left_truncation import MIN_RISK_SET
from mcti.cohort.tables import ID_PATTERN, ID_RULE, OPTIONAL_PATIENTS, PATIENTS, SLIDES
from mcti.contracts.orientation import MIN_LOG_RATIO
from mcti.params import ValidateParams
from mcti.params.data import AGE_YEARS, MAX_FOLLOWUP_MONTHS

Severity = Literal["critical", "warning"]

ID = rf"^{ID_PATTERN.pattern}\Z"
"""The project's id pattern as Great Expectations needs it: anchored at both ends."""

SAFE_TEXT = r"^(?![=@])(?!.*(?:<[A-Za-z/!?]|\.\./)).*\Z"
"""Texts are copied to tables and web pages: no formula at the start, no markup, no `../`, one line."""

_MONTHS = "(?:[Jj]an|[Ff]eb|[Mm]ar|[Aa]pr|[Mm]ay|[Jj]un|[Jj]ul|[Aa]ug|[Ss]ep|[Oo]ct|[Nn]ov|[Dd]ec)"
NO_DATE = rf"^(?!\d{{1,2}}-{_MONTHS}\Z|{_MONTHS}-\d{{1,4}}\Z|\d{{4}}-\d\d-\d\d)"
"""Spreadsheets convert the genes MARCH1 and SEPT2 to dates. Ziemann et al., Genome Biology 17 (2016) 177."""

KEYS = {
    "patients": "patient_id",
    "slides": "slide_id",
    "genes": "gene",
    "subtypes": "subtype",
    "sites": "site",
    "columns": "column",
    "cohort": "cohort",
    "bags": "slide_id",
}
"""The column that identifies a failing row of each table."""

_COLUMNS = {column.name for column in (*PATIENTS, *OPTIONAL_PATIENTS, *SLIDES)}


@dataclass(frozen=True)
class ExpectationRule:
    """One expectation on a table.

    expectation     class of great_expectations.expectations;  arguments: its arguments
    description     the statement that holds;  hint: how to correct the data when it fails
    """

    id: str
    table: str
    severity: Severity
    expectation: str
    arguments: dict[str, Any]
    description: str
    hint: str


def cohort_rules(p: ValidateParams) -> list[ExpectationRule]:
    """Rules on patients, events and times: ids, flags, units and the orientation of the event flag."""
    confirm = "does event 1 mean that the event was observed? If so, set ingest.event_confirmed: true; else invert it"
    return [
        _unique("patient_id_unique", "patients", "patient_id", "every patient has one row", "keep one row per patient"),
        _well_formed("patient_id_well_formed", "patients", "patient_id"),
        _null("patient_id_one_spelling", "patients", "spelled_like", "no two ids differ only by case or spaces"),
        _set("event_is_flag", "patients", "event", [0, 1], "event is 1 (observed) or 0 (censored)"),
        _filled("event_filled", "patients", "event"),
        _filled("time_filled", "patients", "time_months"),
        _filled("site_filled", "patients", "site"),
        _filled("subtype_filled", "patients", "subtype"),
        _range("time_positive", "patients", "time_months", (0, None), "follow-up is above 0 months", strict_min=True,
               hint="correct the dates, or delete the patients without follow-up"),
        _range("time_plausible", "patients", "time_months", (None, MAX_FOLLOWUP_MONTHS),
               "the follow-up is shorter than a human life",
               hint="the cell may be a date or days: correct it, or set ingest.time_unit"),
        _range("age_plausible", "patients", "age", AGE_YEARS, "ages are plausible in years",
               hint="check the unit and the value"),
        _set("sex_is_flag", "patients", "is_female", [0, 1], "is_female is 1, 0 or missing"),
        _range("patients_enough", "cohort", "patients", (p.min_patients, None), "there are enough patients",
               hint="add patients, or set a lower validate.min_patients if that is intended"),
        _range("events_enough", "cohort", "events", (p.min_events, None), "there are enough events",
               hint="add patients or follow-up, or set a lower validate.min_events if that is intended"),
        _range("event_rate_plausible", "cohort", "event_rate", p.event_rate, "the event rate is plausible",
               hint=confirm),
        _null("event_not_inverted", "cohort", "orientation_question",
              f"event 1 means observed: log likelihood ratio of orientation at least {MIN_LOG_RATIO:g}", hint=confirm),
        _range("events_not_later", "cohort", "events_later", (None, 0.5), "events are not later than censorings",
               "warning", hint=confirm),
        _range("followup_plausible", "cohort", "median_followup", p.median_followup_months,
               "the median follow-up is plausible in months", hint="set the unit in ingest.time_unit"),
    ]  # fmt: skip


def competing_rules() -> list[ExpectationRule]:
    """Rules on competing events, for a cohort with this column."""
    return [
        _set("competing_is_flag", "patients", "competing", [0, 1], "competing is 1 (a competing event) or 0"),
        _null("competing_without_event", "patients", "both_events", "no patient has the event and a competing one",
              hint="run mcti ingest again: the first of the two ends the observation"),
    ]  # fmt: skip


def entry_rules() -> list[ExpectationRule]:
    """Rules on the entry under observation, for a cohort with this column."""
    return [
        _filled("entry_filled", "patients", "entry_months"),
        _range("entry_not_negative", "patients", "entry_months", (0, None), "entries are not before the origin",
               strict_min=False, hint="a patient under observation from the origin has the entry 0"),
        _range("entry_before_end", "patients", "months_at_risk", (0, None), "each follow-up ends after the entry",
               strict_min=True, hint="run mcti ingest again: it excludes patients who were never at risk"),
        _range("risk_set_large", "cohort", "smallest_risk_set", (MIN_RISK_SET, None),
               "enough patients are at risk at each early event", "warning",
               hint="curves rest on few patients there: see docs/cohort.md, Delayed entry"),
    ]  # fmt: skip


def balance_rules(p: ValidateParams) -> list[ExpectationRule]:
    """Rules on the size of groups, for training and evaluation, and on the completeness of the follow-up."""
    few = "merge small groups, or set a lower limit: results for such groups are not reliable"
    per_fold = p.min_events_per_fold * p.folds_planned
    return [
        _range("subtypes_two", "cohort", "subtypes", (2, None), "there are at least two subtypes", "warning",
               hint="with one class the second task cannot be trained: set train.lambda_subtype to 0"),
        _range("events_per_fold", "cohort", "events", (per_fold, None),
               f"each of {p.folds_planned} folds can have {p.min_events_per_fold} events", "warning", hint=few),
        _range("events_per_subtype", "subtypes", "events", (p.min_events_per_subtype, None),
               "each subtype has enough events", "warning", hint=few),
        _range("events_per_site", "sites", "events", (p.min_events_per_site, None), "each site has enough events",
               "warning", hint=few),
        _range("times_not_tied", "cohort", "tied_share", (None, p.max_tied_share), "few patients have the same time",
               "warning", hint="an administrative end of the study causes tied times: use exact dates where known"),
        _range("followup_complete", "cohort", "early_censored_share", (None, p.max_early_censored_share),
               "few patients are censored within three months", "warning", hint="request a later follow-up"),
        _range("followup_known", "cohort", "no_followup_share", (None, p.max_no_followup_share),
               "few patients were excluded for missing follow-up", "warning", hint="request the missing follow-up"),
        _null("levels_of_ordered", "columns", "foreign_level", "ordered covariates have levels of their order only",
              hint="run mcti ingest again with this level in ingest.ordered_levels"),
        _range("levels_frequent", "columns", "rarest_level", (p.min_patients_per_level, None),
               "each level of a categorical covariate has enough patients", "warning",
               hint="merge levels with ingest.category_values: a rare level is absent from some training parts"),
        _range("columns_filled", "columns", "missing_share", (None, p.max_missing_share),
               "clinical columns have few missing values", "warning", hint="complete the column, or drop it"),
        _null("texts_plain", "columns", "unsafe", "no name or cell of a column has formula, markup or path characters",
              "warning", "write the text without them: it is copied to reports and tables"),
    ]  # fmt: skip


def expression_rules(p: ValidateParams) -> list[ExpectationRule]:
    """Rules on expression: values, names, scale, site effects and the match of profiles with their patients."""
    batch = "correct the batch before ingest, and split by site"
    swapped = "check the ids of these patients in the source: samples may be swapped"
    return [
        _range("genes_finite", "genes", "infinite", (None, 0), "no gene is infinite",
               hint="use the logarithm of value + 1"),
        _filled("genes_have_values", "genes", "mean", hint="delete the genes without any value"),
        _range("genes_filled", "genes", "missing_share", (None, p.max_missing_share), "genes have few missing values",
               "warning", hint="delete the gene, or request its values"),
        _range("genes_vary", "genes", "sd", (0, None), "no gene is constant", "warning", strict_min=True,
               hint="delete constant genes"),
        _null("genes_differ", "genes", "twin", "no two genes have the same values", "warning", "delete one of the two"),
        _null("gene_names_differ", "genes", "spelled_like", "no two genes differ only by case", "warning"),
        _match("gene_names_plain", "genes", "gene", SAFE_TEXT, "no gene has formula, markup or path characters",
               "warning", "write gene symbols"),
        _match("gene_names_not_dates", "genes", "gene", NO_DATE, "no gene name is a date", "warning",
               "a spreadsheet converts MARCH1 to 1-Mar: export the table from its source again"),
        _range("expression_of_patients", "cohort", "foreign_profiles", (None, 0),
               "every expression profile belongs to a patient", hint="write the cohort with mcti ingest"),
        _range("expression_scale", "cohort", "negative_values", (None, 0), "counts and TPM are not negative",
               hint="set the scale in ingest.expression_scale"),
        _range("z_scores_plausible", "genes", "largest_z", (None, p.max_abs_z), "z-scores are not extreme",
               "warning", hint="check these genes in the source, or set train.gene_transform: winsor or rank"),
        _range("site_variance", "cohort", "site_variance", (None, p.max_site_variance),
               "sites explain little of the variance of genes", "warning", hint=batch),
        _range("site_predictability", "cohort", "site_predictability", (None, p.max_site_predictability),
               "expression does not predict the site", "warning", hint=batch),
        _set("sex_agrees_with_genes", "patients", "sex_agrees", [1], "XIST and RPS4Y1 agree with is_female", "warning",
             hint=swapped, mostly=1 - p.max_sex_mismatch_share),
        _set("receptor_agrees_with_gene", "patients", "receptor_agrees", [1], "ESR1 agrees with the receptor status",
             "warning", hint=swapped, mostly=1 - p.max_er_mismatch_share),
        _null("patients_differ", "patients", "shares", "no two patients share a slide or an expression profile",
              hint="assign both to one patient, or delete one"),
    ]  # fmt: skip


def slide_rules(p: ValidateParams) -> list[ExpectationRule]:
    """Rules on slides: each slide_id is one slide of one patient."""
    return [
        _well_formed("slide_id_well_formed", "slides", "slide_id"),
        _range("slide_of_one_patient", "slides", "owners", (None, 1), "no slide belongs to two patients",
               hint="a slide_id identifies one slide: rename it, or delete the wrong row"),
        _range("slide_contents_differ", "slides", "names_of_contents", (None, 1),
               "no slide contents (md5) have two names", hint="delete the copy"),
        _range("slides_per_patient", "patients", "slides", (None, p.max_slides_per_patient),
               "no patient has very many slides", "warning", hint="check the manifest for slides of other patients"),
    ]  # fmt: skip


def feature_rules(p: ValidateParams) -> list[ExpectationRule]:
    """Rules on features: one encoder, width and resolution, finite values, patches inside their slide."""
    extract_again = "extract or import these slides again with the same settings"
    return [
        _range("features_one_width", "cohort", "widths", (None, 1), "all features have one width", hint=extract_again),
        _range("features_one_encoder", "cohort", "encoders", (None, 1), "all features are of one encoder",
               hint=extract_again),
        _range("features_one_resolution", "cohort", "resolutions", (None, 1), "all features have one resolution",
               hint=extract_again),
        _range("features_finite", "bags", "nan_rows", (None, 0), "every feature of a patch is a finite number",
               hint=extract_again),
        _range("features_differ", "bags", "constant_rows", (None, 0), "no patch has constant features", "warning",
               hint="check the tiles: padding or glass may have been classified as tissue"),
        _range("features_of_one_slide", "bags", "names_of_contents", (None, 1), "no two slides have the same features",
               hint="one slide has two names: delete the copy"),
        _range("coordinates_inside", "bags", "outside", (None, 0), "patches are inside their slide",
               hint=extract_again),
        _range("slides_failed_few", "cohort", "failed_slides_share", (None, p.max_failed_slides_share),
               "few slides failed", hint="check the reasons in slides.csv"),
        _range("tiles_per_patient", "patients", "tiles", (p.min_tiles_per_patient, None), "patients have patches",
               "warning", hint="check the reasons in slides.csv"),
    ]  # fmt: skip


def render() -> str:
    """All expectations with their default limits as Markdown, exactly as docs/cohort.md contains them."""
    lines = ["| expectation | severity | description | hint |", "|---|---|---|---|"]
    parts = (cohort_rules, balance_rules, expression_rules, slide_rules, feature_rules)
    rules = [*(rule for part in parts for rule in part(ValidateParams())), *competing_rules(), *entry_rules()]
    for rule in rules:
        description, hint = (text.replace("|", "\\|") for text in (rule.description, rule.hint))
        lines.append(f"| `{rule.id}` | {rule.severity} | {description} | {hint} |")
    return "\n".join(lines) + "\n"


def _range(
    id: str,
    table: str,
    column: str,
    limits: tuple[float | None, float | None],
    description: str,
    severity: Severity = "critical",
    *,
    hint: str,
    **more: Any,
) -> ExpectationRule:
    low, high = limits
    words = [f"at least {low:g}"] if low is not None and not more else []
    words += [f"at most {high:g}"] if high is not None else []
    arguments = {"column": column, "min_value": low, "max_value": high, **more}
    # Columns of the user's tables keep their names; measurements are written in words.
    measured = column if column in _COLUMNS else column.replace("followup", "follow-up").replace("_", " ")
    with_limits = f"{description}: {measured} {', '.join(words)}" if words else description
    return ExpectationRule(id, table, severity, "ExpectColumnValuesToBeBetween", arguments, with_limits, hint)


def _set(
    id: str,
    table: str,
    column: str,
    values: list[int],
    description: str,
    severity: Severity = "critical",
    hint: str = "write 0 or 1",
    **more: Any,
) -> ExpectationRule:
    arguments = {"column": column, "value_set": values, **more}
    return ExpectationRule(id, table, severity, "ExpectColumnValuesToBeInSet", arguments, description, hint)


def _unique(id: str, table: str, column: str, description: str, hint: str) -> ExpectationRule:
    return ExpectationRule(id, table, "critical", "ExpectColumnValuesToBeUnique", {"column": column}, description, hint)


def _well_formed(id: str, table: str, column: str) -> ExpectationRule:
    description = f"{column} has no path, markup or formula characters"
    return _match(id, table, column, ID, description, "critical", ID_RULE)


def _match(
    id: str, table: str, column: str, regex: str, description: str, severity: Severity, hint: str
) -> ExpectationRule:
    arguments = {"column": column, "regex": regex}
    return ExpectationRule(id, table, severity, "ExpectColumnValuesToMatchRegex", arguments, description, hint)


def _filled(id: str, table: str, column: str, hint: str = "run mcti ingest again") -> ExpectationRule:
    description = f"every row of {table} has {column}"
    expectation = "ExpectColumnValuesToNotBeNull"
    return ExpectationRule(id, table, "critical", expectation, {"column": column}, description, hint)


def _null(
    id: str,
    table: str,
    column: str,
    description: str,
    severity: Severity = "critical",
    hint: str = "write each id in one spelling",
) -> ExpectationRule:
    return ExpectationRule(id, table, severity, "ExpectColumnValuesToBeNull", {"column": column}, description, hint)
