"""The explanation of one patient as a self-contained HTML page: no network, no script; light, dark and printed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcti.explanation.gene_sets import Enrichment
from mcti.explanation.labels import model_label, token_label
from mcti.explanation.templates import template

_SHOWN_GENES = 10
_SHOWN_TOKENS = 20
_SHOWN_SETS = 5
_LEVEL = 0.05
"""Gene sets with a q below this level are shown."""
_SMALL_SHARE = 0.01
"""A transport plan with a smaller share of the attribution gets a sentence and no table."""


@dataclass(frozen=True)
class GeneGroup:
    """One gene group: the contribution of its token to the risk, its genes by weight, its gene sets by p."""

    name: str
    contribution: float
    genes: Sequence[tuple[str, float]]
    sets: Sequence[Enrichment]


@dataclass(frozen=True)
class MemberExplanation:
    """The explanation of one patient by one model of the ensemble.

    tokens  (name, contribution), the largest first
    plan    (clusters, groups) transport mass;  cluster_patches  number of patches of each cluster
    shares  {name: share of this patient's attribution} of critical patches and transport plan
    """

    name: str
    risk: float
    baseline: float
    gap: float
    tokens: Sequence[tuple[str, float]]
    groups: Sequence[GeneGroup]
    plan: Sequence[Sequence[float]]
    cluster_patches: Sequence[int]
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SlideMap:
    """The tiles of one slide; png is a data: address, empty where the feature file has no coordinates."""

    slide_id: str
    tiles: int
    contribution: float
    png: str


@dataclass(frozen=True)
class PatientReport:
    """Everything that the page of one patient shows.

    numbers  risk, baseline, gap and the contribution of slides, genes and clinical;  genes  (gene, contribution), all
    """

    patient_id: str
    cohort: str
    notice: str
    numbers: Mapping[str, float]
    genes: Sequence[tuple[str, float]]
    members: Sequence[MemberExplanation]
    slides: Sequence[SlideMap]


def render(report: PatientReport) -> str:
    """The HTML page."""
    numbers = report.numbers
    raising = sorted((g for g in report.genes if g[1] > 0), key=lambda g: (-g[1], g[0]))[:_SHOWN_GENES]
    lowering = sorted((g for g in report.genes if g[1] < 0), key=lambda g: (g[1], g[0]))[:_SHOWN_GENES]
    named = (("Genes that raise the risk most", raising), ("Genes that lower the risk most", lowering))
    return template("explanation.html").render(
        report=report,
        numbers=numbers,
        gap_share=_gap_share(numbers),
        modalities=[(name, numbers[name]) for name in ("slides", "genes", "clinical")],
        genes=[(title, rows) for title, rows in named if rows],
        members=[_member(member) for member in report.members],
        level=_LEVEL,
    )


def _gap_share(numbers: Mapping[str, float]) -> str:
    difference = abs(numbers["risk"] - numbers["baseline"])
    return f"{100 * abs(numbers['gap']) / difference:.2g} %" if difference else "no difference to the baseline"


def _member(member: MemberExplanation) -> dict[str, Any]:
    return {
        "name": model_label(member.name),
        "risk": member.risk,
        "baseline": member.baseline,
        "gap": member.gap,
        "tokens": [(token_label(token), value) for token, value in member.tokens[:_SHOWN_TOKENS]],
        "groups": [_group(group) for group in member.groups],
        "shares": [(name, f"{100 * share:.2g} %", share < _SMALL_SHARE) for name, share in member.shares.items()],
        "plan": _plan(member),
    }


def _group(group: GeneGroup) -> dict[str, Any]:
    return {
        "name": token_label(group.name),
        "contribution": group.contribution,
        "genes": ", ".join(f"{gene} {100 * weight:.2g}\u00a0%" for gene, weight in group.genes[:_SHOWN_GENES]),
        "sets": [entry for entry in group.sets if entry.q < _LEVEL][:_SHOWN_SETS],
        "tested": len(group.sets),
    }


def _plan(member: MemberExplanation) -> list[dict[str, Any]]:
    """Rows of the table of the plan: (mass, percent of the largest mass) per group; empty for a small share."""
    if member.shares.get("transport plan", 1.0) < _SMALL_SHARE:
        return []
    largest = max((mass for row in member.plan for mass in row), default=0.0) or 1.0
    return [
        {"patches": patches, "cells": [(mass, round(100 * mass / largest)) for mass in row]}
        for patches, row in zip(member.cluster_patches, member.plan, strict=True)
    ]
