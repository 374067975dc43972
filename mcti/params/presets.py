"""Values of the architecture fields by preset: `paper`, `compact` (the default), `tiny` (tests) and the variants.

mcti/params/variants.py has the comparators and the ablations, as changes to `compact`.
"""

from typing import Any, Literal, get_args

from mcti.params.variants import ABLATIONS, COMPARATORS

PresetName = Literal[
    "paper", "compact", "tiny",
    "snn", "mean_pool", "abmil", "transmil", "late_fusion", "mcat", "motcat",
    "no_subtype_task", "no_gene_grouping", "uniform_plan", "shuffled_plan", "no_guidance", "no_axes", "no_bilinear",
]  # fmt: skip

_PAPER: dict[str, Any] = {
    "width": 1024,
    "query": 128,
    "critical": 256,
    "tokens": 8,
    "task_tokens": 240,
    "gene_branch": "dense",
    "gene_width": 8192,
    "encoder_depths": (2, 4),
    "bottleneck_depth": 2,
    "decoder_depths": (2, 4),
    "attention_depth": 2,
    "heads": 1,
    "solver": "assignment",
    "entropy": 0.05,
    "iterations": 1000,
    "tolerance": 1e-6,
    "gene_entropy": 0.1,
    "gene_marginal": 0.5,
    "gene_measure": "entropy",
    "gene_dropout": 0.25,
    "block": 4096,
}
_COMPACT = _PAPER | {
    "width": 32,
    "query": 32,
    "critical": 16,
    "task_tokens": 8,
    "gene_branch": "groups",
    "gene_width": 32,
    "encoder_depths": (1,),
    "bottleneck_depth": 1,
    "decoder_depths": (1,),
    "attention_depth": 1,
    "iterations": 50,
    "tolerance": 1e-3,
    "dropout": 0.1,
    "transpose_plan": True,
    "soft_instance_gate": True,
    "inverse_temperature": 4.0,
    "normalise_mass": True,
    "zero_init_residual": True,
    "linear_skip": True,
    "bilinear_rank": 16,
    "gene_axes": 30,
    "feature_axes": 32,
}
_TINY = _COMPACT | {
    "width": 16,
    "query": 8,
    "critical": 6,
    "tokens": 2,
    "task_tokens": 4,
    "gene_width": 4,
    "bilinear_rank": 2,
    "block": 64,
    "dropout": 0.0,
    "gene_dropout": 0.0,
    "gene_axes": 0,
    "feature_axes": 0,
}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": _PAPER,
    "compact": _COMPACT,
    "tiny": _TINY,
    **{name: _COMPACT | changes for name, changes in (COMPARATORS | ABLATIONS).items()},
}
"""Preset -> the fields that differ from their defaults in `Architecture`."""

NETWORKS = {name: name if name in COMPARATORS else "mcti" for name in get_args(PresetName)}
"""Preset -> class of network: MCTI or a comparator (mcti/model/comparators)."""
