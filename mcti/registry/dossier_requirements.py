"""Requirements on the release dossier, the section that answers each, and labels of the cohort's counts."""

from collections.abc import Sequence

_AI_ACT, _TRIPOD, _CARD = "EU AI Act, Annex IV", "TRIPOD+AI", "model card"
REQUIREMENTS: Sequence[tuple[str, str, str, str]] = (
    (_AI_ACT, "1(a)", "intended purpose, provider, version", "use"),
    (_AI_ACT, "1(b)", "interaction with other hardware and software", ""),
    (_AI_ACT, "1(c)", "versions of software and firmware", "software"),
    (_AI_ACT, "1(d)-(g)", "forms of supply, hardware, product pictures, user interface", ""),
    (_AI_ACT, "1(h)", "instructions for use", ""),
    (_AI_ACT, "2(a)-(c)", "development, design choices, architecture, resources", "methods"),
    (_AI_ACT, "2(d)", "data: provenance, selection, labelling, cleaning", "data"),
    (_AI_ACT, "2(e)", "human oversight", ""),
    (_AI_ACT, "2(f)", "predetermined changes", "changes"),
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

"""(document, point, requirement, key of the section); an empty key: no section answers it."""

COHORT_LABELS = {
    "patients": "patients in the cohort, before the split",
    "events": "events in the cohort, before the split",
    "event_rate": "share of events in the cohort",
    "median_followup": "median follow-up of the cohort, months",
    "slides": "slides",
    "genes": "genes",
    "subtypes": "subtypes",
}
"""Labels of the counts of the cohort; all other numbers of a validation are measurements of the contract."""
