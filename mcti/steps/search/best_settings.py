"""best.yaml of `mcti search`: the settings that won, for all folds or for each, and the search behind them."""

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
class Best:
    """Settings of training for a fold, with the record of the search that model.json keeps.

    tree  the parsed file: {settings, inner}, or {nested: {fold: {settings, inner}}}
    """

    where: str
    tree: Mapping[str, Any]

    @classmethod
    def read(cls, location: Location) -> "Best":
        """Read a best.yaml.

        Raises
            DataError: it is no file that `mcti search` wrote.
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
        """`params` with the winning settings of a fold on top, each by its dotted path.

        REFIT after a nested search takes the median of each number over the folds, and the most frequent word.

        Raises
            DataError: the search was nested and knows no such fold.
            UsageError: a setting that training does not know.
        """
        if "nested" not in self.tree:
            return override(params, dict(self.tree["settings"]), self.where)
        if fold == REFIT:
            return override(params, _middle([part["settings"] for part in self.tree["nested"].values()]), self.where)
        return override(params, dict(self._part(fold)["settings"]), self.where)

    def record(self, fold: int) -> dict[str, Any]:
        """What model.json says of the search: {nested, outer_fold, settings (names), trials, c_index, gain …}."""
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
    """`params` with some settings replaced; `architecture.width` and the like reach into a section."""
    tree = params.model_dump()
    for name, value in settings.items():
        *sections, key = name.split(".")
        place = tree
        for section in sections:
            if not isinstance(place.get(section), dict):
                raise UsageError(f"{name!r} is no setting of train", where, f"train has no section {section!r}")
            place = place[section]
        place[key] = value
    return check(TrainParams, tree, where)


def _middle(chosen: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One value a setting: the lower median of numbers, which is one of them; the most frequent word."""
    middle: dict[str, Any] = {}
    for name in chosen[0]:
        values = [settings[name] for settings in chosen]
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        middle[name] = statistics.median_low(values) if numbers else Counter(values).most_common(1)[0][0]
    return middle
