"""The numbers of a run as a Prometheus text file, for the textfile collector of a node exporter or a push gateway.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/ (text, version 0.0.4).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mcti.monitoring.drift import Family
from mcti.monitoring.rules import Verdict


@dataclass(frozen=True)
class Gauge:
    """One metric: what it says, and its samples as (labels, value); a value that is not known is left out."""

    name: str
    says: str
    samples: tuple[tuple[Mapping[str, str], float | None], ...]


def text(gauges: Iterable[Gauge], labels: Mapping[str, str]) -> str:
    """The file; `labels` stand with every sample."""
    lines = []
    for gauge in gauges:
        known = [(own, value) for own, value in gauge.samples if value is not None and math.isfinite(value)]
        if known:
            lines += [f"# HELP {gauge.name} {_help(gauge.says)}", f"# TYPE {gauge.name} gauge"]
            lines += [f"{gauge.name}{{{_labels({**labels, **own})}}} {float(value)!r}" for own, value in known]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_help(value).replace(chr(34), chr(92) + chr(34))}"' for name, value in labels.items())


def _help(words: str) -> str:
    return words.replace("\\", "\\\\").replace("\n", "\\n")


def of(numbers: Mapping[str, float], verdict: Verdict, families: Sequence[Family]) -> list[Gauge]:
    """Every gauge of a run of the monitoring; numbers: what the history keeps of it."""
    tested = [family for family in families if family.tested]
    plain = [Gauge(f"mcti_monitor_{name}", says, (({}, numbers.get(name)),)) for name, says in _PLAIN.items()]
    families_by = [
        Gauge(f"mcti_monitor_{name}", says, tuple(({"family": family.name}, of_family(family)) for family in tested))
        for name, (says, of_family) in _BY_FAMILY.items()
    ]
    intervals = [
        Gauge(
            f"mcti_monitor_{name}",
            says,
            tuple(({"end": end}, numbers.get(f"{name}.{end}")) for end in ("value", "low", "high")),
        )
        for name, says in _INTERVALS.items()
    ]
    # A rule that could not be tested has no sample: 0 would read as quiet.
    known = [rule for rule in verdict.reasons if rule not in verdict.not_tested]
    rules = tuple(({"rule": rule}, float(rule in verdict.fired)) for rule in known)
    fired = Gauge(
        "mcti_monitor_retrain",
        "1 for each rule of retraining that fired; a rule that could not be tested has no sample.",
        rules,
    )
    return [*plain, fired, *families_by, *intervals]


_PLAIN = {
    "patients": "Patients of the cohort.",
    "new_patients": "Patients that the model never saw.",
    "new_events": "Events among the new patients.",
    "age_days": "Days since the version was registered.",
}
_BY_FAMILY: Mapping[str, tuple[str, Callable[[Family], float]]] = {
    "drifted": ("1 for each family of columns that drifted.", lambda family: float(family.drifted)),
    "drift_effect": ("Largest effect of a family of columns.", lambda family: family.largest),
    "drift_p": ("Adjusted p-value of a family of columns.", lambda family: family.p),
}
_INTERVALS = {
    "uno_c": "Uno's C of the new patients.",
    "calibration_gap": "Observed minus predicted event probability.",
}
