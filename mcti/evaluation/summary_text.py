"""The first lines of a report: ranking and calibration of MCTI, its parts, the search, warnings."""

import math
from collections.abc import Mapping
from typing import Any

from mcti.evaluation.attribution_shares import SMALL_SHARE
from mcti.evaluation.comparison import Interval
from mcti.evaluation.scores import OURS, Scores, as_interval
from mcti.model.names import COX, NETWORK, PART_NAMES, display
from mcti.params import EvaluateParams

FEW_EVENTS = 10
SLOPES = (0.7, 1.4)
"""A calibration slope outside is a warning: predicted log-odds then spread 1.4 times too far, or too little."""


def shown(interval: Interval) -> str:
    """`0.612 [0.541, 0.690]`, or `not defined`."""
    if not math.isfinite(interval.value):
        return "not defined"
    if not math.isfinite(interval.low):
        return f"{interval.value:.3f}"
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def lead(scores: Scores, params: EvaluateParams) -> str:
    """The result in one or two sentences, whichever way it went."""
    ours, rival = scores.c_index(OURS), params.primary_baseline
    if rival not in scores.comparison:
        return f"C-index of MCTI: {shown(ours)}."
    entry = scores.comparison[rival]
    difference, errors = as_interval(entry["difference"]), as_interval(entry["ibs_difference"])
    told = (
        f"C-index of MCTI: {shown(ours)}; of {display(rival)}: {shown(scores.c_index(rival))}. "
        f"Difference {shown(difference)}: {_verdict(difference, 'MCTI ranks better', 'MCTI ranks worse')}."
    )
    if not math.isfinite(errors.value):
        return told
    words = _verdict(errors, "MCTI errs more", "MCTI errs less")
    return f"{told} Difference of the integrated Brier score {shown(errors)}: {words}."


def calibrated(scores: Scores) -> str:
    """Slope, intercept, ICI and integrated Brier score at the last horizon, in one sentence; empty without one."""
    if not len(scores.horizons):
        return ""
    numbers, last = scores.models[OURS], f"{scores.horizons[-1]:g}"
    cells = [shown(as_interval(numbers[f"{name}_{last}"])) for name in ("slope", "intercept", "ici")]
    return (
        f"Calibration at month {last}: slope {cells[0]} (1 is right), intercept {cells[1]} (0 is right), "
        f"ICI {cells[2]} (0 is best). Integrated Brier score {shown(as_interval(numbers['ibs']))} (lower is better)."
    )


def calibration(scores: Scores) -> dict[str, float | None]:
    """slope, intercept, ici at the last horizon, and ibs, of MCTI: values alone; empty without a horizon."""
    if not len(scores.horizons):
        return {}
    numbers, last = scores.models[OURS], f"{scores.horizons[-1]:g}"
    keys = {"slope": f"slope_{last}", "intercept": f"intercept_{last}", "ici": f"ici_{last}", "ibs": "ibs"}
    return {name: numbers[key]["value"] for name, key in keys.items()}


def composition(scores: Scores) -> str:
    """What the shipped model is: an ensemble or a network, what each part alone ranks, and the attribution's shares."""
    said = []
    if NETWORK in scores.models and COX in scores.models:
        said.append(
            "The model is an ensemble of a neural network and a ridge Cox model on the same inputs. Network alone: C "
            f"{shown(scores.c_index(NETWORK))}; Cox part alone: C {shown(scores.c_index(COX))}; both: C "
            f"{shown(scores.c_index(OURS))}."
        )
    if scores.attribution:
        shares = ", ".join(
            f"{PART_NAMES[name]} {percent(share)}" for name, share in scores.attribution["shares"].items()
        )
        said.append(f"Shares of the attribution ({scores.attribution['patients']} test patients): {shares}.")
        said += [
            f"Share of the {PART_NAMES[name]}: {percent(share)}, too little to be shown."
            for name, share in scores.attribution["details"].items()
            if share < SMALL_SHARE and name != "mean_patch"
        ]
    return " ".join(said)


