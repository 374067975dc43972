"""The hint for an unknown key: its new name, its removal, the same key in another section, or a similar one."""

import typing
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from mcti.errors import did_you_mean
from mcti.params.architecture import FIELDS, ArchitectureParams
from mcti.params.base import settings_class

RENAMED: dict[str, dict[str, str]] = {
    "SearchParams": {
        "together": "parallel_trials",
        "minutes": "timeout_minutes",
        "prune_p": "wilcoxon_p_threshold",
    },
    "RegisterParams": {"member": "predictor"},
    "PromoteParams": {
        "slowdown": "max_latency_ratio",
        "memory_growth": "max_memory_ratio",
        "cost_patches": "benchmark_patches",
    },
    "ValidateParams": {"accepted": "reference_profile"},
    "SplitParams": {"few_events": "min_test_events"},
    "TrainParams": {"linear_share": "cox_weight"},
    "TaskTable": {"wiring": "utility"},
    "ArchitectureParams": {
        "gate": "soft_instance_gate",
        "sharpness": "inverse_temperature",
        "mean_mass": "normalise_mass",
        "carry_to_values": "transpose_plan",
        "skip": "linear_skip",
        "pairs": "bilinear_rank",
        "calm": "zero_init_residual",
    },
}
"""Class of settings -> earlier name -> name (CHANGELOG.md). An earlier name is not read, only used for the hint."""
REMOVED: dict[str, frozenset[str]] = {
    "EvaluateParams": frozenset({"confidence", "uno_tau_quantile"}),
    "ExplainParams": frozenset({"seed"}),
    "ExtractParams": frozenset({"slides"}),
    "MonitorParams": frozenset({"horizon_months", "seed"}),
    "PromoteParams": frozenset({"seed", "uno_tau_quantile"}),
    "SearchParams": frozenset({"heartbeat_seconds"}),
    "ValidateParams": frozenset({"age_years", "max_followup_months"}),
}
"""Class of settings -> settings that it had before (docs/decisions/0006-fewer-settings.md)."""
_CLOSE, _SIMILAR = 0.8, 0.68
"""Similarity of a misspelling of the same section, and of any suggestion."""


def suggestion(model: type[BaseModel], section: Sequence[str], key: str) -> str:
    """The hint for an unknown key of a section (its path in `model`; empty: the top level).

    A close misspelling of a key of the section comes first, then a setting of this name elsewhere.
    """
    inner = _class(model, section)
    if new := RENAMED.get(inner.__name__, {}).get(key):
        return f"did you mean {new}?"
    if key in REMOVED.get(inner.__name__, ()):
        return "delete it: this setting was removed (docs/decisions/0006-fewer-settings.md)"
    keys = [name for name, _ in _children(inner)]
    close = did_you_mean(key, keys, _CLOSE)
    elsewhere = [".".join(path) for path in _paths(model) if path[-1] == key]
    if close.startswith("known") and 1 <= len(elsewhere) <= 3:
        return f"did you mean {' or '.join(elsewhere)}?"
    return did_you_mean(key, keys, _SIMILAR)


def _class(model: type[BaseModel], section: Sequence[str]) -> type[BaseModel]:
    """The class of a section; a number in its path is that of an item of a list."""
    for part in section:
        annotation = next((child for name, child in _children(model) if name == part), None)
        classes = map(settings_class, (annotation, *typing.get_args(annotation)))
        model = next((inner for inner in classes if inner), model)
    return model


def _paths(model: type[BaseModel], section: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every plain setting."""
    for name, annotation in _children(model):
        inner = settings_class(annotation)
        if inner is None:
            yield (*section, name)
        else:
            yield from _paths(inner, (*section, name))


def _children(model: type[BaseModel]) -> list[tuple[str, Any]]:
    """Key and type of each setting and section of a class."""
    if model is ArchitectureParams:
        return [(name, field.annotation) for name, field in FIELDS.items()]
    return [(field.alias or name, field.annotation) for name, field in model.model_fields.items()]
