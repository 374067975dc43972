"""Sections of the release dossier about purpose, data, methods, limits, changes, lineage and software."""

from collections.abc import Iterator, Mapping
from typing import Any

from mcti.registry import ledger_anchors, metric_labels, sbom, transfer_origin
from mcti.registry.card import GAP
from mcti.registry.dossier_document import DossierSource, Section, Table, interval, pairs
from mcti.registry.dossier_requirements import COHORT_LABELS
from mcti.registry.dossier_results import comparison_name


def use(source: DossierSource) -> Section:
    """Intended use."""
    card = source.card
    keys = {"intended use": "intended_use", "not intended": "not_intended", "contact": "contact"}
    table = pairs(
        {**{title: card[key] for title, key in keys.items()}, "new patients are predicted by": card["new_patients"]}
    )
    gaps = [
        f"{name}: state it in params.yaml (register.{name})"
        for name in ("intended_use", "contact")
        if card[name] == GAP
    ]
    open_points = ("instructions for use", "who may override the model, and how (human oversight)")
    return Section(key="use", title="Intended use", tables=(table,), gaps=(*gaps, *open_points))


def data(source: DossierSource) -> Section:
    """The cohort, its data contract, and the evaluated and excluded patients."""
    cohort, licences = source.card["data"], source.card["licences"]
    gaps = [] if licences["data"] != GAP else ["licence of the data (register.data_licence)"]
    gaps += ["setting, dates and eligibility of the cohort", "ethical approval"]
    if cohort == GAP:
        tables = (*_evaluated(source, {}), *_transfer(source))
        gaps = ["data contract: register with `mcti register --validation`", *gaps]
        return Section(key="data", title="Data and attrition", tables=tables, gaps=tuple(gaps))
    numbers = dict(cohort["numbers"] or {})
    counts = {label: numbers.pop(name) for name, label in COHORT_LABELS.items() if name in numbers}
    measurements = {metric_labels.MEASUREMENTS.get(str(name), str(name)): value for name, value in numbers.items()}
    contract = tuple(
        (
            expectation["description"],
            expectation["severity"],
            "met" if expectation["passed"] else f"FAILED in {expectation['failing']} of {expectation['rows']} rows",
        )
        for expectation in cohort["expectations"]
    )
    return Section(
        key="data",
        title="Data and attrition",
        paragraphs=(f"Cohort {cohort['name']}, MD5 {cohort['md5']}.", *(cohort["warnings"] or ())),
        tables=(
            *_evaluated(source, {"endpoint": cohort["endpoint"], "licence": licences["data"]}),
            pairs(counts, "the cohort as it was validated"),
            Table(headers=("data contract", "severity", "result"), rows=contract),
            pairs(measurements, "measurements of the data contract"),
            *_transfer(source),
        ),
        gaps=tuple(gaps),
    )


def _transfer(source: DossierSource) -> Iterator[Table]:
    """Other cohorts and the registered model that the training learned from; no table without any."""
    transfer = source.card.get("transfer", {})
    rows = tuple(
        (str(one.get("name", "")), transfer_origin.describe_source(one), one["digest"])
        for one in transfer.get("sources", ())
    )
    if rows:
        yield Table(
            title="other cohorts that the training learned from", headers=("cohort", "used", "digest"), rows=rows
        )
    if prior := transfer.get("prior"):
        yield pairs(prior, "registered model that the training started from")


def _evaluated(source: DossierSource, further: Mapping[str, Any]) -> Iterator[Table]:
    """The counts of the evaluated patients, and of the patients excluded at each step."""
    evaluation = source.evaluation
    labels = {
        "patients": "patients evaluated",
        "events": "events among them",
        "competing_events": "competing events: S(t) is cause-specific, and 1 - S(t) larger than the event probability",
        "late_entries": "patients under observation from a time after the origin, who count from their entry",
    }
    counts = {label: evaluation[name] for name, label in labels.items() if name in evaluation}
    if "median_follow_up" in evaluation:
        months = evaluation["median_follow_up"]
        counts["median follow-up, months (reverse Kaplan-Meier)"] = "not reached" if months is None else months
    yield pairs(counts | dict(further))
    steps: Mapping[str, Mapping[str, int]] = evaluation.get("excluded", {})
    rows = tuple((step, reason, str(count)) for step, reasons in steps.items() for reason, count in reasons.items())
    yield Table(headers=("excluded at", "reason", "patients"), rows=rows or (("no step", "none", "0"),))


def methods(source: DossierSource) -> Section:
    """Inputs, architecture, settings and outputs of the model."""
    card = source.card
    features = card["inputs"]["features"]
    known = features != GAP
    inputs = {name: value for name, value in card["inputs"].items() if name != "features"}
    inputs |= features if known else {"features": "unknown"}
    no_search = ("No search of the settings is recorded.",)
    return Section(
        key="methods",
        title="Methods",
        paragraphs=(
            "Scales, bins and imputation are fitted on the training part of each fold only. Each patient is predicted "
            "on one thread: the same input gives the same bits.",
            *source.metrics["mcti"].get("search", {}).get("sentences", no_search),
        ),
        tables=(
            pairs(inputs, "inputs"),
            pairs(card["architecture"], "architecture"),
            pairs(card["training"]["settings"], "settings of the training"),
            pairs(
                {
                    **card["outputs"],
                    "edges of the time bins, months": card["bins_months"],
                    "licence of the encoder": card["licences"]["encoder"],
                }
            ),
        ),
        gaps=() if known else ("origin of the features: extract them with `mcti extract` and train again",),
    )


