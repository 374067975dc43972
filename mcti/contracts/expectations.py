"""The clauses of the data contract: which table, which expectation of Great Expectations, how grave, how to mend it."""

from dataclasses import dataclass
from typing import Any, Literal

from mcti.cohort.tables import ID_PATTERN
from mcti.contracts.orientation import ACCEPTED
from mcti.params import ValidateParams

Severity = Literal["critical", "warning"]

ID = rf"^{ID_PATTERN.pattern}\Z"
"""The project's id pattern as Great Expectations needs it: anchored at both ends."""

PLAIN = r"^(?![=@])(?!.*(?:<[A-Za-z/!?]|\.\./)).*\Z"
"""Words end in tables and pages of others: no formula at the start, no markup, no way up a folder, one line."""

_MONTHS = "(?:[Jj]an|[Ff]eb|[Mm]ar|[Aa]pr|[Mm]ay|[Jj]un|[Jj]ul|[Aa]ug|[Ss]ep|[Oo]ct|[Nn]ov|[Dd]ec)"
NO_DATE = rf"^(?!\d{{1,2}}-{_MONTHS}\Z|{_MONTHS}-\d{{1,4}}\Z|\d{{4}}-\d\d-\d\d)"
"""Spreadsheets turn MARCH1 and SEPT2 into dates. Ziemann et al., Genome Biology 17 (2016) 177."""

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
"""The column by which a failing row of each table is listed."""


@dataclass(frozen=True)
class ExpectationRule:
    """One expectation: `kind` is the class of great_expectations.expectations, `arguments` are its own."""

    id: str
    table: str
    severity: Severity
    kind: str
    arguments: dict[str, Any]
    description: str
    hint: str


def cohort_rules(p: ValidateParams) -> list[ExpectationRule]:
    """Who is in the cohort, and whether events and times can be what they say."""
    asked = "does event 1 mean that the event was observed? If so, set ingest.event_confirmed: true; if not, invert it"
    return [
        _unique("patient_id_unique", "patients", "patient_id", "every patient stands once", "keep one row a patient"),
        _shape("patient_id_well_formed", "patients", "patient_id"),
        _null("patient_id_one_spelling", "patients", "spelled_like", "no two ids differ only by case or blanks"),
        _set("event_is_flag", "patients", "event", [0, 1], "event is 1 (seen) or 0 (censored)"),
        _filled("event_filled", "patients", "event"),
        _filled("time_filled", "patients", "time_months"),
        _filled("site_filled", "patients", "site"),
        _filled("subtype_filled", "patients", "subtype"),
        _range("time_positive", "patients", "time_months", (0, None), "follow-up is above 0 months", strict_min=True,
               hint="mend the dates, or delete the patients without follow-up"),
        _range("time_plausible", "patients", "time_months", (None, p.max_followup_months),
               "nobody was followed longer than people live",
               hint="a date or days stand for months: mend the cell, or declare ingest.time_unit"),
        _range("age_plausible", "patients", "age", p.age_years, "ages are years", hint="check the unit and the typing"),
        _set("sex_is_flag", "patients", "is_female", [0, 1], "is_female is 1, 0 or missing"),
        _range("patients_enough", "cohort", "patients", (p.min_patients, None), "there are patients enough",
               hint="add patients, or lower validate.min_patients knowingly"),
        _range("events_enough", "cohort", "events", (p.min_events, None), "there are events enough",
               hint="add patients or follow-up, or lower validate.min_events knowingly"),
        _range("event_rate_plausible", "cohort", "event_rate", p.event_rate, "the event rate is plausible",
               hint=asked),
        _null("event_not_inverted", "cohort", "orientation_question",
              f"event 1 means observed: log likelihood ratio of orientation at least {ACCEPTED:g}", hint=asked),
        _range("events_not_later", "cohort", "events_later", (None, 0.5), "events do not come later than censorings",
               "warning", hint=asked),
        _range("followup_plausible", "cohort", "median_followup", p.median_followup_months,
               "the median follow-up is plausible in months", hint="declare the unit in ingest.time_unit"),
    ]  # fmt: skip


