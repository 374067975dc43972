"""The measures of an evaluation in words, for readers who do not know the keys of metrics.json."""

MEASURES = {
    "auc": "AUC (1 is best, 0.5 is chance)",
    "brier": "Brier score (lower is better)",
    "c_index": "Harrell's C (1 is best, 0.5 is chance)",
    "c_within_subtype": "Harrell's C within subtypes",
    "ibs": "integrated Brier score (lower is better)",
    "ibs_skill": "share of the Kaplan-Meier curve's Brier error removed (0 is none)",
    "ici": "integrated calibration index (lower is better)",
    "intercept": "calibration intercept (0 is best)",
    "slope": "calibration slope (1 is best)",
    "subtype_auroc": "AUROC of the subtype",
    "subtype_macro_f1": "macro F1 of the subtype",
    "uno_c": "Uno's C (1 is best, 0.5 is chance)",
}


def worded(name: str) -> str:
    """A key of metrics.json in words, with its direction; what stands at a horizon ends in its months."""
    kind, _, months = name.rpartition("_")
    if kind in MEASURES and months.replace(".", "", 1).isdecimal():
        return f"{MEASURES[kind]} at {months} months"
    return MEASURES.get(name, name)