def explanations(source: DossierSource) -> Section:
    """Contributions for example patients."""
    if not source.examples:
        gap = "examples: run `mcti explain`, then `mcti dossier --explanations DIR`"
        return Section(key="explanations", title="Explanation examples", gaps=(gap,))
    headers = tuple(source.examples[0])
    rows = tuple(tuple(row[name] for name in headers) for row in source.examples)
    return Section(
        key="explanations",
        title="Explanation examples",
        paragraphs=("Contributions to the risk by modality (integrated gradients); patient ids are hashed.",),
        tables=(Table(headers=headers, rows=rows),),
    )


def limits(source: DossierSource) -> Section:
    """Known limits, and comparisons without evidence of superiority."""
    paragraphs = [source.card["notice"]] if source.card["notice"] else []
    paragraphs += source.evaluation.get("warnings", [])
    for name, contrast in source.metrics["mcti"].get("comparison", {}).items():
        if (name == "cox_clinical" or contrast.get("primary")) and not (contrast["difference"]["low"] or 0) > 0:
            value, low, high = interval(contrast["difference"])
            paragraphs.append(
                f"The model was not shown to be better than {comparison_name(name, contrast)}: "
                f"difference of C {value} ({low} to {high})."
            )
    paragraphs += [
        "Out-of-fold results on the development cohort do not predict the results in another hospital.",
        "Risks have no unit and are comparable within this model only.",
        "Patients who differ from the training cohort are flagged, not refused; monitor the drift of the inputs "
        "(mcti monitor).",
    ]
    if source.card["new_patients"].startswith("the refit"):
        paragraphs.append(
            "New patients are predicted by a refit, for which no test patients remain: its evidence is that of the "
            "folds."
        )
    gaps = ("clinical consequences of a wrong risk", "risk management (Article 9)", "clinical evaluation")
    return Section(key="limits", title="Limits and risks", paragraphs=tuple(paragraphs), gaps=gaps)


def changes(source: DossierSource) -> Section:
    """The gate evaluation of the version, and the ledger of the model."""
    title = "Change against the last champion"
    evaluated = [entry for entry in source.entries if entry.version == source.version and entry.evidence.get("gates")]
    if not evaluated:
        return Section(key="changes", title=title, gaps=("no gate evaluation: run `mcti promote`",))
    entry = evaluated[-1]
    rows = tuple((gate["name"], gate["verdict"], gate["reason"]) for gate in entry.evidence["gates"])
    history = tuple(
        (str(one.number), one.time, one.who, one.action, str(one.version), str(one.champion or "none"))
        for one in source.entries
    )
    return Section(
        key="changes",
        title=title,
        paragraphs=(f"Ledger entry {entry.number}: {entry.action}: {entry.evidence.get('reason', '')}.",),
        tables=(
            Table(headers=("gate", "verdict", "reason"), rows=rows),
            Table(headers=("entry", "time", "who", "action", "version", "champion after"), rows=history),
        ),
    )


def lineage(source: DossierSource) -> Section:
    """Digest, commit, image and data versions."""
    record = source.card["lineage"]
    values = {name: record[name] for name in ("digest", "commit", "image", "folds")}
    values |= {f"data {path}": md5 for path, md5 in record["data"].items()}
    values |= {f"ledger entry {entry.number}": entry.hash for entry in source.entries[-1:]}
    gaps = [*source.anchor_faults, *_anchor_gaps(source)]
    if str(record["commit"]).endswith("-dirty") or record["commit"] == "unknown":
        gaps.append("code or settings were not those of a commit: commit them and train again")
    if "@sha256:" not in str(record["image"]):
        gaps.append("no image with a digest: train and register in one (MCTI_IMAGE)")
    tables = (pairs(values), pairs(_anchors(source), title="anchors of the ledger, stored outside of it"))
    return Section(key="lineage", title="Lineage", tables=tables, gaps=tuple(gaps))


def _anchors(source: DossierSource) -> dict[str, str]:
    """Where number and hash of the last entry stand outside of the ledger, and the text to compare with paper."""
    if not source.entries:
        return {"ledger": "no entry"}
    objects = "none" if source.anchors is None else source.anchors.described()
    printed = ledger_anchors.printed(source.entries[-1]).splitlines()[-1]
    return {"tag of the registered model": "the last entry", "objects": objects, "last entry, for paper": printed}


def _anchor_gaps(source: DossierSource) -> list[str]:
    if not source.entries or (source.anchors is not None and source.anchors.locked):
        return []
    what = "are not configured" if source.anchors is None else "are not known to be locked"
    hint = "set MCTI_LEDGER_ANCHORS to a bucket with object lock, or keep the anchor of `mcti ledger anchor` on paper"
    return [f"anchors of the ledger {what}: {hint}"]


def software(source: DossierSource) -> Section:
    """The packages and their licences."""
    components = source.sbom["components"]
    rows = tuple((part["name"], part["version"], sbom.licence(part) or GAP) for part in components)
    unknown = [row[0] for row in rows if row[2] == GAP]
    text = f"{len(components)} packages at the registration; CycloneDX 1.5 in the JSON file next to this page."
    return Section(
        key="software",
        title="Software (SBOM)",
        paragraphs=(text,),
        tables=(Table(headers=("package", "version", "licence"), rows=rows),),
        gaps=(f"licence not stated by: {', '.join(unknown)}",) if unknown else (),
    )
