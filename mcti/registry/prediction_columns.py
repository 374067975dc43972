"""Columns of a prediction: the same names, order and types in `mcti predict`, the served model and its signature."""

from collections.abc import Sequence

from mcti.model.trained import incidence_column, survival_column

COLUMNS = {
    "patient_id": "text",
    "risk": "number",
    "risk_group": "text",
    "S_": "number",
    "F_": "number",
    "ood_score": "number",
    "out_of_distribution": "flag",
    "missing": "text",
    "unknown_genes": "count",
    "beyond_followup": "text",
    "model": "text",
    "digest": "text",
}
"""Type of each column, in the order of the columns; `S_` and `F_` are replaced by three columns per horizon.

`F_` exists for a model of a cohort with competing events only.
"""


def column_types(horizons_months: Sequence[float], *, competing: bool = False) -> dict[str, str]:
    """The type of each column at these horizons (months): text, number, count or flag.

    competing  whether the model predicts the cumulative incidence (`Ensemble.competing`)
    """
    columns = {"S_": survival_columns(horizons_months)}
    columns["F_"] = incidence_columns(horizons_months) if competing else []
    return {name: column_type for column, column_type in COLUMNS.items() for name in columns.get(column, [column])}


def survival_columns(horizons_months: Sequence[float]) -> list[str]:
    """`S_<months>`, `S_<months>_low` and `S_<months>_high` of each horizon (months)."""
    return [f"{survival_column(months)}{end}" for months in horizons_months for end in _ENDS]


def incidence_columns(horizons_months: Sequence[float]) -> list[str]:
    """`F_<months>`, `F_<months>_low` and `F_<months>_high` of each horizon (months)."""
    return [f"{incidence_column(months)}{end}" for months in horizons_months for end in _ENDS]


_ENDS = ("", "_low", "_high")
