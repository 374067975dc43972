"""The predetermined change control plan (PCCP) of the release dossier, exported from the rules of the gates.

Its parts are those of section 515C of the FD&C Act and of the FDA's guidance on such plans for AI-enabled device
software functions: modifications, modification protocol, impact assessment. All values are those of the gate evaluation
of the version in the ledger, not the defaults and not the present settings.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from mcti.params import PromoteParams
from mcti.registry import strictness
from mcti.registry.dossier_document import DossierSource, Section, Table, cell
from mcti.registry.gates import INFORMATIONAL
from mcti.registry.ledger import LedgerEntry

NOT_RECORDED = "not recorded"
_GAPS = (
    "which changes of architecture, inputs, encoder and intended use the plan covers: no gate limits them",
    "impact assessment: benefits and risks of each modification for the patients",
    "sources, inclusion and reference standard of the data for new trainings",
    "how users learn of a new version, and the labelling that changes with it",
)
_RULES: tuple[tuple[str, str, str], ...] = (
    ("superiority", "lower end of the interval of the difference in Uno's C to the champion above {margin}, at the "
     "level of the look ({alpha} over {looks} looks, {spending}); at least {min_events} events", "promote.margin"),
    ("brier score", "integrated Brier score not worse by {ibs_margin} or more (level {confidence})", "ibs_margin"),
    ("calibration", "integrated calibration index not worse by {calibration_margin} or more (level {confidence})",
     "calibration_margin"),
    ("each group and regime", "Uno's C not lower by {group_margin} or more; from {group_min_events} events it must be "
     "shown (level {confidence})", "group_margin"),
    ("primary baseline", "Uno's C not shown to be lower by {baseline_margin}, integrated Brier score not by "
     "{baseline_ibs_margin}; must be shown to be within both margins: {require_baseline}", "baseline_margin"),
    ("latency", "processor time at most {max_latency_ratio} times that of the champion", "max_latency_ratio"),
    ("memory", "peak memory at most {max_memory_ratio} times that of the champion", "max_memory_ratio"),
    ("data contract", "no critical expectation fails; a result is required: {require_contract}", "require_contract"),
    ("unseen patients", "no test patient was in the training of the model that predicted them", "none: always"),
    ("first champion", "without a champion there is no comparison; the difference to the clinical Cox baseline is "
     "reported", "none: always"),
    ("recalibration", "recalibrated version: integrated Brier score shown to be below that of its parent, the "
     "champion, in an external validation with {min_events} events", "min_events"),
    ("patients of the recalibration", "no patient of the fit is in an external validation", "none: always"),
    ("external validation", "Uno's C above 0.5 with {min_events} events in another cohort; required: {external}",
     "external"),
    ("approval", "{approvals} persons other than the one who registered; electronic signatures required: "
     "{signed_approvals}", "approvals"),
)  # fmt: skip
"""(gate, criterion with the settings in braces, setting). A test compares the settings with PromoteParams."""


def evaluated(source: DossierSource) -> LedgerEntry | None:
    """The last entry of the ledger with a gate evaluation of this version."""
    entries = [entry for entry in source.entries if entry.version == source.version and entry.evidence.get("gates")]
    return entries[-1] if entries else None


def change_plan(source: DossierSource) -> Section:
    """What may change, how a change is evaluated, and its limits."""
    title = "Predetermined change control plan (FDA PCCP)"
    entry = evaluated(source)
    if entry is None:
        gap = "no gate evaluation of this version: run `mcti promote`; the plan has no values without it"
        return Section(key="pccp", title=title, gaps=(gap, *_GAPS))
    params = entry.evidence.get("params", {})
    return Section(
        key="pccp",
        title=title,
        paragraphs=(
            f"Settings of the gate evaluation in ledger entry {entry.number} ({entry.time}, {entry.who}).",
            "A gate that rejects, or lacks evidence, keeps the champion. Each decision is an entry of the ledger. "
            "Return to the version before: mcti rollback.",
            *_overrides(entry),
        ),
        tables=(_modifications(), _protocol(params, entry), _limits(params)),
        gaps=_GAPS,
    )


def _overrides(entry: LedgerEntry) -> Iterator[str]:
    looser = entry.evidence.get("looser")
    if looser:
        reason = entry.evidence.get("override_reason", "")
        yield f"This decision departed from the agreed settings: {'; '.join(looser)}. Stated reason: {reason}."


def _modifications() -> Table:
    rows = (
        ("weights, by a new training (mcti train, mcti register)", "every gate below"),
        (
            "intercept and slope of the survival curves (mcti test --recalibrate)",
            "gate recalibration: integrated Brier score shown to be below that of the champion, on patients without "
            "those of the fit; fixed rules",
        ),
        ("another end point than that of the champion", "not permitted: mcti promote refuses it"),
    )
    title = "description of modifications: what the gates can evaluate"
    return Table(title=title, headers=("modification", "evaluated by"), rows=rows)


def _protocol(params: Mapping[str, Any], entry: LedgerEntry) -> Table:
    """Criterion and result of each gate; groups and regimes are gates with their own names."""
    values = {name: _value(params, name) for name in PromoteParams.model_fields}
    verdicts = {gate["name"]: gate["verdict"] for gate in entry.evidence["gates"]}
    rows = tuple((gate, text.format(**values), verdicts.pop(gate, "not evaluated")) for gate, text, _ in _RULES)
    further = tuple(
        (gate, "informational" if verdict == INFORMATIONAL else "as for each group and regime", verdict)
        for gate, verdict in verdicts.items()
    )
    title = "modification protocol: how a change is evaluated"
    return Table(title=title, headers=("gate", "passes if", "verdict for this version"), rows=rows + further)


def _limits(params: Mapping[str, Any]) -> Table:
    """Every setting of the gates with its value, and in which direction it would be less strict."""
    rows = tuple(
        (f"promote.{name}", _value(params, name), str(field.description), _direction(name))
        for name, field in PromoteParams.model_fields.items()
    )
    headers = ("setting", "value", "meaning", "less strict if")
    return Table(title="limits: settings of the gates", headers=headers, rows=rows)


def _direction(name: str) -> str:
    if name in strictness.LOOSER_ABOVE:
        return "larger (needs a reason)"
    return "smaller (needs a reason)" if name in strictness.LOOSER_BELOW else "not ordered"


def _value(params: Mapping[str, Any], name: str) -> str:
    return cell(params[name]) if name in params else NOT_RECORDED
