"""The numbers of a run as a Prometheus text file, for the textfile collector of a node exporter or a push gateway.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/ (text, version 0.0.4).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


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
