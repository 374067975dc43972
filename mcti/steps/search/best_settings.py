"""best.yaml of `mcti search`: the winning settings, for all folds or per fold, and the record of the search."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from mcti import storage
from mcti.dataset.splits import REFIT
from mcti.errors import DataError, UsageError
from mcti.params import TrainParams, check
from mcti.storage import Location


@dataclass(frozen=True)
class BestSettings:
    """Settings of training for a fold, with the record of the search that model.json keeps.

    tree  the parsed file: {settings, inner}, or {nested: {fold: {settings, inner}}}
    """

    where: str
    tree: Mapping[str, Any]

    @classmethod
    def read(cls, location: Location) -> "BestSettings":
        """Read a best.yaml.

        Raises DataError when `mcti search` did not write the file.
        """
        hint = "give the best.yaml that `mcti search` wrote"
        try:
            tree = yaml.safe_load(storage.read_bytes(location))
            parts = list(tree["nested"].values()) if "nested" in tree else [tree]
            for part in parts:
                dict(part["settings"])
        except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError("no `settings` to read", str(location), hint) from error
        return cls(str(location), tree)

    def settings(self, params: TrainParams, fold: int) -> TrainParams:
        """`params` with the winning settings of a fold, each by its dotted path.

        REFIT after a nested search has the median of each number over the folds, and the most frequent text.

        Raises DataError when the search was nested and has no such fold
        Raises UsageError when training has no such setting
        """
        if "nested" not in self.tree:
            return override(params, dict(self.tree["settings"]), self.where)
        if fold == REFIT:
            return override(params, _typical([part["settings"] for part in self.tree["nested"].values()]), self.where)
        return override(params, dict(self._part(fold)["settings"]), self.where)

    def record(self, fold: int) -> dict[str, Any]:
        """The record of the search in model.json: {nested, outer_fold, settings (names), trials, c_index, gain …}.

        Raises DataError when the search was nested and has no such fold.
        """
        nested = "nested" in self.tree
        part = self._part(fold) if nested and fold != REFIT else self._first() if nested else self.tree
        inner = dict(part.get("inner", {}))
        kept = {name: inner.get(name) for name in ("outer_fold", "trials", "c_index", "start_c_index", "gain")}
        return {"nested": nested, "settings": sorted(part["settings"]), **kept}

    def _first(self) -> Mapping[str, Any]:
        part: Mapping[str, Any] = next(iter(self.tree["nested"].values()))
        return part

    def _part(self, fold: int) -> Mapping[str, Any]:
        known = {int(number): part for number, part in self.tree["nested"].items()}
        if fold not in known:
            hint = "search these folds again (search.nested), or train the folds that were searched"
            raise DataError(f"no settings for outer fold {fold}", self.where, hint)
        part: Mapping[str, Any] = known[fold]
        return part


def override(params: TrainParams, settings: dict[str, Any], where: str) -> TrainParams:
    """`params` with some settings replaced; a dotted name such as `architecture.width` is one of a section.

    Raises UsageError when training has no such setting or refuses the value.
    """
    tree = params.model_dump()
    for name, value in settings.items():
        *sections, key = name.split(".")
        target = tree
        for section in sections:
            if not isinstance(target.get(section), dict):
                raise UsageError(f"{name!r} is not a setting of train", where, f"train has no section {section!r}")
            target = target[section]
        target[key] = value
    return check(TrainParams, tree, where)


def _typical(chosen: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One value per setting: the lower median of numbers, which is one of them; the most frequent text."""
    middle: dict[str, Any] = {}
    for name in chosen[0]:
        values = [settings[name] for settings in chosen]
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        middle[name] = statistics.median_low(values) if numbers else Counter(values).most_common(1)[0][0]
    return middle
