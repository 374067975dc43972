"""The model card of a version (Mitchell et al. 2019, FAT*: 220-229): purpose, inputs, performance, limits.

All values come from the run or from params.yaml; a value that neither contains is shown as a gap.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from mcti.model.categories import Category
from mcti.params import RegisterParams
from mcti.registry import metric_labels, transfer_origin
from mcti.registry.evidence import MODEL, Evidence

GAP = "GAP"
_ELSEWHERE = ("genes", "classes", "categories")
"""Fields of the configuration that the card does not list with the architecture."""
_SHOWN = ("c_index", "uno_c", "ibs", "ibs_skill")


def build(
    evidence: Evidence, params: RegisterParams, lineage: Mapping[str, Any], encoder_licence: str
) -> dict[str, Any]:
    """The card as a tree of plain values.

    lineage  {digest, commit, image, folds, data: {path: MD5}};  encoder_licence: empty where it is unknown
    """
    spec, metrics = evidence.spec, evidence.metrics[MODEL]
    config, feature_attributes = spec["config"], dict(spec.get("features", {}))
    genes = list(config["genes"])
    return {
        "name": params.name,
        "intended_use": params.intended_use or GAP,
        "not_intended": "decisions about a patient without a clinician; patients unlike those of the training cohort",
        "contact": params.contact or GAP,
        "notice": evidence.notice,
        "architecture": {name: value for name, value in config.items() if name not in _ELSEWHERE},
        "new_patients": "the refit on all patients" if params.predictor == "refit" else "the mean of all fold models",
        "inputs": {
            "genes": len(genes),
            "genes_sha256": hashlib.sha256("\n".join(genes).encode()).hexdigest(),
            "covariates": covariates(config),
            "features": feature_attributes or GAP,
        },
        "outputs": outputs(spec),
        "data": dict(evidence.cohort) or GAP,
        "transfer": transfer_origin.transfer_of(spec),
        "bins_months": spec["fitted"]["edges_months"],
        "training": {"patients_per_fold": len(spec.get("patients", ())), "settings": dict(spec.get("params", {}))},
        "evaluation": {
            "method": "out of fold: each patient by a model that was not trained on them; 95 % bootstrap intervals",
            **dict(evidence.evaluated),
            "metrics": {name: metrics[name] for name in _SHOWN if name in metrics},
            "folds": metrics.get("folds", []),
            "subgroups": metrics.get("subgroups", []),
            "data_contract": evidence.contract,
        },
        "lineage": dict(lineage),
        "licences": {
            "code": "Apache-2.0",
            "encoder": encoder_licence or GAP,
            "data": params.data_licence or GAP,
        },
    }


def outputs(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What the model predicts; spec: model.json."""
    months = list(spec["horizons_months"])
    incidence = {"cumulative_incidence_months": months} if "competing_hazard" in spec["fitted"] else {}
    return {"risk": "higher: earlier event; no unit", "survival_months": months, **incidence}


def covariates(config: Mapping[str, Any]) -> list[str]:
    """The names of the covariates; a categorical one with the levels of the training: `stage (I < II < III)`."""
    levels = {one["name"]: Category(**one).describe() for one in config.get("categories", ())}
    return [levels.get(name, name) for name in config.get("covariates", ())]


def markdown(card: Mapping[str, Any]) -> str:
    """The card as the description of the version in MLflow."""
    scores = card["evaluation"]["metrics"]
    rows = [f"| {metric_labels.label(name)} | {_value(numbers)} |" for name, numbers in scores.items()]
    statements = [("Intended use", "intended_use"), ("Not intended", "not_intended"), ("Contact", "contact")]
    notice = [f"**Notice:** {card['notice']}", ""] if card["notice"] else []
    licences = ", ".join(f"{subject} {licence}" for subject, licence in card["licences"].items())
    lineage = card["lineage"]
    return "\n".join(
        [
            f"# {card['name']}",
            "",
            *notice,
            *(f"**{title}:** {card[key]}  " for title, key in statements),
            f"**New patients:** {card['new_patients']}  ",
            f"**Evaluated:** {evaluated(card)}  ",
            f"**Data contract:** {card['evaluation']['data_contract']}  ",
            *(f"**Learned from:** {line}  " for line in transfer_origin.lines(card.get("transfer", {}))),
            f"**Licences:** {licences}",
            "",
            "| metric (out of fold) | value [95 % interval] |",
            "|---|---|",
            *rows,
            "",
            ", ".join(f"{name} {lineage[name]}" for name in ("digest", "commit", "image", "folds")),
        ]
    )


def evaluated(card: Mapping[str, Any]) -> str:
    """The numbers of evaluated patients and events, and of patients excluded at each step, in one line."""
    evaluation = card["evaluation"]
    if "patients" not in evaluation:
        return "not recorded"
    steps = evaluation.get("excluded", {})
    excluded = [f"{count} at {step} ({reason})" for step, reasons in steps.items() for reason, count in reasons.items()]
    counts = f"{evaluation['patients']} patients, {evaluation['events']} events"
    if competing := evaluation.get("competing_events"):
        meaning = "S(t) is cause-specific: 1 - S(t) is larger than the probability of the event"
        if "cumulative_incidence_months" in card.get("outputs", {}):
            meaning += ", which is the output F(t)"
        counts += f", {competing} competing events ({meaning})"
    if late := evaluation.get("late_entries"):
        counts += f", {late} under observation from a time after the origin (they count from their entry)"
    return f"{counts}; excluded: {', '.join(excluded) or 'none'}"


def gaps(tree: Any, path: str = "") -> list[str]:
    """The dotted paths of the card's gaps."""
    if isinstance(tree, Mapping):
        return [gap for key, value in tree.items() for gap in gaps(value, f"{path}.{key}".lstrip("."))]
    return [path] if tree == GAP else []


def _value(numbers: Mapping[str, float | None]) -> str:
    value, low, high = (numbers.get(name) for name in ("value", "low", "high"))
    if value is None:
        return "not defined"
    return f"{value:.3f}" + ("" if low is None or high is None else f" [{low:.3f}, {high:.3f}]")
