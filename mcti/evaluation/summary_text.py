"""Sentences of a report: the result, calibration, composition of the model, search of the settings, warnings."""

import math
from collections.abc import Mapping
from typing import Any

from mcti.evaluation.attribution_shares import SMALL_SHARE
from mcti.evaluation.comparison import Interval
from mcti.evaluation.scores import MCTI_KEY, Scores, as_interval
from mcti.model.names import COX, NETWORK, PART_NAMES, display
from mcti.params import EvaluateParams

MIN_CLAIM_EVENTS = 10
"""With fewer events in all test parts a report warns that no conclusion is possible."""
SLOPE_LIMITS = (0.7, 1.4)
"""A calibration slope outside is a warning: the predicted log-odds vary at least 1.4 times too much, or too little."""


def format_interval(interval: Interval) -> str:
    """`0.612 [0.541, 0.690]`, or `not defined`."""
    if not math.isfinite(interval.value):
        return "not defined"
    if not math.isfinite(interval.low):
        return f"{interval.value:.3f}"
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def result_sentences(scores: Scores, params: EvaluateParams) -> str:
    """The comparison with the primary baseline in one or two sentences, whatever its result is."""
    mcti, baseline = scores.c_index(MCTI_KEY), params.primary_baseline
    if baseline not in scores.comparison:
        return f"C-index of MCTI: {format_interval(mcti)}."
    entry = scores.comparison[baseline]
    difference, errors = as_interval(entry["difference"]), as_interval(entry["ibs_difference"])
    ranking = (
        f"C-index of MCTI: {format_interval(mcti)}; of {display(baseline)}: "
        f"{format_interval(scores.c_index(baseline))}. Difference {format_interval(difference)}: "
        f"{_verdict(difference, 'MCTI ranks better', 'MCTI ranks worse')}."
    )
    if not math.isfinite(errors.value):
        return ranking
    verdict = _verdict(errors, "the prediction error of MCTI is larger", "the prediction error of MCTI is smaller")
    return f"{ranking} Difference of the integrated Brier score {format_interval(errors)}: {verdict}."


def calibration_sentences(scores: Scores) -> str:
    """Slope, intercept, ICI and integrated Brier score at the last horizon; empty without a horizon."""
    if not len(scores.horizons):
        return ""
    numbers, last = scores.models[MCTI_KEY], f"{scores.horizons[-1]:g}"
    slope, intercept, ici = (
        format_interval(as_interval(numbers[f"{name}_{last}"])) for name in ("slope", "intercept", "ici")
    )
    return (
        f"Calibration at month {last}: slope {slope} (1 is right), intercept {intercept} (0 is right), "
        f"ICI {ici} (0 is best). Integrated Brier score {format_interval(as_interval(numbers['ibs']))} "
        "(lower is better)."
    )


def calibration(scores: Scores) -> dict[str, float | None]:
    """Values of MCTI, no unit: slope, intercept, ici at the last horizon, and ibs; empty without a horizon."""
    if not len(scores.horizons):
        return {}
    numbers, last = scores.models[MCTI_KEY], f"{scores.horizons[-1]:g}"
    keys = {"slope": f"slope_{last}", "intercept": f"intercept_{last}", "ici": f"ici_{last}", "ibs": "ibs"}
    return {name: numbers[key]["value"] for name, key in keys.items()}


def composition_sentences(scores: Scores) -> str:
    """What the model consists of: an ensemble or a network, the C of each part, and the shares of the attribution."""
    sentences = []
    if NETWORK in scores.models and COX in scores.models:
        sentences.append(
            "The model is an ensemble of a neural network with a ridge Cox model (a linear survival regression) on the "
            f"same inputs. Network alone: C {format_interval(scores.c_index(NETWORK))}; Cox part alone: "
            f"C {format_interval(scores.c_index(COX))}; both: C {format_interval(scores.c_index(MCTI_KEY))}."
        )
    if scores.attribution:
        shares = "; ".join(
            f"{PART_NAMES[name]} {percent(share)}" for name, share in scores.attribution["shares"].items()
        )
        patients = scores.attribution["patients"]
        sentences.append(f"Shares of the attribution ({patients} test patients): {shares}.")
        sentences += [
            f"Share of the {PART_NAMES[name]}: {percent(share)}, too small for a table"
            f"{' with images' if name == 'critical_patches' else ''}."
            for name, share in scores.attribution["details"].items()
            if share < SMALL_SHARE and name != "mean_patch"
        ]
    return " ".join(sentences)


def percent(share: float) -> str:
    """`73 %`; two significant digits below 1 %, for example `0.01 %`."""
    return f"{100 * share:.0f} %" if share >= SMALL_SHARE else f"{100 * share:.2g} %" if share else "0 %"


