"""Folds that others fixed: a folder of MCAT-style split files, `splits_<k>.csv`.

Each file has the columns train and val, or train, val and test, with one patient id a cell. MCAT and its children
report on val and have no test column; where there is a test column, val belongs to the training part.
"""

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mcti import storage
from mcti.cohort.reading import RawTable, is_missing, read_columns
from mcti.errors import DataError, UsageError
from mcti.storage import Location

Ints = npt.NDArray[np.int64]


def read(folder: Location | None, patient_ids: list[str]) -> list[tuple[Ints, Ints]]:
    """Positions of the training and the test patients of each file, in the order of the files' numbers.

    Patients that only the files know, or only the cohort knows, stand in no fold.

    Raises
        UsageError: no folder is set.
        DataError: no such files; a patient in two parts of a file, or twice in one; nobody of the cohort in a part.
    """
    if folder is None:
        raise UsageError(
            "scheme files needs a folder", "split.files", "name the folder of splits_0.csv, splits_1.csv …"
        )
    with storage.local_copy(folder) as path:
        files = sorted((p for p in path.glob("splits_*.csv") if _number(p) is not None), key=lambda p: _number(p) or 0)
        if not files:
            raise DataError("no splits_<number>.csv", str(folder), "name the folder that holds the split files")
        position = {patient_id: i for i, patient_id in enumerate(patient_ids)}
        return [_pair(file, storage.join(folder, file.name), position) for file in files]


def _number(path: Path) -> int | None:
    match = re.fullmatch(r"splits_(\d+)\.csv", path.name)
    return int(match[1]) if match else None


def _pair(file: Path, where: str, position: dict[str, int]) -> tuple[Ints, Ints]:
    raw = read_columns(file, lambda name: name in {"train", "val", "test"})
    table = RawTable(raw.frame, where, raw.rows)
    table.need("train", "val")
    parts = [name for name in ("train", "val", "test") if name in table.frame.columns]
    ids = {name: [text for text in table.frame[name] if not is_missing(text)] for name in parts}
    if not ids.get("test"):
        ids.pop("test", None)
    _check_apart(ids, where)
    test_name = "test" if "test" in ids else "val"
    train = [p for name in ids if name != test_name for p in ids[name]]
    return _known(train, position, f"{where}, training part"), _known(ids[test_name], position, f"{where}, test part")


def _check_apart(ids: dict[str, list[str]], where: str) -> None:
    seen: dict[str, str] = {}
    for name, members in ids.items():
        for patient_id in members:
            if patient_id in seen:
                place = f"in {name}" if seen[patient_id] == name else f"in {seen[patient_id]} and in {name}"
                raise DataError(f"patient {patient_id!r} stands twice, {place}", where, "keep one of the two")
            seen[patient_id] = name


def _known(ids: list[str], position: dict[str, int], where: str) -> Ints:
    known = sorted(position[p] for p in ids if p in position)
    if not known:
        raise DataError("no patient of the cohort is in it", where, "use the patient ids of the cohort")
    return np.array(known, dtype=np.int64)
