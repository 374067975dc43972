"""The figures of an evaluation that people compare in MLflow; the rest stands in its artifact metrics.json."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

OURS = "mcti"
INTERVALS = ("c_index", "uno_c")
"""With both ends of the interval."""
SINGLE = ("c_within_subtype", "ibs", "ibs_skill", "subtype_auroc", "subtype_macro_f1")
AT_LAST_HORIZON = ("auc", "brier", "ici", "slope", "intercept")


def figures(metrics: Mapping[str, Any], primary: str | None) -> dict[str, float]:
    """At most twenty figures by name (`mcti.c_index.value`), missing ones left out.

    metrics  as metrics.json;  primary  baseline of the evaluation's primary contrast, None: not stated
    """
    found = dict(_ours(metrics[OURS]))
    if primary is not None:
        difference = metrics[OURS].get("comparison", {}).get(primary, {}).get("difference", {})
        found |= {f"{OURS}.difference.{end}": difference.get(end) for end in _ENDS}
        found[f"{primary}.c_index.value"] = metrics.get(primary, {}).get("c_index", {}).get("value")
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


_ENDS = ("value", "low", "high")


def _ours(scores: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    for name in INTERVALS:
        yield from ((f"{OURS}.{name}.{end}", scores.get(name, {}).get(end)) for end in _ENDS)
    for name in SINGLE:
        yield f"{OURS}.{name}.value", scores.get(name, {}).get("value")
    for kind in AT_LAST_HORIZON:
        months = [name.removeprefix(f"{kind}_") for name in scores if name.startswith(f"{kind}_")]
        if months:
            last = f"{kind}_{max(months, key=float)}"
            yield f"{OURS}.{last}.value", scores[last]["value"]
