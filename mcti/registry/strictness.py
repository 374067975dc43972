"""The settings of a promotion that are less strict than those in the project's params.yaml."""

from mcti.params import PromoteParams

LOOSER_ABOVE = ("alpha", "ibs_margin", "calibration_margin", "group_margin", "group_min_events", "baseline_margin",
                "baseline_ibs_margin", "max_latency_ratio", "max_memory_ratio")  # fmt: skip
"""Settings that are less strict the larger they are."""
LOOSER_BELOW = ("margin", "looks", "confidence", "min_events", "approvals", "require_contract", "require_baseline",
                "external", "signed_approvals")  # fmt: skip
"""Settings that are less strict the smaller they are; `looks`: fewer looks spend more of alpha each."""


def less_strict(params: PromoteParams, agreed: PromoteParams) -> list[str]:
    """One phrase for each setting of `params` that is less strict than in `agreed`."""
    directions = [(name, 1) for name in LOOSER_ABOVE] + [(name, -1) for name in LOOSER_BELOW]
    changed = [name for name, sign in directions if sign * (getattr(params, name) - getattr(agreed, name)) > 0]
    return [f"promote.{name} {_text(params, name)} (params.yaml: {_text(agreed, name)})" for name in changed]


def _text(params: PromoteParams, name: str) -> str:
    value = getattr(params, name)
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
