"""Which settings of a promotion are looser than those that a project agreed on in its params.yaml."""

from mcti.params import PromoteParams

LOOSER_ABOVE = ("alpha", "ibs_margin", "calibration_margin", "group_margin", "group_min_events", "max_latency_ratio",
                "max_memory_ratio")  # fmt: skip
"""Settings that let more through the larger they are."""
LOOSER_BELOW = ("margin", "looks", "confidence", "min_events", "approvals", "require_contract")
"""Settings that let more through the smaller they are; `looks`: fewer spend more of alpha at each."""


def looser(given: PromoteParams, agreed: PromoteParams) -> list[str]:
    """One phrase for each setting of `given` that lets more through than `agreed` does."""
    found = [(name, 1) for name in LOOSER_ABOVE] + [(name, -1) for name in LOOSER_BELOW]
    changed = [name for name, sign in found if sign * (getattr(given, name) - getattr(agreed, name)) > 0]
    return [f"promote.{name} {_shown(given, name)} (params.yaml: {_shown(agreed, name)})" for name in changed]


def _shown(params: PromoteParams, name: str) -> str:
    value = getattr(params, name)
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
