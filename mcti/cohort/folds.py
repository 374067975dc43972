"""Assignment of patients to outer folds (evaluation) and inner folds (hyperparameter search), always by patient.

`folds.csv` has one row per patient and fold: patient_id, fold, role (train, test), inner (the inner fold of a training
patient, empty for a test patient). With repeats, fold k of repeat r has the number r * folds + k.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mcti import storage
from mcti.arrays import IntArray
from mcti.cohort import competing, labels, sites, split_files
from mcti.cohort.reading import read_table
from mcti.errors import DataError, UsageError, did_you_mean
from mcti.params import SplitParams
from mcti.storage import Location

OUTER_STARTS, INNER_STARTS = 64, 8  # random starts of the search for site folds; inner folds need less balance
TIME_BINS = 4  # quarters of the follow-up within each stratum of event and subtype


@dataclass(frozen=True)
class Folds:
    """The role of each patient in each fold; `frame` has the columns of folds.csv."""

    frame: pd.DataFrame

    @property
    def numbers(self) -> list[int]:
        """The numbers of the outer folds, ascending."""
        return sorted(int(number) for number in self.frame["fold"].unique())

    def test_patients(self, fold: int) -> list[str]:
        """Ids of the test patients of a fold, sorted.

        Raises UsageError when there is no such fold.
        """
        return self._ids(fold, "test")

    def train_patients(self, fold: int) -> list[str]:
        """Ids of the training patients of a fold, sorted.

        Raises UsageError when there is no such fold.
        """
        return self._ids(fold, "train")

    def inner(self, fold: int) -> dict[str, int]:
        """{patient: inner fold} of the training patients of a fold, sorted by id.

        Raises UsageError when there is no such fold.
        """
        rows = self._rows(fold, "train").sort_values("patient_id")
        return {str(p): int(i) for p, i in zip(rows["patient_id"], rows["inner"], strict=True)}

    def digest(self) -> str:
        """SHA-256 of the contents of folds.csv."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    def text(self) -> str:
        """The contents of folds.csv."""
        return self.frame.to_csv(index=False, lineterminator="\n")

    def _rows(self, fold: int, role: str) -> pd.DataFrame:
        if fold not in set(self.frame["fold"]):
            raise UsageError(f"there is no fold {fold}", "folds", f"use one of {', '.join(map(str, self.numbers))}")
        return self.frame[(self.frame["fold"] == fold) & (self.frame["role"] == role)]

    def _ids(self, fold: int, role: str) -> list[str]:
        return sorted(str(p) for p in self._rows(fold, role)["patient_id"])


def assign_folds(patients: pd.DataFrame, params: SplitParams) -> Folds:
    """Assign the patients of a cohort to folds under `params.scheme`.

    Raises
        DataError when there are too few patients, events or sites for the folds, or the time column is missing.
        UsageError when a setting that the scheme needs is missing.
    """
    outer = _outer(patients, params)
    by_site = params.scheme in {"site", "leave-one-site-out"}
    rows = []
    for number, (train, test) in enumerate(outer):
        part = patients.iloc[train]
        seed = [params.seed, number, 1]
        inner = _inner(part, params.inner_folds, by_site, seed)
        rows.append(_rows(part["patient_id"].tolist(), number, "train", inner))
        rows.append(_rows(patients["patient_id"].iloc[test].tolist(), number, "test", None))
    frame = pd.concat(rows, ignore_index=True).sort_values(["fold", "patient_id"], ignore_index=True)
    return Folds(frame.astype({"inner": "Int64"}))


