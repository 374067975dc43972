"""Compare the settings, data and code of two runs."""

from collections.abc import Mapping
from typing import Any

from mcti.errors import DataError

SHOWN = 3
"""Number of differences that an error lists; it states the number of the others."""


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(dotted key, value in one, value in the other) of each difference of two trees of plain values; None: absent."""
    first, second = _flat(one), _flat(other)
    keys = sorted(first.keys() | second.keys())
    return [(key, first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)]


def describe_differences(changes: list[tuple[str, Any, Any]], template: str) -> str:
    """The first differences as text; `template` is a format string with the fields key, one and other."""
    shown = "; ".join(template.format(key=key, one=repr(one), other=repr(other)) for key, one, other in changes[:SHOWN])
    return shown + (f" and {len(changes) - SHOWN} more" if len(changes) > SHOWN else "")


_SHARED_DIGESTS = ("code", "sources", "prior")
"""Entries of `digests` in model.json that the folds of one model have in common."""


def check_folds(specs: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that the folds belong to one model; specs: location -> content of its model.json.

    A single fold trained with other settings, or an incomplete run, causes such a mixture.

    Raises DataError with the first fold that differs from the first one, and the differences
    """
    comparable = {
        where: spec for where, spec in specs.items() if "params" in spec
    }  # models of other programs have none
    if not comparable:
        return
    first, *others = comparable
    for where in others:
        one, other = (
            {"train": shared_settings(spec), **{name: spec.get("digests", {}).get(name) for name in _SHARED_DIGESTS}}
            for spec in (specs[first], specs[where])
        )
        if changes := differences(one, other):
            listed = describe_differences(changes, "{key} is {other} instead of {one}")
            raise DataError(
                f"the folds belong to different models: {listed}", where, "train all folds with the same settings"
            )


def shared_settings(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that all folds must share: without those that a nested search chose for each fold."""
    search = spec.get("search") or {}
    per_fold = set(search.get("settings", ())) if search.get("nested") else set()
    return {name: value for name, value in _flat(spec["params"]).items() if name not in per_fold}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat


ORIGIN = ("encoder_preprocessing", "target_mpp", "target_patch_size", "level")
"""Attributes of feature files that must be equal besides the encoder."""


def feature_difference(
    actual: Mapping[str, Any], expected: Mapping[str, Any], further: tuple[str, ...] = ()
) -> tuple[str, Any, Any] | None:
    """The first attribute in which two sets of features have another origin: (name, actual, expected); None: the same.

    An attribute that one side lacks, or that was declared unknown, is not compared. Where both sides have the SHA-256
    of the encoder's weights, it is compared instead of the name.

    further  names of other attributes to compare
    """
    weights = all(side.get("encoder_weights_sha256") for side in (actual, expected))
    encoder = "encoder_weights_sha256" if weights else "encoder"
    for name in (encoder, *ORIGIN, *further):
        one, other = actual.get(name), expected.get(name)
        known = all(value and value != "unknown" for value in (one, other))
        if known and one != other and not (isinstance(other, list) and one in other):
            return name, one, other
    return None
