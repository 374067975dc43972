"""Contrasts of the real study, pooled over its cohorts, and the goals that they are compared with."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import model_zoo
from benchmarks.random_effects import Pooled, pool
from mcti.evaluation.comparison import finite
from mcti.params.variants import COMPARATORS

BAR = "linear_all"
DEFAULT, DEFAULT_TRANSFER = model_zoo.ENSEMBLE, f"{model_zoo.ENSEMBLE}{model_zoo.TRANSFER}"
"""What `mcti train` does without settings, and with `train.sources`."""
CANDIDATES = (*model_zoo.COX_WEIGHTS, *model_zoo.TRANSFERRED, *COMPARATORS)
"""Models that could be the default."""
_NORMAL = 1.959964
LEAST_ERROR = 1e-3
"""Least standard error of a difference in C: two models that rank a cohort in the same order have none."""


@dataclass(frozen=True)
class Goal:
    """Least values of a contrast: of the pooled difference, of each cohort; whether its interval must be above 0."""

    pooled: float = -math.inf
    cohort: float = -math.inf
    above_zero: bool = False


@dataclass(frozen=True)
class Contrast:
    """A model minus a comparator in C, and the goal, if there is one."""

    model: str
    comparator: str
    goal: Goal | None = None


_LINEAR_TRANSFER = f"cox_branch{model_zoo.TRANSFER}"
CONTRASTS = (
    Contrast(DEFAULT_TRANSFER, BAR, Goal(pooled=0.03, cohort=-0.01, above_zero=True)),
    Contrast(DEFAULT, BAR, Goal(pooled=0.0, cohort=-0.01)),
    Contrast(f"mcti{model_zoo.TRANSFER}", _LINEAR_TRANSFER, Goal(pooled=0.0)),
    Contrast("mcti", BAR),
    Contrast(_LINEAR_TRANSFER, BAR),
    Contrast(DEFAULT_TRANSFER, _LINEAR_TRANSFER),
    *(Contrast(f"{name}{model_zoo.TRANSFER}", name) for name in model_zoo.COX_WEIGHTS),
)
"""Fixed before a test fold is read; the last ones are the effect of the transfer on the same model."""


def pooled(differences: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Random-effects mean of the differences {value, low, high} of the cohorts; None where no difference is known.

    The standard error of a difference is the width of its 95 % bootstrap interval over 2 x 1.96.
    """
    known = [d for d in differences if d["value"] is not None and d["low"] is not None]
    if not known:
        return None
    errors = [max(LEAST_ERROR, (d["high"] - d["low"]) / (2 * _NORMAL)) for d in known]
    result: Pooled = pool([d["value"] for d in known], errors)
    return {
        **{name: finite(number) for name, number in vars(result).items()},
        "cohorts": len(known),
        "least": min(d["value"] for d in known),
    }


def pooled_models(arms: Sequence[Mapping[str, Any]], scheme: str) -> dict[str, Any]:
    """Of each model: its mean C over the cohorts and the pooled difference from the linear model, best first."""
    chosen = [arm for arm in arms if arm["scheme"] == scheme]
    table: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(name for arm in chosen for name in arm["models"]):
        figures = [arm["models"][name] for arm in chosen if name in arm["models"]]
        values = [m["c_index"]["value"] for m in figures if m["c_index"]["value"] is not None]
        table[name] = {
            "mean_c": sum(values) / len(values) if values else None,
            "cohorts": len(figures),
            "minus_linear_all": pooled(m["minus_linear_all"] for m in figures if name != BAR),
        }
    return dict(sorted(table.items(), key=lambda item: (-item[1]["cohorts"], -(item[1]["mean_c"] or 0))))


def pooled_contrasts(rows: Sequence[Mapping[str, Any]], scheme: str, cohorts: int) -> list[dict[str, Any]]:
    """Each contrast with its pooled difference and, where it has a goal, whether the cohorts reach it.

    rows  {scheme, model, comparator, value, low, high} by cohort;  cohorts: number of cohorts of the study
    """
    results = []
    for contrast in CONTRASTS:
        known = [
            row for row in rows
            if (row["scheme"], row["model"], row["comparator"]) == (scheme, contrast.model, contrast.comparator)
        ]  # fmt: skip
        figures = pooled(known)
        results.append(
            {
                "scheme": scheme,
                "model": contrast.model,
                "comparator": contrast.comparator,
                "pooled": figures,
                "goal": None if contrast.goal is None else _goal(contrast.goal),
                "reached": None if contrast.goal is None else reached(contrast.goal, figures, cohorts),
            }
        )
    return results


def reached(goal: Goal, figures: Mapping[str, Any] | None, cohorts: int) -> str:
    """yes | no | not measured; a goal is evaluated on all cohorts of the study."""
    if figures is None or figures["cohorts"] < cohorts:
        return "not measured"
    above = not goal.above_zero or (figures["low"] is not None and figures["low"] > 0)
    return "yes" if figures["value"] >= goal.pooled and figures["least"] >= goal.cohort and above else "no"


def _goal(goal: Goal) -> dict[str, Any]:
    return {"pooled": finite(goal.pooled), "cohort": finite(goal.cohort), "above_zero": goal.above_zero}


def choices(arms: Sequence[Mapping[str, Any]], scheme: str) -> dict[str, Any]:
    """The default as the other cohorts choose it: for each cohort the candidate with the best pooled difference there.

    {cohorts: {name: {model, difference on the cohort}}, pooled}. No cohort has a part in its own choice. Empty with
    fewer than three cohorts.
    """
    chosen = [arm for arm in arms if arm["scheme"] == scheme]
    if len(chosen) < 3:
        return {}
    everywhere = [name for name in CANDIDATES if all(name in arm["models"] for arm in chosen)]
    rows = {}
    for arm in chosen:
        rest = [other for other in chosen if other is not arm]
        values = {name: pooled(o["models"][name]["minus_linear_all"] for o in rest) for name in everywhere}
        known = {name: value["value"] for name, value in values.items() if value is not None}
        if not known:
            return {}
        best = max(known, key=lambda name: known[name])
        rows[arm["cohort"]] = {"model": best, "difference": arm["models"][best]["minus_linear_all"]}
    return {"cohorts": rows, "pooled": pooled(row["difference"] for row in rows.values())}