def balance_rules(p: ValidateParams) -> list[ExpectationRule]:
    """Whether groups are large enough to learn and to score, and whether follow-up is complete."""
    few = "merge small groups, or lower the limit knowingly: no claim can be made for them"
    per_fold = p.min_events_per_fold * p.folds_planned
    return [
        _range("subtypes_two", "cohort", "subtypes", (2, None), "there are two subtypes or more", "warning",
               hint="with one class the second task learns nothing: set train.lambda_subtype to 0"),
        _range("events_per_fold", "cohort", "events", (per_fold, None),
               f"each of {p.folds_planned} folds can hold {p.min_events_per_fold} events", "warning", hint=few),
        _range("events_per_subtype", "subtypes", "events", (p.min_events_per_subtype, None),
               "each subtype has events enough", "warning", hint=few),
        _range("events_per_site", "sites", "events", (p.min_events_per_site, None), "each site has events enough",
               "warning", hint=few),
        _range("times_not_tied", "cohort", "tied_share", (None, p.max_tied_share), "few patients share one time",
               "warning", hint="an administrative end of the study ties times: say so, or give exact dates"),
        _range("followup_complete", "cohort", "early_censored_share", (None, p.max_early_censored_share),
               "few patients are censored within three months", "warning", hint="ask for a later follow-up"),
        _range("followup_known", "cohort", "no_followup_share", (None, p.max_no_followup_share),
               "few patients left for want of follow-up", "warning", hint="ask for the missing follow-up"),
        _range("columns_filled", "columns", "missing_share", (None, p.max_missing_share),
               "clinical columns are filled", "warning", hint="complete the column or leave it out"),
        _null("texts_plain", "columns", "odd", "no name or cell of a column has formula, markup or path characters",
              "warning", "write the word without them: it will stand in reports and tables of others"),
    ]  # fmt: skip


def expression_rules(p: ValidateParams) -> list[ExpectationRule]:
    """Whether genes carry numbers that differ, and belong to the patients they stand with."""
    batch = "correct the batch before ingest, and split by site"
    swapped = "look for swapped samples: check the ids of these patients in the source"
    return [
        _range("genes_finite", "genes", "infinite", (None, 0), "no gene is infinite",
               hint="take the logarithm of value + 1"),
        _filled("genes_have_values", "genes", "mean", hint="delete the genes without a single value"),
        _range("genes_filled", "genes", "missing_share", (None, p.max_missing_share), "genes are filled", "warning",
               hint="delete the gene, or ask for its values"),
        _range("genes_vary", "genes", "sd", (0, None), "no gene is constant", "warning", strict_min=True,
               hint="delete constant genes"),
        _null("genes_differ", "genes", "twin", "no two genes have the same values", "warning", "delete one of the two"),
        _null("gene_names_differ", "genes", "spelled_like", "no two genes differ only by case", "warning"),
        _match("gene_names_plain", "genes", "gene", PLAIN, "no gene has formula, markup or path characters", "warning",
               "write gene symbols"),
        _match("gene_names_not_dates", "genes", "gene", NO_DATE, "no gene was turned into a date", "warning",
               "a spreadsheet turned MARCH1 into 1-Mar: take the table from its source again"),
        _range("expression_of_patients", "cohort", "foreign_profiles", (None, 0),
               "every expression profile belongs to a patient", hint="write the cohort with mcti ingest"),
        _range("expression_scale", "cohort", "negative_values", (None, 0), "counts and TPM are not negative",
               hint="state the scale in ingest.expression_scale"),
        _range("z_scores_plausible", "genes", "largest_z", (None, p.max_abs_z), "declared z-scores are not extreme",
               "warning", hint="look at these genes in the source, or set train.gene_transform: winsor or rank"),
        _range("site_variance", "cohort", "site_variance", (None, p.max_site_variance),
               "sites shift genes but little", "warning", hint=batch),
        _range("site_predictability", "cohort", "site_predictability", (None, p.max_site_predictability),
               "expression does not give the site away", "warning", hint=batch),
        _set("sex_agrees_with_genes", "patients", "sex_agrees", [1], "XIST and RPS4Y1 agree with is_female", "warning",
             hint=swapped, mostly=1 - p.max_sex_mismatch_share),
        _set("receptor_agrees_with_gene", "patients", "receptor_agrees", [1], "ESR1 agrees with the receptor status",
             "warning", hint=swapped, mostly=1 - p.max_er_mismatch_share),
        _null("patients_differ", "patients", "shares", "no two patients share a slide or an expression profile",
              hint="give both to one patient, or delete one"),
    ]  # fmt: skip


