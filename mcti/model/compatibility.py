"""Whether two runs had the same settings, data and code, and where they differ."""

from collections.abc import Mapping
from typing import Any

from mcti.errors import DataError

SHOWN = 3
"""Differences that an error names; of the others it says how many there are."""


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(dotted key, its value in one, in the other) wherever two trees of plain values differ; None: not there."""
    first, second = _flat(one), _flat(other)
    keys = sorted(first.keys() | second.keys())
    return [(key, first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)]


def told(found: list[tuple[str, Any, Any]], form: str) -> str:
    """The first differences as a sentence; `form` has places for key, one and other."""
    shown = "; ".join(form.format(key=key, one=repr(one), other=repr(other)) for key, one, other in found[:SHOWN])
    return shown + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")


def check_folds(specs: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse folds that are not one model's, by their model.json; keys: where each stands.

    A fold trained alone with other settings, or a run that failed half-way, leaves such a mixture behind.

    Raises
        DataError: naming the first fold that differs from the first one, and in what.
    """
    known = {where: spec for where, spec in specs.items() if "params" in spec}  # of other hands: taken at its word
    if not known:
        return
    first, *others = known
    for where in others:
        one, other = ({"train": _settings(known[at]), "code": _code(known[at])} for at in (first, where))
        if found := differences(one, other):
            what = f"the folds are not one model's: {told(found, '{key} is {other} here and {one} in the first')}"
            raise DataError(what, where, "train all folds with the same settings (mcti train)")


def _settings(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a fold that all folds must share: without those that a nested search chose for each."""
    search = spec.get("search") or {}
    own = set(search.get("settings", ())) if search.get("nested") else set()
    return {name: value for name, value in _flat(spec["params"]).items() if name not in own}


def _code(spec: Mapping[str, Any]) -> Any:
    return spec.get("digests", {}).get("code")


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat
