"""Does a test patient's data stand in the training part under another name?

Three ways in: the patient, the contents of a slide (MD5), and an expression profile that is the same but for rounding.
"""

from collections import Counter

import numpy as np
import numpy.typing as npt
import pandas as pd

from mcti.cohort import tables
from mcti.cohort.folds import Folds
from mcti.errors import DataError
from mcti.storage import Location

NEAR = 0.99
"""Correlation of two profiles from which on they are one sample. Over genes standardised and clipped, two patients of
BRCA or NSCLC reach at most 0.9 (docs/cohort.md), a profile and its rounded copy 0.9999."""

TABLES = 16  # hash tables; a pair at NEAR shares two of them but once in a thousand, a rounded copy always
CLIP = 3.0  # one gene 200 sd out would else decide the correlation of two profiles by itself
_MIN_GENES = 20  # fewer genes correlate by chance
_NEXT = 8  # neighbours of one bucket compared with each other
_BLOCK = 1024  # patients standardised at a time

Floats = npt.NDArray[np.float32]


def check(folds: Folds, cohort: Location) -> None:
    """Raise a DataError for the first leak from a test part into its training part."""
    for number in folds.numbers:
        if both := set(folds.test_patients(number)) & set(folds.train_patients(number)):
            raise _leak(f"patient {min(both)!r}", number)
    roles = folds.frame.pivot(index="patient_id", columns="fold", values="role")
    pairs = [*same_slides(tables.read_slides(cohort)), *same_profiles(tables.read_expression(cohort))]
    for first, second, what in pairs:
        if first in roles.index and second in roles.index:
            apart = roles.loc[first] != roles.loc[second]
            apart &= roles.loc[first].notna() & roles.loc[second].notna()
            if apart.any():
                raise _leak(f"{what} of {first!r} and {second!r}", int(str(apart.idxmax())))


def same_slides(slides: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Pairs of patients that share a slide, by its id or by the MD5 of its contents, with what they share."""
    pairs = []
    for key, word in (("slide_id", "slide"), ("md5", "slide contents (md5)")):
        known = slides[slides[key].notna()]
        for value, owners in known[known.duplicated(key, keep=False)].groupby(key, sort=True)["patient_id"]:
            names = sorted(set(owners))
            pairs += [(names[0], other, f"{word} {value}") for other in names[1:]]
    return pairs


def same_profiles(expression: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Pairs of patients whose profiles correlate above NEAR, at a cost linear in patients and genes.

    Genes are standardised over the cohort and clipped. Signs of random projections hash the profiles; near-equal ones
    share a bucket in some table (Charikar, STOC 2002, 380-388), and only pairs of a bucket are compared in full.
    """
    if expression.shape[1] < _MIN_GENES or len(expression) < 2:
        return []
    profiles = _Profiles(expression)
    ids = [str(p) for p in expression.index]
    shared = Counter(pair for codes in _codes(profiles) for pair in _bucket_pairs(codes))
    likely = sorted(pair for pair, tables_shared in shared.items() if tables_shared >= 2)
    return [(ids[a], ids[b], "expression profile") for a, b in likely if profiles.correlation(a, b) >= NEAR]


class _Profiles:
    """Rows of an expression table as unit vectors over standardised, clipped genes; made in blocks, not all at once."""

    def __init__(self, expression: pd.DataFrame) -> None:
        self.values = expression.to_numpy()
        total, square, known = (np.zeros(self.values.shape[1]) for _ in range(3))
        for start in range(0, len(self), _BLOCK):
            block = self.values[start : start + _BLOCK].astype(np.float64)
            finite = np.isfinite(block)
            block[~finite] = 0
            total, square, known = total + block.sum(0), square + (block**2).sum(0), known + finite.sum(0)
        self.mean = total / np.maximum(known, 1)
        self.sd = np.sqrt(np.maximum(square / np.maximum(known, 1) - self.mean**2, 0))

    def __len__(self) -> int:
        return len(self.values)

    def unit(self, rows: slice | list[int]) -> Floats:
        """(rows, genes) float32; a value that is no number counts as its gene's mean."""
        scaled = (self.values[rows] - self.mean) / np.where(self.sd > 0, self.sd, 1)
        scaled = np.clip(np.nan_to_num(scaled, nan=0.0, posinf=CLIP, neginf=-CLIP), -CLIP, CLIP)
        scaled -= scaled.mean(axis=1, keepdims=True)
        length = np.linalg.norm(scaled, axis=1, keepdims=True)
        return np.asarray(scaled / np.where(length > 0, length, 1), dtype=np.float32)

    def correlation(self, a: int, b: int) -> float:
        first, second = self.unit([a, b])
        return float(first @ second)


def _codes(profiles: _Profiles) -> npt.NDArray[np.int64]:
    """(TABLES, patients) bucket of each profile in each table, about one bucket a patient."""
    bits = int(np.clip(np.ceil(np.log2(len(profiles))), 4, 20))
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((profiles.values.shape[1], TABLES * bits), dtype=np.float32)
    powers = 2 ** np.arange(bits, dtype=np.int64)
    blocks = []
    for start in range(0, len(profiles), _BLOCK):
        signs = (profiles.unit(slice(start, start + _BLOCK)) @ directions) > 0
        blocks.append(signs.reshape(len(signs), TABLES, bits) @ powers)
    return np.ascontiguousarray(np.concatenate(blocks).T)


def _bucket_pairs(codes: npt.NDArray[np.int64]) -> set[tuple[int, int]]:
    """Pairs of rows in one bucket, each row with its next few, so that a crowded bucket costs no square."""
    order = np.argsort(codes, kind="stable")
    pairs: set[tuple[int, int]] = set()
    for step in range(1, _NEXT + 1):
        same = codes[order[:-step]] == codes[order[step:]]
        pairs.update(zip(order[:-step][same].tolist(), order[step:][same].tolist(), strict=True))
    return pairs


def _leak(what: str, fold: int) -> DataError:
    mend = "give both to one patient, or delete one of them in the source tables"
    return DataError(f"{what} stands in the training and in the test part", f"fold {fold}", mend)