def search_sentences(search: Mapping[str, Any]) -> list[str]:
    """Which patients the search of the settings used, and what it gained."""
    if "outer_folds" not in search:
        return ["The models have no record of a search of their settings (`mcti train --best`)."]
    return [_search_patients(search), *_search_gain(search)]


def _search_patients(search: Mapping[str, Any]) -> str:
    folds = ", ".join(str(number) for number in search["outer_folds"])
    if search["nested"]:
        return (
            "The settings were searched for each fold inside its own training part (nested): no test patient was used."
        )
    if not search["seen"]:
        return f"The settings were searched in the training part of fold {folds}; no evaluated patient was used."
    return (
        f"The settings were searched in the training part of fold {folds} and used for all folds: the outcomes of "
        f"{search['seen']} of the {search['patients']} evaluated patients influenced the choice of the settings of "
        "the models that are tested on them. The estimates of the other folds are optimistic by the part of the search "
        "gain that is due to chance; `search.nested: true` searches each fold in its own training part."
    )


def _search_gain(search: Mapping[str, Any]) -> list[str]:
    if search["nested"]:
        gains = {fold: as_interval(gain) for fold, gain in search["gains"].items() if gain}
        known = [f"fold {fold} {format_interval(gain)}" for fold, gain in gains.items() if math.isfinite(gain.value)]
        if not known:
            return []
        text = f"Gain in C of the inner folds over the starting settings, by outer fold: {'; '.join(known)}"
        return [f"{text} (intervals corrected for the overlap of the inner folds). {_SELECTION}"]
    gain = search.get("gain")
    if not gain or gain["value"] is None:
        return []
    return [
        f"Search gain over the starting settings: C of the inner folds {format_interval(as_interval(gain))} (interval "
        f"corrected for the overlap of the inner folds), the best of {search['trials']} trials. {_SELECTION}"
    ]


_SELECTION = "The best trial was chosen by the same numbers, so its gain is biased upwards by selection."


def warnings(scores: Scores, skipped: Mapping[str, str]) -> list[str]:
    """Limits of the evaluation: skipped baselines, few events, horizons, calibration, search."""
    folds = scores.models[MCTI_KEY]["folds"]
    events = [fold["events"] for fold in folds]
    sentences = [f"Baseline {display(name)} was left out: {reason}." for name, reason in skipped.items()]
    if 0 in events:
        sentences.append(f"{events.count(0)} test fold(s) have no event and do not contribute to C.")
    if sum(events) < MIN_CLAIM_EVENTS:
        sentences.append(f"Only {sum(events)} events: no conclusion is possible for this cohort.")
    if len(scores.unusable):
        months = ", ".join(f"{t:g}" for t in scores.unusable)
        sentences.append(
            f"Months {months} cannot be scored: no event before, or no patient followed beyond, in the test or the "
            "training parts. Any S(t) there is extrapolated."
        )
    if scores.competing:
        sentences.append(competing_sentence(scores.competing["competing_events"]))
    if scores.late_entries:
        sentences.append(late_entry_sentence(scores.late_entries))
    if scores.search.get("seen"):
        sentences.append(_search_patients(scores.search))
    return sentences + _miscalibration(scores)


def competing_sentence(patients: int) -> str:
    """That S(t) is cause-specific, for a cohort in which this number of patients had a competing event."""
    return (
        f"{patients} patients had competing events, and count as censored in S(t): 1 - S(t) is larger than the "
        "probability of the event."
    )


def late_entry_sentence(patients: int) -> str:
    """What S(t) means for a cohort in which this number of patients came under observation after the origin."""
    return (
        f"{patients} patients came under observation after the origin, and count from their entry: S(t) is survival "
        "from the origin, and S(t) / S(L) that of a patient who enters at month L."
    )


def _miscalibration(scores: Scores) -> list[str]:
    slopes = {f"{t:g}": scores.models[MCTI_KEY][f"slope_{t:g}"]["value"] for t in scores.horizons}
    low, high = SLOPE_LIMITS
    outside = {t: slope for t, slope in slopes.items() if slope is not None and not low <= slope <= high}
    if not outside:
        return []
    values = ", ".join(f"{slope:.2f} at month {t}" for t, slope in outside.items())
    return [f"Poor calibration: slope {values}, outside {low:g} to {high:g}: {_recalibration_hint(scores)}."]


def _recalibration_hint(scores: Scores) -> str:
    if scores.pretrained:
        return "mcti pretrain does not recalibrate curves: use the model as train.prior of one cohort, or not its S(t)"
    if scores.recalibration:
        return "they are recalibrated already (train.recalibration_folds): use more inner folds, or do not use S(t)"
    return "set train.recalibration_folds (3, for example) and train again"


def _verdict(difference: Interval, above: str, below: str) -> str:
    if not math.isfinite(difference.low):
        return "the difference cannot be assessed"
    if difference.low > 0:
        return above
    return below if difference.high < 0 else "no difference is shown"