def assign_stratified(patients: pd.DataFrame, folds: int, seed: list[int]) -> IntArray:
    """The fold of each patient (n,): patients, events and events of each subtype differ by at most one between folds.

    Patients are sorted by event (censored, event, competing event), subtype and quarter of follow-up, shuffled within
    each stratum, and assigned to the folds in turn.

    Raises DataError when there are fewer patients, or fewer events, than folds.
    """
    _check_enough(patients, folds)
    rng = np.random.default_rng(seed)
    stratum = pd.DataFrame(
        {
            "event": patients["event"].to_numpy() + labels.COMPETING * competing.flags(patients),
            "subtype": patients["subtype"].to_numpy(),
            "quarter": _quarters(patients),
            "shuffle": rng.permutation(len(patients)),
        }
    )
    order = stratum.sort_values(["event", "subtype", "quarter", "shuffle"]).index.to_numpy()
    placement = np.empty(len(patients), dtype=np.int64)
    placement[order] = np.arange(len(patients)) % folds
    return np.asarray(rng.permutation(folds)[placement], dtype=np.int64)


def read_folds(location: Location) -> Folds:
    """Read folds.csv as `split` wrote it.

    Raises DataError when it is no such file, a patient occurs twice in a fold, a fold has no training or no test
    patients, or the file was changed after `split` wrote it (its description folds.json records the hash).
    """
    table = read_table(location)
    table.require("patient_id", "fold", "role", "inner")
    frame = table.frame[["patient_id", "fold", "role", "inner"]].copy()
    for position, (fold, role, inner) in enumerate(zip(frame["fold"], frame["role"], frame["inner"], strict=True)):
        valid = fold.isdecimal() and role in {"train", "test"} and (inner.isdecimal() or inner == "")
        if not valid or (role == "train") != (inner != ""):
            what = f"fold {fold!r}, role {role!r}, inner {inner!r} is not a row of a split"
            raise DataError(what, table.address(position), "run mcti split again")
    frame["fold"] = frame["fold"].astype(np.int64)
    frame["inner"] = pd.to_numeric(frame["inner"].replace("", None)).astype("Int64")
    folds = Folds(frame)
    _check_parts(folds, str(location))
    _check_digest(folds, location)
    return folds


def description_path(location: Location) -> str:
    """The location of the description of a folds file: `folds.csv` -> `folds.json`."""
    text = str(location)
    return f"{text.removesuffix('.csv')}.json"


def write_folds(folds: Folds, description: dict[str, object], out: Path) -> None:
    """Write folds.csv to `out` and its description with the hash to `description_path(out)`, each atomically."""
    # The table is written last. If the run is interrupted between the two, the hash in the new description does not
    # match the old table, and read_folds refuses it.
    storage.write_json(description_path(out), {**description, "sha256": folds.digest()})
    storage.write_text(out, folds.text())


def _outer(patients: pd.DataFrame, params: SplitParams) -> list[tuple[IntArray, IntArray]]:
    if params.scheme in {"stratified", "site"}:
        assignments = [_assign_repeat(patients, params, repeat) for repeat in range(params.repeats)]
        return [pair for assignment in assignments for pair in _train_test_pairs(assignment, params.folds)]
    if params.repeats > 1:
        raise UsageError(f"scheme {params.scheme} cannot be repeated", "split.repeats", "set it to 1")
    if params.scheme == "leave-one-site-out":
        codes = np.unique(patients["site"].to_numpy(dtype=object), return_inverse=True)[1]
        return _train_test_pairs(np.asarray(codes, dtype=np.int64), int(codes.max()) + 1)
    if params.scheme == "time":
        return _time_folds(patients, params)
    return split_files.read(params.files, patients["patient_id"].tolist())


def _assign_repeat(patients: pd.DataFrame, params: SplitParams, repeat: int) -> IntArray:
    seed = [params.seed, repeat, 0]
    if params.scheme == "stratified":
        return assign_stratified(patients, params.folds, seed)
    return _assign_by_site(patients, params.folds, seed, OUTER_STARTS)


def _assign_by_site(patients: pd.DataFrame, folds: int, seed: list[int], starts: int) -> IntArray:
    _check_enough(patients, folds)
    event = patients["event"].to_numpy() == 1
    return sites.assign_sites(patients["site"].tolist(), event, patients["subtype"].tolist(), folds, seed, starts)


