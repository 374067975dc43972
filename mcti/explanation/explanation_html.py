"""The explanation of one patient as a self-contained page: no network, no script, light and dark, prints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from mcti.explanation import drawing
from mcti.explanation.gene_sets import Enrichment

_BARS = 10
_LEVEL = 0.05
_SMALL = 0.01
"""Share of the attribution below which a transport plan gets a sentence and no table."""


@dataclass(frozen=True)
class Group:
    """One gene group: its token's part of the risk, its genes by weight, the sets that it is rich in, by p."""

    name: str
    part: float
    genes: Sequence[tuple[str, float]]
    sets: Sequence[Enrichment]


@dataclass(frozen=True)
class Member:
    """What one model of the ensemble says. plan: (clusters, groups) of mass; tokens: (name, part), largest first;
    shares: of the attribution of this patient, by name: `critical patches`, `transport plan`."""

    name: str
    risk: float
    baseline: float
    gap: float
    tokens: Sequence[tuple[str, float]]
    groups: Sequence[Group]
    plan: Sequence[Sequence[float]]
    cluster_patches: Sequence[int]
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SlideMap:
    """The tiles of one slide: png is a data: address, empty where the features have no coordinates."""

    slide_id: str
    tiles: int
    part: float
    png: str


def render(
    patient_id: str,
    cohort: str,
    notice: str,
    numbers: Mapping[str, float],
    genes: Sequence[tuple[str, float]],
    members: Sequence[Member],
    slides: Sequence[SlideMap],
) -> str:
    """The page. numbers: risk, baseline, gap and the part of each modality; genes: (gene, part), all of them."""
    from jinja2 import Environment
    from markupsafe import Markup

    source = resources.files("mcti.explanation").joinpath("page.html").read_text(encoding="utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    raising = sorted((g for g in genes if g[1] > 0), key=lambda g: (-g[1], g[0]))[:_BARS]
    lowering = sorted((g for g in genes if g[1] < 0), key=lambda g: (g[1], g[0]))[:_BARS]
    modalities = [(name, numbers[name]) for name in ("slides", "genes", "clinical")]
    # drawing.py escapes the texts of its figures.
    return page.render(
        patient_id=patient_id,
        cohort=cohort,
        notice=notice,
        numbers=numbers,
        share=_share(numbers),
        modalities=Markup(drawing.parts(modalities, "Part of each modality")),  # noqa: S704
        genes=[
            Markup(drawing.parts(chosen, f"Genes that {word} the risk most"))  # noqa: S704
            for word, chosen in (("raise", raising), ("lower", lowering))
            if chosen
        ],
        members=[_member(member) for member in members],
        slides=slides,
        level=_LEVEL,
    )


def _share(numbers: Mapping[str, float]) -> str:
    way = abs(numbers["risk"] - numbers["baseline"])
    return f"{100 * abs(numbers['gap']) / way:.2g} %" if way else "no difference to the baseline"


def _member(member: Member) -> dict[str, Any]:
    from markupsafe import Markup

    largest = max((mass for row in member.plan for mass in row), default=0.0) or 1.0
    return {
        "name": member.name,
        "risk": member.risk,
        "baseline": member.baseline,
        "gap": member.gap,
        "tokens": Markup(drawing.parts(member.tokens[: 2 * _BARS], "Parts of the tokens")),  # noqa: S704
        "groups": [
            {
                "name": group.name,
                "part": group.part,
                "genes": ", ".join(f"{gene} {100 * weight:.2g}\u00a0%" for gene, weight in group.genes[:_BARS]),
                "sets": [entry for entry in group.sets if entry.q < _LEVEL][:5],
                "tested": len(group.sets),
            }
            for group in member.groups
        ],
        "shares": [(name, f"{100 * share:.2g} %", share < _SMALL) for name, share in member.shares.items()],
        "plan": []
        if member.shares.get("transport plan", 1.0) < _SMALL
        else [
            {"patches": patches, "cells": [(mass, round(100 * mass / largest)) for mass in row]}
            for patches, row in zip(member.cluster_patches, member.plan, strict=True)
        ],
    }
