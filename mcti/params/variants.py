"""Comparators (other published networks) and ablations (MCTI with one part switched off), as changes to `compact`.

None was tuned: the comparators share one width and one dropout, and an ablation differs from `compact` in one part.
"""

from typing import Any

_COMPARATOR: dict[str, Any] = {
    "width": 64,
    "gene_width": 64,
    "dropout": 0.25,
    "zero_init_residual": False,
    "linear_skip": False,
    "bilinear_rank": 0,
    "subtype_task": False,  # as published: their only task is survival
}
COMPARATORS: dict[str, dict[str, Any]] = {
    "snn": _COMPARATOR,
    "mean_pool": _COMPARATOR,
    "abmil": _COMPARATOR,
    "transmil": _COMPARATOR | {"heads": 4},
    "late_fusion": _COMPARATOR,
    "mcat": _COMPARATOR,
    "motcat": _COMPARATOR,
}
"""Genes alone: snn. Slides alone: mean_pool, abmil, transmil. Both: late_fusion, mcat, motcat."""

_EVERY = ("width", "dropout", "head", "subtype_task", "missing", "modalities", "covariates", "block")
_SLIDES, _GENES = ("feature_axes", "critical"), ("gene_axes", "gene_width", "gene_dropout")
_ATTENTION = ("heads", "zero_init_residual")
_MCAT = (*_EVERY, *_SLIDES, *_ATTENTION, "gene_axes", "gene_dropout", "tokens", "attention_depth")
NETWORK_FIELDS: dict[str, tuple[str, ...]] = {
    "snn": (*_EVERY, *_GENES),
    "mean_pool": (*_EVERY, *_SLIDES),
    "abmil": (*_EVERY, *_SLIDES),
    "transmil": (*_EVERY, "feature_axes", *_ATTENTION),
    "late_fusion": (*_EVERY, *_SLIDES, *_GENES),
    "mcat": _MCAT,
    "motcat": (*_MCAT, "gene_entropy", "gene_marginal", "gene_measure", "iterations", "tolerance"),
}
"""Comparator -> the fields of the architecture that change its predictions, its training or its memory."""

ABLATIONS: dict[str, dict[str, Any]] = {
    "no_subtype_task": {"subtype_task": False},
    "no_gene_grouping": {"gene_branch": "dense"},
    "uniform_plan": {"plan": "uniform"},
    "shuffled_plan": {"plan": "shuffled"},
    "no_guidance": {"guidance": False},
    "no_bilinear": {"bilinear_rank": 0},
    "no_axes": {"gene_axes": 0, "feature_axes": 0},
}
"""docs/protocol.md, item 14."""