def slide_rules(p: ValidateParams) -> list[ExpectationRule]:
    """Whether each slide is one slide of one patient."""
    return [
        _shape("slide_id_well_formed", "slides", "slide_id"),
        _range("slide_of_one_patient", "slides", "owners", (None, 1), "no slide belongs to two patients",
               hint="a slide_id names one slide: rename it, or delete the wrong row"),
        _range("slide_contents_differ", "slides", "names_of_contents", (None, 1),
               "no slide contents (md5) stand under two names", hint="delete the copy"),
        _range("slides_per_patient", "patients", "slides", (None, p.max_slides_per_patient),
               "no patient has a heap of slides", "warning", hint="check the manifest for slides of others"),
    ]  # fmt: skip


def feature_rules(p: ValidateParams) -> list[ExpectationRule]:
    """Whether features of all slides are of one kind, finite and where the slide is."""
    anew = "extract these slides again with one setting"
    return [
        _range("features_one_width", "cohort", "widths", (None, 1), "all features have one width", hint=anew),
        _range("features_one_encoder", "cohort", "encoders", (None, 1), "all features are of one encoder", hint=anew),
        _range("features_one_resolution", "cohort", "resolutions", (None, 1), "all features have one resolution",
               hint=anew),
        _range("features_finite", "bags", "nan_rows", (None, 0), "no patch has features that are no numbers",
               hint=anew),
        _range("features_differ", "bags", "constant_rows", (None, 0), "no patch has constant features", "warning",
               hint="look at the tiles: padding or glass was taken for tissue"),
        _range("features_of_one_slide", "bags", "names_of_contents", (None, 1), "no two slides have the same features",
               hint="one slide was read under two names: delete the copy"),
        _range("coordinates_inside", "bags", "outside", (None, 0), "patches lie inside their slide", hint=anew),
        _range("slides_failed_few", "cohort", "failed_slides_share", (None, p.max_failed_slides_share),
               "few slides failed", hint="see the reasons in slides.csv"),
        _range("tiles_per_patient", "patients", "tiles", (p.min_tiles_per_patient, None), "patients have patches",
               "warning", hint="see the reasons in slides.csv"),
    ]  # fmt: skip


def render() -> str:
    """All expectations under their default limits as Markdown: docs/cohort.md holds exactly this text."""
    lines = ["| expectation | severity | what it says | how to mend it |", "|---|---|---|---|"]
    parts = (cohort_rules, balance_rules, expression_rules, slide_rules, feature_rules)
    for clause in (clause for part in parts for clause in part(ValidateParams())):
        description, hint = (text.replace("|", "\\|") for text in (clause.description, clause.hint))
        lines.append(f"| `{clause.id}` | {clause.severity} | {description} | {hint} |")
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
    shown = f"{description}: {column} {', '.join(words)}" if words else description
    return ExpectationRule(id, table, severity, "ExpectColumnValuesToBeBetween", arguments, shown, hint)


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


def _shape(id: str, table: str, column: str) -> ExpectationRule:
    description = f"{column} has no path, markup or formula characters"
    hint = "use letters, digits and _ . + - only, a letter or digit first, at most 128 characters"
    return _match(id, table, column, ID, description, "critical", hint)


def _match(
    id: str, table: str, column: str, regex: str, description: str, severity: Severity, hint: str
) -> ExpectationRule:
    arguments = {"column": column, "regex": regex}
    return ExpectationRule(id, table, severity, "ExpectColumnValuesToMatchRegex", arguments, description, hint)


def _filled(id: str, table: str, column: str, hint: str = "write it anew with mcti ingest") -> ExpectationRule:
    kind = "ExpectColumnValuesToNotBeNull"
    return ExpectationRule(id, table, "critical", kind, {"column": column}, f"every row of {table} has {column}", hint)


def _null(
    id: str,
    table: str,
    column: str,
    description: str,
    severity: Severity = "critical",
    hint: str = "write one id in one way",
) -> ExpectationRule:
    return ExpectationRule(id, table, severity, "ExpectColumnValuesToBeNull", {"column": column}, description, hint)
