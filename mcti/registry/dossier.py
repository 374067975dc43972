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

from mcti.registry import measures, sbom
from mcti.registry.card import GAP
from mcti.registry.ledger import Line

_HELD_BACK = ("subgroups", "folds", "comparison", "decision", "risk_groups")


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
    """What the registry holds of a version. explained: contributions of example patients, {column: value} each."""

    model_config = ConfigDict(frozen=True)
    version: int
    alias: str
    card: dict[str, Any]
    metrics: dict[str, Any]
    sbom: dict[str, Any]
    lines: tuple[Line, ...]
    figures: tuple[str, ...] = ()
    explained: tuple[dict[str, str], ...] = ()


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


_COHORT = {
    "patients": "patients",
    "events": "events",
    "event_rate": "share of events",
    "median_followup": "median follow-up, months",
    "slides": "slides",
    "genes": "genes",
    "subtypes": "subtypes",
}
"""What the contract counts of the cohort itself, in words; the rest are its measures."""


def _data(facts: Facts) -> Section:
    data, licences = facts.card["data"], facts.card["licences"]
    gaps = [] if licences["data"] != GAP else ["licence of the data (register.data_licence)"]
    gaps += ["setting, dates and eligibility of the cohort", "ethical approval"]
    if data == GAP:
        return Section(key="data", title="Data and attrition", gaps=("mcti register --validation", *gaps))
    counted = dict(data["numbers"] or {})
    cohort = {words: counted.pop(name) for name, words in _COHORT.items() if name in counted}
    cohort |= {"endpoint": data["endpoint"], "licence": licences["data"]}
    left = tuple((reason, str(count)) for reason, count in data["attrition"].items()) or (("nobody", "0"),)
    contract = tuple(
        (
            found["says"],
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
            _pairs(cohort),
            Table(heads=("left out because", "patients"), rows=left),
            Table(heads=("data contract", "severity", "held"), rows=contract),
            _pairs(counted, "what the contract measured"),
        ),
        gaps=tuple(gaps),
    )