def _inner(part: pd.DataFrame, folds: int, by_site: bool, seed: list[int]) -> IntArray:
    """Inner folds by site where the outer folds are by site and there are enough sites, else stratified."""
    if by_site and part["site"].nunique() >= folds:
        return _assign_by_site(part, folds, seed, INNER_STARTS)
    return assign_stratified(part, folds, seed)


def _train_test_pairs(assignment: IntArray, folds: int) -> list[tuple[IntArray, IntArray]]:
    """Positions of the training and the test patients of each fold."""
    if folds < 2:
        raise DataError("all patients are of one site", "column site", "set split.scheme to stratified")
    return [(np.flatnonzero(assignment != k), np.flatnonzero(assignment == k)) for k in range(folds)]


def _time_folds(patients: pd.DataFrame, params: SplitParams) -> list[tuple[IntArray, IntArray]]:
    """Fold k trains on the first k + 1 of folds + 1 blocks of time and is tested on the next; ties share a block."""
    column = params.time_column
    if column is None:
        hint = "set it to a covariate of the patients, e.g. split.time_column=year_of_diagnosis"
        raise UsageError("scheme time needs a column of calendar time", "split.time_column", hint)
    if column not in patients.columns:
        hint = did_you_mean(column, patients.columns)
        raise DataError(f"column {column!r}, set in split.time_column, is missing", "patients.parquet", hint)
    values = patients[column]
    if not pd.api.types.is_numeric_dtype(values) or values.isna().any():
        hint = "write a number that increases with calendar time for each patient"
        raise DataError("a patient has no number", f"patients.parquet, column {column}", hint)
    edges = np.quantile(values, np.arange(1, params.folds + 1) / (params.folds + 1), method="lower")
    block = np.searchsorted(np.unique(edges), values.to_numpy(dtype=np.float64), side="left")
    if len(np.unique(block)) < params.folds + 1:
        what = f"{values.nunique()} distinct values cannot be divided into {params.folds + 1} blocks"
        raise DataError(what, f"patients.parquet, column {column}", "set a lower split.folds")
    return [(np.flatnonzero(block <= k), np.flatnonzero(block == k + 1)) for k in range(params.folds)]


def _quarters(patients: pd.DataFrame) -> IntArray:
    """The quarter of follow-up (n,) within each stratum of event and subtype, by rank."""
    strata = patients.groupby(["event", "subtype"], sort=False)["time_months"]
    share = (strata.rank(method="first") - 1) / strata.transform("size")
    return np.asarray(np.floor(share * TIME_BINS), dtype=np.int64)


def _check_enough(patients: pd.DataFrame, folds: int) -> None:
    events = int(patients["event"].sum())
    for count, word in ((len(patients), "patients"), (events, "events")):
        if count < folds:
            what = f"{count} {word} cannot fill {folds} folds"
            hint = "set a lower split.folds (or split.inner_folds), or add patients"
            raise DataError(what, "patients.parquet", hint)


def _rows(ids: list[str], number: int, role: str, inner: IntArray | None) -> pd.DataFrame:
    column = pd.array([pd.NA] * len(ids) if inner is None else inner.tolist(), dtype="Int64")
    return pd.DataFrame({"patient_id": ids, "fold": number, "role": role, "inner": column})


def _check_parts(folds: Folds, where: str) -> None:
    frame = folds.frame
    duplicates = frame[frame.duplicated(["patient_id", "fold"])]
    if len(duplicates):
        patient, fold = duplicates[["patient_id", "fold"]].iloc[0]
        what = f"patient {patient!r} has two rows in fold {fold}"
        raise DataError(what, where, "run mcti split again: a patient has one role in each fold")
    for number, roles in frame.groupby("fold")["role"]:
        if set(roles) != {"train", "test"}:
            raise DataError(f"fold {number} has no training or no test patients", where, "run mcti split again")


def _check_digest(folds: Folds, location: Location) -> None:
    description = description_path(location)
    if not storage.exists(description):
        return
    if storage.read_json(description).get("sha256") != folds.digest():
        name = Path(description).name
        hint = f"run mcti split again, or delete {name} if it belongs to other folds"
        raise DataError(f"the folds differ from those that {name} describes", str(location), hint)
