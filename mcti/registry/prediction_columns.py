"""Columns of a prediction: the same names, order and types in `mcti predict`, the served model and its signature."""

from collections.abc import Sequence

from mcti.model.trained import survival_column

COLUMNS = {
    "patient_id": "text",
    "risk": "number",
    "risk_group": "text",
    "S_": "number",
    "ood_score": "number",
    "out_of_distribution": "flag",
    "missing": "text",
    "unknown_genes": "count",
    "beyond_followup": "text",
    "model": "text",
    "digest": "text",
}
"""Type of each column, in the order of the columns; `S_` is replaced by three columns per horizon."""


def column_types(horizons_months: Sequence[float]) -> dict[str, str]:
    """The type of each column at these horizons (months): text, number, count or flag."""
    types: dict[str, str] = {}
    for name, column_type in COLUMNS.items():
        names = survival_columns(horizons_months) if name == "S_" else [name]
        types |= dict.fromkeys(names, column_type)
    return types


def survival_columns(horizons_months: Sequence[float]) -> list[str]:
    """`S_<months>`, `S_<months>_low` and `S_<months>_high` of each horizon (months)."""
    return [f"{survival_column(months)}{end}" for months in horizons_months for end in ("", "_low", "_high")]