def _methods(facts: Facts) -> Section:
    card = facts.card
    made = card["inputs"]["features"]
    gaps = () if made != GAP else ("how the features were made: extract them with `mcti extract` and train again",)
    inputs = {**card["inputs"], "features": "not known" if made == GAP else ""} | (made if made != GAP else {})
    return Section(
        key="methods",
        title="Methods",
        said=(
            "Scales, bins and imputation are fitted on the training part of each fold alone; settings are searched on "
            "inner folds. One patient at a time, one thread: the same input gives the same bits.",
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
        (measures.worded(name), *_interval(numbers)) for name, numbers in sorted(ours.items())
        if name not in _HELD_BACK and isinstance(numbers, Mapping) and "value" in numbers
    )  # fmt: skip
    against = tuple(
        (name, *_interval(found["difference"]), _number(found.get("p_holm")))
        for name, found in ours.get("comparison", {}).items()
    )
    return Section(
        key="results",
        title="Results",
        said=(f"Method: {facts.card['evaluation']['method']}.",),
        tables=(
            Table(heads=("metric", "value", "from", "to"), rows=rows),
            Table(heads=("C-index minus that of", "value", "from", "to", "p (Holm)"), rows=against),
        ),
        figures=tuple(name for name in facts.figures if name in ("forest", "kaplan_meier", "brier", "decision_curve")),
        gaps=("external validation in another hospital",),
    )


def _groups(facts: Facts) -> Section:
    found = facts.metrics["mcti"].get("subgroups", [])
    rows = tuple(
        (group["name"], str(group["patients"]), str(group["events"]), *_interval(group["c_index"])) for group in found
    )
    gaps = () if rows else ("no group of the cohort has enough events",)
    told = "A group of fewer than ten events has no C-index."
    heads = ("group", "patients", "events", "C-index", "from", "to")
    return Section(
        key="groups", title="Results by group", said=(told,), tables=(Table(heads=heads, rows=rows),), gaps=gaps
    )


def _calibration(facts: Facts) -> Section:
    ours = facts.metrics["mcti"]
    kinds = ("slope_", "intercept_", "ici_", "brier_")
    rows = tuple((measures.worded(name), *_interval(ours[name])) for name in sorted(ours) if name.startswith(kinds))
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
    clinical = facts.metrics["mcti"].get("comparison", {}).get("cox_clinical", {}).get("difference", {})
    if clinical and not (clinical["low"] or 0) > 0:
        value, low, high = _interval(clinical)
        said.append(
            f"It was not shown to beat the clinical Cox model: difference of the C-index {value} ({low} to {high})."
        )
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

_AI_ACT, _TRIPOD, _CARD = "EU AI Act, Annex IV", "TRIPOD+AI", "model card"
_ASKED: Sequence[tuple[str, str, str, str]] = (
    (_AI_ACT, "1(a)", "intended purpose, provider, version", "use"),
    (_AI_ACT, "1(b)", "interaction with other hardware and software", ""),
    (_AI_ACT, "1(c)", "versions of software and firmware", "software"),
    (_AI_ACT, "1(d)-(g)", "forms of supply, hardware, product pictures, user interface", ""),
    (_AI_ACT, "1(h)", "instructions for use", ""),
    (_AI_ACT, "2(a)-(c)", "development, design choices, architecture, resources", "methods"),
    (_AI_ACT, "2(d)", "data: provenance, selection, labelling, cleaning", "data"),
    (_AI_ACT, "2(e)", "human oversight", ""),
    (_AI_ACT, "2(f)", "changes foreseen beforehand", "changes"),
    (_AI_ACT, "2(g)", "validation and testing, metrics, discriminatory impact", "results"),
    (_AI_ACT, "2(h)", "cybersecurity (docs/security.md)", "lineage"),
    (_AI_ACT, "3", "capabilities and limits, accuracy by group, specification of input", "groups"),
    (_AI_ACT, "4", "whether the metrics are appropriate", "calibration"),
    (_AI_ACT, "5", "risk management system (Article 9)", ""),
    (_AI_ACT, "6", "changes through the lifecycle", "changes"),
    (_AI_ACT, "7", "harmonised standards", ""),
    (_AI_ACT, "8", "EU declaration of conformity", ""),
    (_AI_ACT, "9", "post-market monitoring plan (Article 72)", ""),
    (_TRIPOD, "3-4", "background and objectives", "use"),
    (_TRIPOD, "5-7", "sources, participants, preparation of the data", "data"),
    (_TRIPOD, "8-9", "outcome and predictors", "methods"),
    (_TRIPOD, "10-13", "size, missing data, analysis, imbalance", "methods"),
    (_TRIPOD, "14", "fairness", "groups"),
    (_TRIPOD, "15-16", "output; training against evaluation", "methods"),
    (_TRIPOD, "17-19", "ethics, open science, patients and public", ""),
    (_TRIPOD, "20", "flow and characteristics of the participants", "data"),
    (_TRIPOD, "22", "the full model", "lineage"),
    (_TRIPOD, "23", "performance with intervals, heterogeneity", "results"),
    (_TRIPOD, "24", "updating of the model", "changes"),
    (_TRIPOD, "25-27", "interpretation, limits, use in care", "limits"),
    (_CARD, "details", "model, version, licence, contact", "use"),
    (_CARD, "factors", "groups", "groups"),
    (_CARD, "metrics", "performance and its spread", "results"),
    (_CARD, "data", "evaluation and training data", "data"),
    (_CARD, "analyses", "explanations", "explanations"),
    (_CARD, "ethics", "risks and mitigations, caveats", "limits"),
)  # fmt: skip


def _answers(sections: Sequence[Section]) -> Iterator[Answer]:
    by_key = {section.key: section for section in sections}
    for regime, point, asks, key in _ASKED:
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
