"""Published folds: a folder of MCAT-style split files, `splits_<k>.csv`.

Each file has the columns train and val, or train, val and test, with one patient id per cell. MCAT and its successors
report on val and have no test column; where there is a test column, the val patients are training patients.
"""

import re
from pathlib import Path

import numpy as np

from mcti import storage
from mcti.arrays import IntArray
from mcti.cohort.raw_tables import RawTable, is_missing
from mcti.cohort.reading import read_columns
from mcti.errors import DataError, UsageError
from mcti.storage import Location


def read(folder: Location | None, patient_ids: list[str]) -> list[tuple[IntArray, IntArray]]:
    """Positions of the training and the test patients of each file, in the order of the numbers of the files.

    Patients that are only in the files, or only in the cohort, are in no fold.

    Raises
        UsageError when no folder is set.
        DataError when there is no such file, a patient occurs twice in a file, or a part has no patient of the cohort.
    """
    if folder is None:
        hint = "set it to the folder of splits_0.csv, splits_1.csv …"
        raise UsageError("scheme files needs a folder", "split.files", hint)
    with storage.local_copy(folder) as path:
        files = sorted((p for p in path.glob("splits_*.csv") if _number(p) is not None), key=lambda p: _number(p) or 0)
        if not files:
            raise DataError("no splits_<number>.csv", str(folder), "set split.files to the folder of the split files")
        position = {patient_id: i for i, patient_id in enumerate(patient_ids)}
        return [_pair(file, storage.join(folder, file.name), position) for file in files]


def _number(path: Path) -> int | None:
    match = re.fullmatch(r"splits_(\d+)\.csv", path.name)
    return int(match[1]) if match else None


def _pair(file: Path, where: str, position: dict[str, int]) -> tuple[IntArray, IntArray]:
    raw = read_columns(file, lambda name: name in {"train", "val", "test"})
    table = RawTable(raw.frame, where, raw.rows)
    table.require("train", "val")
    parts = [name for name in ("train", "val", "test") if name in table.frame.columns]
    ids = {name: [text for text in table.frame[name] if not is_missing(text)] for name in parts}
    if not ids.get("test"):
        ids.pop("test", None)
    _check_disjoint(ids, where)
    test_name = "test" if "test" in ids else "val"
    train = [p for name in ids if name != test_name for p in ids[name]]
    return (
        _positions(train, position, f"{where}, training patients"),
        _positions(ids[test_name], position, f"{where}, test patients"),
    )


def _check_disjoint(ids: dict[str, list[str]], where: str) -> None:
    part_of_patient: dict[str, str] = {}
    for name, members in ids.items():
        for patient_id in members:
            first = part_of_patient.get(patient_id)
            if first is not None:
                parts = f"twice in {name}" if first == name else f"in {first} and in {name}"
                raise DataError(f"patient {patient_id!r} is {parts}", where, "keep one of the two")
            part_of_patient[patient_id] = name


def _positions(ids: list[str], position: dict[str, int], where: str) -> IntArray:
    positions = sorted(position[p] for p in ids if p in position)
    if not positions:
        raise DataError("no id is that of a patient of the cohort", where, "use the patient ids of the cohort")
    return np.array(positions, dtype=np.int64)
