"""The parts of a model that is an ensemble of a network and a ridge Cox model, and what each part contributes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

SMALL_SHARE = 0.01
"""Below this share of the attribution a part gets a sentence in reports, no figure and no table."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "network_slides": ("patch", "focus", "carried", "mean_patch"),
    "network_genes": ("gene",),
    "cox": ("linear_slides", "linear_genes"),
    "clinical": ("clinical", "covariates"),
}
"""Part of the model -> kinds of tokens of `mcti.model.attribution`; `clinical` is read by network and Cox model."""

DETAILS: Mapping[str, tuple[str, ...]] = {
    "critical_patches": ("patch", "focus"),
    "transport_plan": ("carried",),
    "mean_patch": ("mean_patch",),
}
"""The same of the network's slides: what comes through critical patches, transport plan and mean patch."""


@dataclass(frozen=True)
class AttributionShares:
    """Shares of the attribution, of `patients` test patients; shares by GROUPS sum to 1, details are within slides."""

    patients: int
    shares: Mapping[str, float]
    details: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"patients": self.patients, "shares": dict(self.shares), "details": dict(self.details)}


def shares(tokens: list[Mapping[str, float]]) -> AttributionShares | None:
    """Shares of the sum of |part| over all tokens and patients; None without a patient, or where all parts are 0.

    tokens  one mapping a patient, token -> part of the risk (`Attribution.tokens`). Absolute values, since parts of
            both signs cancel: a share says how much of the prediction moves through a part, not in which direction.
    """
    sums: dict[str, float] = {}
    for one in tokens:
        for name, part in one.items():
            kind = _kind(name)
            sums[kind] = sums.get(kind, 0.0) + abs(part)
    total = sum(sums.values())
    if total == 0:
        return None
    grouped, detailed = (
        {name: sum(sums.get(kind, 0.0) for kind in kinds) / total for name, kinds in table.items()}
        for table in (GROUPS, DETAILS)
    )
    return AttributionShares(len(tokens), grouped, detailed)


def _kind(token: str) -> str:
    """`patch_12` -> `patch`; `mean_patch` and `linear_genes` are kinds themselves."""
    kind, _, number = token.rpartition("_")
    return kind if number.isdecimal() else token
