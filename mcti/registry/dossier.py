"""The release dossier of a version: what a regulatory file asks, filled in from the run, every gap called a gap.

It answers the points of Annex IV of the EU AI Act (Regulation (EU) 2024/1689), of TRIPOD+AI (Collins et al. 2024, BMJ
385:e078378) and of the model card (Mitchell et al. 2019) that a run can answer. It is a draft for the people who sign
such a file, not a declaration of conformity.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from mcti.model.names import PART_NAMES, PARTS, display
from mcti.registry import metric_labels, sbom
from mcti.registry.card import GAP
from mcti.registry.dossier_points import ASKED, COHORT
from mcti.registry.ledger import LedgerEntry

_HELD_BACK = ("subgroups", "folds", "comparison", "decision", "risk_groups", "attribution", "search")


class Table(BaseModel):
    """Heads and rows of text; empty heads: two columns of names and values."""

    model_config = ConfigDict(frozen=True)
    title: str = ""
    heads: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...]


class Section(BaseModel):
    """One section: key and title, what it answers, what it says; `gaps` are open and only people can close them."""

    model_config = ConfigDict(frozen=True)
    key: str
    title: str
    said: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[str, ...] = ()  # names; the pictures travel beside
    gaps: tuple[str, ...] = ()


class Answer(BaseModel):
    """A point of a regime, and which section answers it: `answered`, `partly` or `gap`."""

    model_config = ConfigDict(frozen=True)
    regime: str
    point: str
    asks: str
    section: str
    state: str


class Dossier(BaseModel):
    """The whole file, as it is also written as JSON."""

    model_config = ConfigDict(frozen=True)
    name: str
    version: int
    alias: str
    notice: str
    digest: str
    sections: tuple[Section, ...]
    answers: tuple[Answer, ...]
    sbom: dict[str, Any]

    @classmethod
    def of(cls, facts: "Facts") -> Self:
        """From what the registry holds."""
        sections = tuple(make(facts) for make in _SECTIONS)
        return cls(
            name=facts.card["name"],
            version=facts.version,
            alias=facts.alias,
            notice=facts.card["notice"],
            digest=facts.card["lineage"]["digest"],
            sections=sections,
            answers=tuple(_answers(sections)),
            sbom=dict(facts.sbom),
        )


class Facts(BaseModel):
    """What the registry holds of a version. explained: contributions of example patients, {column: value} each;
    evaluated: result.json of the evaluation, whose counts are those of the evaluated patients."""

    model_config = ConfigDict(frozen=True)
    version: int
    alias: str
    card: dict[str, Any]
    metrics: dict[str, Any]
    sbom: dict[str, Any]
    lines: tuple[LedgerEntry, ...]
    figures: tuple[str, ...] = ()
    explained: tuple[dict[str, str], ...] = ()
    evaluated: dict[str, Any] = {}


def html(dossier: Dossier, pictures: Mapping[str, bytes]) -> str:
    """The page: no script, no network; pictures are SVG files, shown as images so that nothing in them can run."""
    from jinja2 import Environment, select_autoescape

    source = resources.files("mcti.registry").joinpath("dossier.html").read_text(encoding="utf-8")
    page = Environment(autoescape=select_autoescape(default_for_string=True, default=True)).from_string(source)
    shown = {name: f"data:image/svg+xml;base64,{b64encode(body).decode()}" for name, body in pictures.items()}
    return page.render(dossier=dossier, pictures=shown, gap=GAP)


def _use(facts: Facts) -> Section:
    card = facts.card
    names = {"intended use": "intended_use", "not intended": "not_intended", "answers for it": "contact"}
    told = {title: card[key] for title, key in names.items()}
    table = _pairs({**told, "new patients are predicted by": card["new_patients"]})
    gaps = [
        f"{name}: state it in params.yaml (register.{name})"
        for name in ("intended_use", "contact")
        if card[name] == GAP
    ]
    open_points = ("instructions for use", "who may override the model, and how (human oversight)")
    return Section(key="use", title="Intended use", tables=(table,), gaps=(*gaps, *open_points))


def _data(facts: Facts) -> Section:
    data, licences = facts.card["data"], facts.card["licences"]
    gaps = [] if licences["data"] != GAP else ["licence of the data (register.data_licence)"]
    gaps += ["setting, dates and eligibility of the cohort", "ethical approval"]
    if data == GAP:
        tables = tuple(_evaluated(facts, {}))
        return Section(
            key="data", title="Data and attrition", tables=tables, gaps=("mcti register --validation", *gaps)
        )
    counted = dict(data["numbers"] or {})
    cohort = {words: counted.pop(name) for name, words in COHORT.items() if name in counted}
    contract = tuple(
        (
            found["description"],
            found["severity"],
            "kept" if found["passed"] else f"BROKEN, {found['failing']} of {found['rows']}",
        )
        for found in data["expectations"]
    )
    return Section(
        key="data",
        title="Data and attrition",
        said=(f"Cohort {data['name']}, MD5 {data['md5']}.", *(data["warnings"] or ())),
        tables=(
            *_evaluated(facts, {"endpoint": data["endpoint"], "licence": licences["data"]}, data["attrition"]),
            _pairs(cohort, "the cohort as it was validated"),
            Table(heads=("data contract", "severity", "held"), rows=contract),
            _pairs(counted, "what the contract measured"),
        ),
        gaps=tuple(gaps),
    )


def _evaluated(facts: Facts, more: Mapping[str, Any], attrition: Mapping[str, int] | None = None) -> Iterator[Table]:
    """The counts of the evaluated patients, and who was excluded at which step.

    attrition  of the validation, for versions whose evaluation did not record the steps yet
    """
    told = facts.evaluated
    names = {"patients": "patients evaluated", "events": "events among them"}
    counts = {words: told[name] for name, words in names.items() if name in told}
    if "median_follow_up" in told:
        months = told["median_follow_up"]
        counts["median follow-up, months (reverse Kaplan-Meier)"] = "not reached" if months is None else months
    yield _pairs(counts | dict(more))
    steps: Mapping[str, Mapping[str, int]] = told.get("excluded", {"before the split": dict(attrition or {})})
    rows = tuple((step, reason, str(count)) for step, reasons in steps.items() for reason, count in reasons.items())
    yield Table(heads=("excluded at", "reason", "patients"), rows=rows or (("no step", "nobody", "0"),))


def _methods(facts: Facts) -> Section:
    card = facts.card
    made = card["inputs"]["features"]
    gaps = () if made != GAP else ("how the features were made: extract them with `mcti extract` and train again",)
    inputs = {**card["inputs"], "features": "not known" if made == GAP else ""} | (made if made != GAP else {})
    return Section(
        key="methods",
        title="Methods",
        said=(
            "Scales, bins and imputation are fitted on the training part of each fold alone. One patient at a time, "
            "one thread: the same input gives the same bits.",
            *facts.metrics["mcti"].get("search", {}).get("sentences", ("No search of the settings is recorded.",)),
        ),
        tables=(
            _pairs({name: value for name, value in inputs.items() if value != ""}, "inputs"),
            _pairs(card["architecture"], "architecture"),
            _pairs(card["training"]["settings"], "settings of the training"),
            _pairs(
                {
                    **card["outputs"],
                    "edges of the bins, months": card["bins_months"],
                    "licence of the encoder": card["licences"]["encoder"],
                }
            ),
        ),
        gaps=gaps,
    )


def _results(facts: Facts) -> Section:
    ours = facts.metrics["mcti"]
    rows = tuple(
        (metric_labels.label(name), *_interval(numbers)) for name, numbers in sorted(ours.items())
        if name not in _HELD_BACK and isinstance(numbers, Mapping) and "value" in numbers
    )  # fmt: skip
    compared = ours.get("comparison", {})
    against = tuple(
        (_against(name, found), *_interval(found["difference"]), _number(found.get("p_holm")))
        for name, found in compared.items()
    )
    errors = tuple(
        (_against(name, found), *_interval(found["ibs_difference"]), _number(found.get("ibs_p_holm")))
        for name, found in compared.items()
        if "ibs_difference" in found
    )
    alone = tuple(
        (display(name), *_interval(facts.metrics[name]["c_index"]))
        for name in ("mcti", *PARTS)
        if name in facts.metrics
    )
    attribution = ours.get("attribution", {})
    shares = tuple((PART_NAMES[name], f"{100 * share:.2g} %") for name, share in attribution.get("shares", {}).items())
    return Section(
        key="results",
        title="Results",
        said=(f"Method: {facts.card['evaluation']['method']}.",),
        tables=(
            Table(heads=("metric", "value", "from", "to"), rows=rows),
            Table(heads=("C-index minus that of", "value", "from", "to", "p (Holm)"), rows=against),
            Table(heads=("integrated Brier score minus that of", "value", "from", "to", "p (Holm)"), rows=errors),
            *([Table(heads=("C-index of", "value", "from", "to"), rows=alone)] if len(alone) > 1 else []),
            *([Table(heads=("part of the model", "share of the attribution"), rows=shares)] if shares else []),
        ),
        figures=tuple(name for name in facts.figures if name in ("forest", "kaplan_meier", "brier", "decision_curve")),
        gaps=("external validation in another hospital",),
    )


def _against(name: str, found: Mapping[str, Any]) -> str:
    return display(name) + (" (primary contrast)" if found.get("primary") else "")


def _groups(facts: Facts) -> Section:
    found = facts.metrics["mcti"].get("subgroups", [])
    rows = tuple(
        (group["name"], str(group["patients"]), str(group["events"]), *_interval(group["c_index"])) for group in found
    )
    gaps = () if rows else ("no group of the cohort has enough events",)
    told = "The C-index of a group of fewer than ten events has no interval and says little."
    heads = ("group", "patients", "events", "C-index", "from", "to")
    return Section(
        key="groups", title="Results by group", said=(told,), tables=(Table(heads=heads, rows=rows),), gaps=gaps
    )


def _calibration(facts: Facts) -> Section:
    ours = facts.metrics["mcti"]
    kinds = ("slope_", "intercept_", "ici_", "brier_")
    names = [*(name for name in sorted(ours) if name.startswith(kinds)), *(["ibs"] if "ibs" in ours else [])]
    rows = tuple((metric_labels.label(name), *_interval(ours[name])) for name in names)
    spread = ours.get("d_calibration", {}).get("p")
    said = () if spread is None else (f"D-calibration: p = {spread:.3f}; small accuses, large does not acquit.",)
    gaps = () if rows else ("no horizon could be scored",)
    heads = ("measure", "value", "from", "to")
    figures = tuple(name for name in facts.figures if name == "calibration")
    return Section(
        key="calibration",
        title="Calibration",
        said=said,
        tables=(Table(heads=heads, rows=rows),),
        figures=figures,
        gaps=gaps,
    )


def _explanations(facts: Facts) -> Section:
    if not facts.explained:
        gap = "examples: run `mcti explain`, then `mcti dossier --explanations DIR`"
        return Section(key="explanations", title="Explanation examples", gaps=(gap,))
    heads = tuple(facts.explained[0])
    rows = tuple(tuple(row[name] for name in heads) for row in facts.explained)
    said = "Parts of the risk by modality, as integrated gradients find them; ids are hashed."
    return Section(
        key="explanations", title="Explanation examples", said=(said,), tables=(Table(heads=heads, rows=rows),)
    )


def _limits(facts: Facts) -> Section:
    said = [facts.card["notice"]] if facts.card["notice"] else []
    said += facts.evaluated.get("warnings", [])
    for name, found in facts.metrics["mcti"].get("comparison", {}).items():
        if (name == "cox_clinical" or found.get("primary")) and not (found["difference"]["low"] or 0) > 0:
            value, low, high = _interval(found["difference"])
            said.append(f"It was not shown to beat {_against(name, found)}: difference of C {value} ({low} to {high}).")
    said += [
        "Out-of-fold results on the development cohort are not results in another hospital.",
        "Risks have no unit and compare within this model only.",
        "Patients unlike those of the training cohort are not refused; watch the drift of the inputs (mcti monitor).",
    ]
    if facts.card["new_patients"].startswith("the refit"):
        said.append(
            "New patients are predicted by a refit that no patient was left to test: its evidence is the folds'."
        )
    gaps = ("clinical consequences of a wrong risk", "risk management (Article 9)", "clinical evaluation")
    return Section(key="limits", title="Limits and risks", said=tuple(said), gaps=gaps)


def _changes(facts: Facts) -> Section:
    about = [line for line in facts.lines if line.version == facts.version and line.evidence.get("gates")]
    if not about:
        return Section(
            key="changes", title="Change against the last champion", gaps=("no judgement: run `mcti promote`",)
        )
    line = about[-1]
    rows = tuple((gate["name"], gate["verdict"], gate["reason"]) for gate in line.evidence["gates"])
    history = tuple(
        (str(one.number), one.time, one.who, one.action, str(one.version), str(one.champion or "none"))
        for one in facts.lines
    )
    return Section(
        key="changes",
        title="Change against the last champion",
        said=(f"Line {line.number} of the ledger: {line.action}: {line.evidence.get('reason', '')}.",),
        tables=(
            Table(heads=("gate", "verdict", "reason"), rows=rows),
            Table(heads=("line", "time", "who", "action", "version", "champion after"), rows=history),
        ),
    )


def _lineage(facts: Facts) -> Section:
    lineage = facts.card["lineage"]
    data = {f"data {path}": md5 for path, md5 in lineage["data"].items()}
    named = {name: lineage[name] for name in ("digest", "commit", "image", "folds")}
    ledger = {f"ledger line {line.number}": line.hash for line in facts.lines[-1:]}
    dirty = str(lineage["commit"]).endswith("-dirty") or lineage["commit"] == "unknown"
    gaps = ["dirty: code or settings were not those of a commit"] if dirty else []
    if "@sha256:" not in str(lineage["image"]):
        gaps.append("no image named by its digest: train and register in one (MCTI_IMAGE)")
    return Section(key="lineage", title="Lineage", tables=(_pairs({**named, **data, **ledger}),), gaps=tuple(gaps))


def _software(facts: Facts) -> Section:
    parts = facts.sbom["components"]
    rows = tuple((part["name"], part["version"], sbom.licence(part) or GAP) for part in parts)
    unknown = [row[0] for row in rows if row[2] == GAP]
    said = f"{len(parts)} packages where the version was registered; CycloneDX 1.5 in the JSON beside this page."
    gaps = (f"licence not stated by: {', '.join(unknown)}",) if unknown else ()
    return Section(
        key="software", title="Software (SBOM)", said=(said,),
        tables=(Table(heads=("package", "version", "licence"), rows=rows),), gaps=gaps,
    )  # fmt: skip


_SECTIONS = (
    _use, _data, _methods, _results, _groups, _calibration, _explanations, _limits, _changes, _lineage, _software,
)  # fmt: skip


def _answers(sections: Sequence[Section]) -> Iterator[Answer]:
    by_key = {section.key: section for section in sections}
    for regime, point, asks, key in ASKED:
        section = by_key.get(key)
        empty = section is None or not (section.said or section.tables)
        state = "gap" if empty or section is None else "partly" if section.gaps else "answered"
        yield Answer(regime=regime, point=point, asks=asks, section=key, state=state)


def _pairs(tree: Mapping[str, Any], title: str = "") -> Table:
    return Table(title=title, rows=tuple((str(name), _text(value)) for name, value in tree.items()))


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(inner)}" for name, inner in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(_text(inner) for inner in value) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _interval(numbers: Mapping[str, Any]) -> tuple[str, str, str]:
    value, low, high = (_number(numbers.get(name)) for name in ("value", "low", "high"))
    return value, low, high


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"
