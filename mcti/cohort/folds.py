"""Patients to folds: by patient always, outer folds for the score, inner folds for the search.

`folds.csv` has one row a patient and fold: patient_id, fold, role (train, test), inner (the inner fold of a training
patient, empty for a test patient). Repeats count on: repeat r, fold k is number r * folds + k.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from mcti import storage
from mcti.cohort import sites, split_files
from mcti.cohort.reading import read_table
from mcti.errors import DataError, UsageError, did_you_mean
from mcti.params import SplitParams
from mcti.storage import Location

Ints = npt.NDArray[np.int64]
OUTER_STARTS, INNER_STARTS = 64, 8  # of the search for site folds; inner folds are many and carry no claim
TIME_BINS = 4  # quarters of the follow-up inside each stratum of event and subtype


@dataclass(frozen=True)
class Folds:
    """Which patient is trained on and tested in which fold; `frame` has the columns of folds.csv."""

    frame: pd.DataFrame

    @property
    def numbers(self) -> list[int]:
        """The numbers of the outer folds, ascending."""
        return sorted(int(number) for number in self.frame["fold"].unique())

    def test_patients(self, fold: int) -> list[str]:
        """Ids of the test part of a fold, sorted."""
        return self._ids(fold, "test")

    def train_patients(self, fold: int) -> list[str]:
        """Ids of the training part of a fold, sorted."""
        return self._ids(fold, "train")

    def inner(self, fold: int) -> dict[str, int]:
        """The inner fold of each training patient of a fold, sorted by id."""
        rows = self._rows(fold, "train").sort_values("patient_id")
        return {str(p): int(i) for p, i in zip(rows["patient_id"], rows["inner"], strict=True)}

    def digest(self) -> str:
        """SHA-256 of the file that these folds are written as."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    def text(self) -> str:
        """The contents of folds.csv."""
        return self.frame.to_csv(index=False, lineterminator="\n")

    def _rows(self, fold: int, role: str) -> pd.DataFrame:
        if fold not in set(self.frame["fold"]):
            raise UsageError(f"there is no fold {fold}", "folds", f"folds: {', '.join(map(str, self.numbers))}")
        return self.frame[(self.frame["fold"] == fold) & (self.frame["role"] == role)]

    def _ids(self, fold: int, role: str) -> list[str]:
        return sorted(str(p) for p in self._rows(fold, role)["patient_id"])


