"""The model card of a version (Mitchell et al. 2019, FAT*: 220-229): what it is, for whom, how good, what it lacks.

Everything comes from the run or from params.yaml; what neither knows is a gap, and is called one.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from mcti.params import RegisterParams
from mcti.registry.evidence import OURS, Evidence

GAP = "GAP"
_SHOWN = ("c_index", "uno_c", "ibs", "ibs_skill")


def build(
    evidence: Evidence, params: RegisterParams, lineage: Mapping[str, Any], encoder_licence: str
) -> dict[str, Any]:
    """The card as a tree of plain values.

    lineage  {digest, commit, image, folds, data: {path: MD5}};  encoder_licence: empty where it is not known
    """
    spec, metrics = evidence.spec, evidence.metrics[OURS]
    config, made = spec["config"], dict(spec.get("features", {}))
    genes = list(config["genes"])
    return {
        "name": params.name,
        "intended_use": params.intended_use or GAP,
        "not_intended": "decisions about a patient without a clinician; patients unlike those of the training cohort",
        "contact": params.contact or GAP,
        "notice": evidence.notice,
        "architecture": {name: value for name, value in config.items() if name not in ("genes", "classes")},
        "new_patients": "the refit on all patients" if params.predictor == "refit" else "the mean of all fold models",
        "inputs": {
            "genes": len(genes),
            "genes_sha256": hashlib.sha256("\n".join(genes).encode()).hexdigest(),
            "covariates": list(config.get("covariates", ())),
            "features": made or GAP,
        },
        "outputs": {"risk": "higher: earlier event; no unit", "survival_months": list(spec["horizons_months"])},
        "data": dict(evidence.cohort) or GAP,
        "bins_months": spec["fitted"]["edges_months"],
        "training": {"patients_a_fold": len(spec.get("patients", ())), "settings": dict(spec.get("params", {}))},
        "evaluation": {
            "method": "out of fold: every patient by a model that had not seen them; 95 % bootstrap intervals",
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


def markdown(card: Mapping[str, Any]) -> str:
    """The card as the description of the version in MLflow."""
    scores = card["evaluation"]["metrics"]
    rows = [f"| {name} | {_shown(numbers)} |" for name, numbers in scores.items()]
    used = [("Intended use", "intended_use"), ("Not intended", "not_intended"), ("Contact", "contact")]
    notice = [f"**Notice:** {card['notice']}", ""] if card["notice"] else []
    licences = ", ".join(f"{what} {licence}" for what, licence in card["licences"].items())
    lineage = card["lineage"]
    return "\n".join(
        [
            f"# {card['name']}",
            "",
            *notice,
            *(f"**{title}:** {card[key]}  " for title, key in used),
            f"**New patients:** {card['new_patients']}  ",
            f"**Evaluated:** {evaluated(card)}  ",
            f"**Data contract:** {card['evaluation']['data_contract']}  ",
            f"**Licences:** {licences}",
            "",
            "| metric, out of fold | value [95 % interval] |",
            "|---|---|",
            *rows,
            "",
            ", ".join(f"{what} {lineage[what]}" for what in ("digest", "commit", "image", "folds")),
        ]
    )


def evaluated(card: Mapping[str, Any]) -> str:
    """Patients and events that were evaluated, and who was excluded at which step, in one line."""
    told = card["evaluation"]
    if "patients" not in told:
        return "not recorded"
    excluded = told.get("excluded", {})
    gone = [f"{n} at {step} ({why})" for step, reasons in excluded.items() for why, n in reasons.items()]
    counts = f"{told['patients']} patients, {told['events']} events"
    return f"{counts}; excluded: {', '.join(gone) or 'nobody'}"


def gaps(tree: Any, place: str = "") -> list[str]:
    """The dotted places at which the card has a gap."""
    if isinstance(tree, Mapping):
        return [gap for key, value in tree.items() for gap in gaps(value, f"{place}.{key}".lstrip("."))]
    return [place] if tree == GAP else []


def _shown(numbers: Mapping[str, float | None]) -> str:
    value, low, high = (numbers.get(name) for name in ("value", "low", "high"))
    if value is None:
        return "not defined"
    return f"{value:.3f}" + ("" if low is None or high is None else f" [{low:.3f}, {high:.3f}]")
