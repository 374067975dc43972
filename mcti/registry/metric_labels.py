"""Labels of the metrics of an evaluation, for readers of reports; each names the best value or direction."""

LABELS = {
    "auc": "time-dependent AUC (1 is best, 0.5 is chance)",
    "brier": "Brier score (lower is better)",
    "brier_competing": "Brier score of the cumulative incidence (lower is better)",
    "c_competing": "C for competing risks (1 is best, 0.5 is chance)",
    "c_index": "Harrell's C (1 is best, 0.5 is chance)",
    "c_within_subtype": "Harrell's C within subtypes",
    "ibs": "integrated Brier score (lower is better)",
    "ibs_competing": "integrated Brier score of the cumulative incidence (lower is better)",
    "ibs_skill": "reduction of the Kaplan-Meier curve's integrated Brier score (1 is best, 0 is none)",
    "ibs_skill_competing": "reduction of the Aalen-Johansen curve's integrated Brier score (1 is best, 0 is none)",
    "ici": "integrated calibration index (lower is better)",
    "ici_competing": "integrated calibration index of the cumulative incidence (lower is better)",
    "intercept": "calibration intercept (0 is best)",
    "oe_competing": "observed / expected events of the cumulative incidence (1 is best)",
    "slope": "calibration slope (1 is best)",
    "subtype_auroc": "AUROC of the subtype",
    "subtype_macro_f1": "macro F1 of the subtype",
    "uno_c": "Uno's C (1 is best, 0.5 is chance)",
}

MEASUREMENTS = {
    "competing_events": "competing events",
    "early_censored_share": "share of patients censored within three months",
    "encoders": "number of encoders of the features",
    "events_later": "probability that an event is later than a censoring",
    "failed_slides_share": "share of slides without usable features",
    "foreign_profiles": "expression profiles without a patient",
    "negative_values": "genes with negative counts or TPM",
    "no_followup_share": "share of patients excluded for missing follow-up",
    "orientation": "log likelihood ratio of the event flag as written and inverted",
    "resolutions": "number of resolutions of the features",
    "site_predictability": "predictability of the site from expression (0 is chance, 1 always correct)",
    "site_variance": "share of the variance of genes that sites explain",
    "tied_share": "share of patients with the most frequent follow-up time",
    "widths": "number of widths of the features",
}
"""Labels of the measurements of the data contract (`mcti validate`)."""


def label(name: str) -> str:
    """The label of a key of metrics.json; a metric of one horizon ends in its months. An unknown key is unchanged."""
    metric, _, months = name.rpartition("_")
    if metric in LABELS and months.replace(".", "", 1).isdecimal():
        return f"{LABELS[metric]} at {months} months"
    return LABELS.get(name, name)
