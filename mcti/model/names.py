"""How reports call the models of a comparison; files keep the keys."""

NETWORK, COX = "network_alone", "cox_part"
NOT_RECALIBRATED = "not_recalibrated"
"""Key of a recalibrated model before its recalibration."""
PARTS = (NETWORK, COX)
"""Keys of the two parts of MCTI: the same weights with the Cox model's weight set to 0, and to 1."""

DISPLAY = {
    "mcti": "MCTI",
    NETWORK: "MCTI: network alone",
    COX: "MCTI: Cox part alone",
    NOT_RECALIBRATED: "MCTI: before recalibration",
    "kaplan_meier": "Kaplan-Meier",
    "aalen_johansen": "Aalen-Johansen",
    "cause_specific_cox": "Cox: cause-specific, both events",
    "cox_clinical": "Cox: clinical",
    "cox_genes": "Cox: genes",
    "cox_clinical_genes": "Cox: clinical + genes",
    "cox_slides": "Cox: slides",
    "cox_slide_embedding": "Cox: slide embedding",
    "linear_all": "Cox: clinical + genes + slides",
    "forest": "Random survival forest",
    "boosting": "Gradient boosting",
    "subtype_only": "Cox: subtype alone",
    "site_only": "Cox: site alone",
}
"""Key of metrics.json -> name in a report."""


PART_NAMES = {
    "network_slides": "network, slides",
    "network_genes": "network, genes",
    "cox": "Cox part",
    "clinical": "clinical covariates",
    "critical_patches": "critical patches",
    "transport_plan": "transport plan",
    "mean_patch": "mean patch",
}
"""Key of the attribution's shares in metrics.json -> name in a report."""


def display(model: str) -> str:
    """The name of a model in a report; a network of `--comparator` keeps the name of its folder."""
    return DISPLAY.get(model, model)
