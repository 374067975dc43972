"""The metrics of an evaluation that are compared in MLflow; its artifact metrics.json contains all of them."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

MODEL = "mcti"
WITH_INTERVAL = ("c_index", "uno_c")
VALUE_ONLY = ("c_within_subtype", "ibs", "ibs_skill", "subtype_auroc", "subtype_macro_f1")
AT_LAST_HORIZON = ("auc", "brier", "ici", "slope", "intercept")
_ENDS = ("value", "low", "high")


def select(metrics: Mapping[str, Any], primary: str | None) -> dict[str, float]:
    """At most twenty metrics by name (`mcti.c_index.value`), each in the unit of metrics.json, without undefined ones.

    metrics  content of metrics.json;  primary  baseline of the evaluation's primary contrast, None: not stated
    """
    values = dict(_model_metrics(metrics[MODEL]))
    if primary is not None:
        difference = metrics[MODEL].get("comparison", {}).get(primary, {}).get("difference", {})
        values |= {f"{MODEL}.difference.{end}": difference.get(end) for end in _ENDS}
        values[f"{primary}.c_index.value"] = metrics.get(primary, {}).get("c_index", {}).get("value")
    return {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}


def _model_metrics(scores: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    for name in WITH_INTERVAL:
        yield from ((f"{MODEL}.{name}.{end}", scores.get(name, {}).get(end)) for end in _ENDS)
    for name in VALUE_ONLY:
        yield f"{MODEL}.{name}.value", scores.get(name, {}).get("value")
    for metric in AT_LAST_HORIZON:
        months = [name.removeprefix(f"{metric}_") for name in scores if name.startswith(f"{metric}_")]
        if months:
            last = f"{metric}_{max(months, key=float)}"
            yield f"{MODEL}.{last}.value", scores[last]["value"]