def percent(share: float) -> str:
    """`73 %`; `0.01 %` where one digit would say 0."""
    return f"{100 * share:.0f} %" if share >= SMALL_SHARE else f"{100 * share:.2g} %" if share else "0 %"


def searched(search: Mapping[str, Any]) -> list[str]:
    """What the search of the settings saw and gained, in sentences."""
    if "outer_folds" not in search:
        return ["The models record no search of their settings (`mcti train --best`)."]
    return [_seen(search), *_gained(search)]


def _seen(search: Mapping[str, Any]) -> str:
    folds = ", ".join(str(number) for number in search["outer_folds"])
    if search["nested"]:
        return (
            "The settings were searched for each fold inside its own training part (nested): no test patient was seen."
        )
    if not search["seen"]:
        return f"The settings were searched in the training part of fold {folds}; no evaluated patient was seen."
    return (
        f"The settings were searched in the training part of fold {folds} and taken for all folds: the outcomes of "
        f"{search['seen']} of the {search['patients']} evaluated patients took part in the choice of the settings of "
        "the models that are tested on them. The estimates of the other folds are optimistic by what the search gained "
        "by chance; `search.nested: true` searches each fold in its own training part."
    )


def _gained(search: Mapping[str, Any]) -> list[str]:
    if search["nested"]:
        gains = [as_interval(gain).value for gain in search["gains"].values() if gain]
        known = [value for value in gains if math.isfinite(value)]
        if not known:
            return []
        each = ", ".join(f"{value:+.3f}" for value in known)
        return [f"Gain in C of the inner folds over the starting settings, by outer fold: {each}. {_SELECTION}"]
    gain = search.get("gain")
    if not gain or gain["value"] is None:
        return []
    return [
        f"Search gain over the starting settings: C of the inner folds {shown(as_interval(gain))} (interval corrected "
        f"for the overlap of the inner folds), the best of {search['trials']} trials. {_SELECTION}"
    ]


_SELECTION = "The best trial was chosen by the same numbers, so that its gain is too high by selection."


def warnings(scores: Scores, skipped: Mapping[str, str]) -> list[str]:
    """What a reader must know before any number: left-out baselines, few events, horizons, calibration, search."""
    folds = scores.models[OURS]["folds"]
    events = [fold["events"] for fold in folds]
    said = [f"Baseline {display(name)} was left out: {why}." for name, why in skipped.items()]
    if 0 in events:
        said.append(f"{events.count(0)} test fold(s) have no event and take no part in C.")
    if sum(events) < FEW_EVENTS:
        said.append(f"Only {sum(events)} events: no claim can be made for this cohort.")
    if len(scores.unusable):
        months = ", ".join(f"{t:g}" for t in scores.unusable)
        said.append(
            f"Months {months} cannot be scored: no event before, or nobody followed beyond in the test or the training "
            "parts. Any S(t) there is extrapolated."
        )
    if scores.search.get("seen"):
        said.append(_seen(scores.search))
    return said + _miscalibrated(scores)


def _miscalibrated(scores: Scores) -> list[str]:
    slopes = {f"{t:g}": scores.models[OURS][f"slope_{t:g}"]["value"] for t in scores.horizons}
    wrong = {t: slope for t, slope in slopes.items() if slope is not None and not SLOPES[0] <= slope <= SLOPES[1]}
    if not wrong:
        return []
    told = ", ".join(f"{slope:.2f} at month {t}" for t, slope in wrong.items())
    hint = (
        "the curves were recalibrated already (train.recalibration_folds): take more inner folds, or do not use S(t)"
        if scores.recalibration
        else "set train.recalibration_folds (3, for example) and train again"
    )
    return [f"Poor calibration: slope {told}, outside {SLOPES[0]:g} to {SLOPES[1]:g}: {hint}."]


def _verdict(difference: Interval, above: str, below: str) -> str:
    if not math.isfinite(difference.low):
        return "the difference cannot be judged"
    if difference.low > 0:
        return above
    return below if difference.high < 0 else "no difference is shown"
