"""The numbers of a run as Prometheus metrics, for the textfile collector of a node exporter or a push gateway."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily

from mcti.monitoring.drift import Family
from mcti.monitoring.rules import Verdict


@dataclass(frozen=True)
class Gauge:
    """One metric with its samples (labels, value); an unknown value has no sample."""

    name: str
    description: str
    samples: tuple[tuple[Mapping[str, str], float | None], ...]


class _Collector:
    """The gauges that have samples; `labels` are added to each sample."""

    def __init__(self, gauges: Iterable[Gauge], labels: Mapping[str, str]) -> None:
        self.gauges, self.labels = gauges, labels

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for gauge in self.gauges:
            family = GaugeMetricFamily(gauge.name, gauge.description)
            for labels, value in gauge.samples:
                if value is not None and math.isfinite(value):
                    family.add_sample(gauge.name, {**self.labels, **labels}, value)
            if family.samples:
                yield family


def text(gauges: Iterable[Gauge], labels: Mapping[str, str]) -> str:
    """The metrics in the Prometheus text format; `labels` are added to each sample."""
    registry = CollectorRegistry()
    registry.register(_Collector(tuple(gauges), labels))
    return generate_latest(registry).decode()


def gauges(numbers: Mapping[str, float], verdict: Verdict, families: Sequence[Family]) -> list[Gauge]:
    """Every gauge of a monitoring run; numbers: those of the run's history, with the unit in the name."""
    tested = [family for family in families if family.tested]
    plain = [
        Gauge(f"mcti_monitor_{name}", description, (({}, numbers.get(name)),)) for name, description in _PLAIN.items()
    ]
    by_family = [
        Gauge(
            f"mcti_monitor_{name}", description, tuple(({"family": family.name}, value_of(family)) for family in tested)
        )
        for name, (description, value_of) in _BY_FAMILY.items()
    ]
    intervals = [
        Gauge(
            f"mcti_monitor_{name}",
            description,
            tuple(({"end": end}, numbers.get(f"{name}.{end}")) for end in ("value", "low", "high")),
        )
        for name, description in _INTERVALS.items()
    ]
    # A rule that could not be tested has no sample: 0 would mean that it did not fire.
    known = [rule for rule in verdict.reasons if rule not in verdict.not_tested]
    fired = Gauge(
        "mcti_monitor_retrain",
        "1 for each rule of retraining that fired; a rule that could not be tested has no sample.",
        tuple(({"rule": rule}, float(rule in verdict.fired)) for rule in known),
    )
    return [*plain, fired, *by_family, *intervals]


_PLAIN = {
    "patients": "Patients of the cohort.",
    "new_patients": "Patients outside the development cohort of the model.",
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
