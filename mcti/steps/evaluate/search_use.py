"""How the settings of the trained folds were searched, and which evaluated patients that search used."""

from collections.abc import Mapping
from typing import Any

from mcti import storage
from mcti.cohort.folds import Folds
from mcti.storage import Location


def read(models: Location, split: Folds) -> dict[str, Any]:
    """{nested, outer_folds, trials, c_index, start_c_index, gain, seen, patients}; empty without a search.

    Reads models/fold_<k>/model.json. seen: number of evaluated patients (of `patients`) who were in the outer training
    part that chose the settings of the fold that tests them; their outcomes influenced that choice. It is 0 for a
    nested search. gain {value, low, high} over the inner folds; a nested search has one gain per fold (`gains`).
    """
    records = {number: record for number in split.numbers if (record := _record(models, number))}
    if not records:
        return {}
    used: set[str] = set()
    for number, record in records.items():
        outer = record.get("outer_fold")
        if outer is not None and int(outer) in split.numbers:
            used |= set(split.test_patients(number)) & set(split.train_patients(int(outer)))
    tested = {name for number in split.numbers for name in split.test_patients(number)}
    first = next(iter(records.values()))
    nested = bool(first.get("nested"))
    kept = {name: first.get(name) for name in ("trials", "c_index", "start_c_index", "gain")}
    gains = {"gains": {str(number): record.get("gain") for number, record in records.items()}} if nested else {}
    outer_folds = sorted({int(r["outer_fold"]) for r in records.values() if r.get("outer_fold") is not None})
    return {"nested": nested, "outer_folds": outer_folds, **kept, **gains, "seen": len(used), "patients": len(tested)}


def _record(models: Location, fold: int) -> Mapping[str, Any]:
    path = storage.join(models, f"fold_{fold}", "model.json")
    record: Mapping[str, Any] = (storage.read_json(path).get("search") or {}) if storage.exists(path) else {}
    return record
