"""How much each part of the model contributes to its predictions: shares of the attribution by part."""

from collections.abc import Mapping
from dataclasses import dataclass, field

SMALL_SHARE = 0.01
"""A part with a smaller share of the attribution gets a sentence in reports, no figure and no table."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "network_slides": ("patch", "focus", "carried", "mean_patch"),
    "network_genes": ("gene",),
    "cox": ("linear_slides", "linear_genes"),
    "clinical": ("clinical", "covariates"),
}
"""Part of the model -> token types of `mcti.model.attribution`; network and Cox model both read `clinical`."""

DETAILS: Mapping[str, tuple[str, ...]] = {
    "critical_patches": ("patch", "focus"),
    "transport_plan": ("carried",),
    "mean_patch": ("mean_patch",),
}
"""The same for the slides of the network: critical patches, transport plan, mean patch."""


@dataclass(frozen=True)
class AttributionShares:
    """Shares of the attribution over `patients` patients; `shares` add up to 1, `details` are parts of the slides."""

    patients: int
    shares: Mapping[str, float]
    details: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"patients": self.patients, "shares": dict(self.shares), "details": dict(self.details)}


def shares(tokens: list[Mapping[str, float]]) -> AttributionShares | None:
    """Shares of the sum of |contribution| over all tokens and patients; None where that sum is 0.

    tokens  one mapping per patient: token -> contribution to the risk (`Attribution.tokens`)

    Trap: contributions of both signs cancel, so the shares are of absolute values. A share shows how much of the
    prediction depends on a part, not in which direction.
    """
    sums: dict[str, float] = {}
    for contributions in tokens:
        for token, contribution in contributions.items():
            token_type = _token_type(token)
            sums[token_type] = sums.get(token_type, 0.0) + abs(contribution)
    total = sum(sums.values())
    if total == 0:
        return None
    grouped, detailed = (
        {name: sum(sums.get(token_type, 0.0) for token_type in types) / total for name, types in table.items()}
        for table in (GROUPS, DETAILS)
    )
    return AttributionShares(len(tokens), grouped, detailed)


def _token_type(token: str) -> str:
    """`patch_12` -> `patch`; `mean_patch` and `linear_genes` are types themselves."""
    prefix, _, number = token.rpartition("_")
    return prefix if number.isdecimal() else token