def assign_folds(patients: pd.DataFrame, params: SplitParams) -> Folds:
    """The folds of a cohort's patients under `params.scheme`.

    Raises
        DataError: too few patients, events or sites for the folds asked for; no such time column.
        UsageError: a setting that the scheme needs is missing.
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


def assign_stratified(patients: pd.DataFrame, folds: int, seed: list[int]) -> Ints:
    """The fold of each patient (n,): patients, events and events of each subtype differ by at most one between folds.

    Patients sorted by event, subtype and quarter of follow-up are dealt round like cards, shuffled inside a stratum.

    Raises
        DataError: fewer patients than folds, or fewer events or censored patients than folds.
    """
    _enough(patients, folds)
    rng = np.random.default_rng(seed)
    stratum = pd.DataFrame(
        {
            "event": patients["event"].to_numpy(),
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
    """folds.csv as `split` wrote it.

    Raises
        DataError: not such a file; a patient twice in a fold; a fold without a training or a test part; the file was
            changed after `split` wrote it (folds.json beside it holds the hash).
    """
    table = read_table(location)
    table.need("patient_id", "fold", "role", "inner")
    frame = table.frame[["patient_id", "fold", "role", "inner"]].copy()
    for position, (fold, role, inner) in enumerate(zip(frame["fold"], frame["role"], frame["inner"], strict=True)):
        whole = fold.isdecimal() and role in {"train", "test"} and (inner.isdecimal() or inner == "")
        if not whole or (role == "train") != (inner != ""):
            what = f"fold {fold!r}, role {role!r}, inner {inner!r} is no row of a split"
            raise DataError(what, table.at(position), "write the folds anew with mcti split")
    frame["fold"] = frame["fold"].astype(np.int64)
    frame["inner"] = pd.to_numeric(frame["inner"].replace("", None)).astype("Int64")
    folds = Folds(frame)
    _check_whole(folds, str(location))
    _check_digest(folds, location)
    return folds


def description_path(location: Location) -> str:
    """The address of the description beside a folds file: `folds.csv` -> `folds.json`."""
    text = str(location)
    return f"{text.removesuffix('.csv')}.json"


def write_folds(folds: Folds, description: dict[str, object], out: Path) -> None:
    """folds.csv at `out` and its description with the hash at `describe(out)`, each whole or not at all."""
    # The table last: a run cut between the two leaves a description that no reader takes for that of an older table.
    storage.write_json(description_path(out), {**description, "sha256": folds.digest()})
    storage.write_text(out, folds.text())


def _outer(patients: pd.DataFrame, params: SplitParams) -> list[tuple[Ints, Ints]]:
    if params.scheme in {"stratified", "site"}:
        parts = [_placed(patients, params, repeat) for repeat in range(params.repeats)]
        return [pair for placement in parts for pair in _pairs(placement, params.folds)]
    if params.repeats > 1:
        raise UsageError(f"{params.scheme} folds cannot be repeated", "split.repeats", "set it to 1")
    if params.scheme == "leave-one-site-out":
        codes = np.unique(patients["site"].to_numpy(dtype=object), return_inverse=True)[1]
        return _pairs(np.asarray(codes, dtype=np.int64), int(codes.max()) + 1)
    if params.scheme == "time":
        return _forward(patients, params)
    return split_files.read(params.files, patients["patient_id"].tolist())


def _placed(patients: pd.DataFrame, params: SplitParams, repeat: int) -> Ints:
    seed = [params.seed, repeat, 0]
    if params.scheme == "stratified":
        return assign_stratified(patients, params.folds, seed)
    return _by_site(patients, params.folds, seed, OUTER_STARTS)


def _by_site(patients: pd.DataFrame, folds: int, seed: list[int], starts: int) -> Ints:
    _enough(patients, folds)
    event = patients["event"].to_numpy() == 1
    return sites.assign_sites(patients["site"].tolist(), event, patients["subtype"].tolist(), folds, seed, starts)


def _inner(part: pd.DataFrame, folds: int, by_site: bool, seed: list[int]) -> Ints:
    """Inner folds by site where the outer ones are and the training part has sites enough, else stratified."""
    if by_site and part["site"].nunique() >= folds:
        return _by_site(part, folds, seed, INNER_STARTS)
    return assign_stratified(part, folds, seed)


def _pairs(placement: Ints, folds: int) -> list[tuple[Ints, Ints]]:
    if folds < 2:
        raise DataError("all patients are of one site", "column site", "set split.scheme to stratified")
    return [(np.flatnonzero(placement != k), np.flatnonzero(placement == k)) for k in range(folds)]


def _forward(patients: pd.DataFrame, params: SplitParams) -> list[tuple[Ints, Ints]]:
    """Fold k trains on the first k + 1 of folds + 1 blocks of time and is tested on the next; ties stay together."""
    column = params.time_column
    if column is None:
        hint = "name a covariate of the patients, e.g. split.time_column=year_of_diagnosis"
        raise UsageError("scheme time needs a column of calendar time", "split.time_column", hint)
    if column not in patients.columns:
        hint = did_you_mean(column, patients.columns)
        raise DataError(f"column {column!r}, which split.time_column names, is missing", "patients.parquet", hint)
    values = patients[column]
    if not pd.api.types.is_numeric_dtype(values) or values.isna().any():
        hint = "give each patient a number that grows with calendar time"
        raise DataError("a patient has no number in it", f"patients.parquet, column {column}", hint)
    edges = np.quantile(values, np.arange(1, params.folds + 1) / (params.folds + 1), method="lower")
    block = np.searchsorted(np.unique(edges), values.to_numpy(dtype=np.float64), side="left")
    if len(np.unique(block)) < params.folds + 1:
        what = f"{values.nunique()} different values cannot be cut into {params.folds + 1} blocks"
        raise DataError(what, f"patients.parquet, column {column}", "set split.folds lower")
    return [(np.flatnonzero(block <= k), np.flatnonzero(block == k + 1)) for k in range(params.folds)]


def _quarters(patients: pd.DataFrame) -> Ints:
    """The quarter of follow-up (n,) inside each stratum of event and subtype, by rank."""
    strata = patients.groupby(["event", "subtype"], sort=False)["time_months"]
    share = (strata.rank(method="first") - 1) / strata.transform("size")
    return np.asarray(np.floor(share * TIME_BINS), dtype=np.int64)


def _enough(patients: pd.DataFrame, folds: int) -> None:
    events = int(patients["event"].sum())
    for count, word in ((len(patients), "patients"), (events, "events")):
        if count < folds:
            what = f"{count} {word} cannot fill {folds} folds"
            raise DataError(what, "patients.parquet", "set split.folds (or split.inner_folds) lower, or add patients")


def _rows(ids: list[str], number: int, role: str, inner: Ints | None) -> pd.DataFrame:
    column = pd.array([pd.NA] * len(ids) if inner is None else inner.tolist(), dtype="Int64")
    return pd.DataFrame({"patient_id": ids, "fold": number, "role": role, "inner": column})


def _check_whole(folds: Folds, where: str) -> None:
    frame = folds.frame
    twice = frame[frame.duplicated(["patient_id", "fold"])]
    if len(twice):
        patient, fold = twice[["patient_id", "fold"]].iloc[0]
        what = f"patient {patient!r} stands twice in fold {fold}"
        raise DataError(what, where, "a patient is trained on or tested, never both: run mcti split again")
    for number, roles in frame.groupby("fold")["role"]:
        if set(roles) != {"train", "test"}:
            raise DataError(f"fold {number} has no training or no test part", where, "run mcti split again")


def _check_digest(folds: Folds, location: Location) -> None:
    beside = description_path(location)
    if not storage.exists(beside):
        return
    if storage.read_json(beside).get("sha256") != folds.digest():
        what = f"the folds are not those that {Path(beside).name} describes"
        raise DataError(what, str(location), "run mcti split again, or delete the description of other folds")
