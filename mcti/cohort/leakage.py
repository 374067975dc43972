"""Does a test patient's data stand in the training part under another name?

Three ways in: the patient, the contents of a slide (MD5), and an expression profile that is the same but for rounding.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

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

TABLES = 16  # hash tables; at NEAR two profiles share none of them once in 10,000 times, a rounded copy never
CLIP = 3.0  # one gene 200 sd out would else decide the correlation of two profiles by itself
_MIN_GENES = 20  # fewer genes correlate by chance
_NEXT = 8  # neighbours of one bucket compared with each other
_FAR = 0.1  # share of signs that may differ: at NEAR it is 0.045 with an sd of 0.015 or less

Floats = npt.NDArray[np.float32]
Blocks = Callable[[], Iterable[tuple[list[str], Floats]]]
PASSES = 3  # of same_profiles over the expression table, at most


def check(folds: Folds, cohort: Location, blocks: Blocks) -> None:
    """Raise a DataError for the first leak from a test part into its training part; `blocks` gives the expression."""
    for number in folds.numbers:
        if both := set(folds.test_patients(number)) & set(folds.train_patients(number)):
            raise _leak(f"patient {min(both)!r}", number)
    roles = folds.frame.pivot(index="patient_id", columns="fold", values="role")
    pairs = [*same_slides(tables.read_slides(cohort)), *same_profiles(blocks)]
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


def same_profiles(blocks: Blocks) -> list[tuple[str, str, str]]:
    """Pairs of patients whose profiles correlate above NEAR, at a cost linear in patients and genes.

    Genes are standardised over the cohort and clipped. Signs of random projections hash the profiles; near-equal ones
    share a bucket in some table (Charikar, STOC 2002, 380-388), and only pairs of a bucket are compared in full.
    `blocks` gives ids (n,) and expression (n, genes) block by block and is called three times.
    """
    scale = _Scale.of(blocks)
    if scale.genes < _MIN_GENES or scale.rows < 2:
        return []
    ids, signs = _signs(blocks, scale)
    found = {pair for codes in _codes(signs) for pair in _bucket_pairs(codes)}
    far = _FAR * signs.shape[1]
    likely = sorted((a, b) for a, b in found if np.count_nonzero(signs[a] != signs[b]) <= far)
    profiles = _chosen(blocks, scale, {row for pair in likely for row in pair})
    return [(ids[a], ids[b], "expression profile") for a, b in likely if profiles[a] @ profiles[b] >= NEAR]


@dataclass(frozen=True)
class _Scale:
    """Mean and standard deviation of each gene (genes,) over the cohort's finite values."""

    rows: int
    mean: npt.NDArray[np.float64]
    sd: npt.NDArray[np.float64]

    @property
    def genes(self) -> int:
        return len(self.mean)

    @classmethod
    def of(cls, blocks: Blocks) -> "_Scale":
        rows, sums = 0, np.zeros((3, 0))
        for ids, block in blocks():
            finite = np.isfinite(block)
            values = np.where(finite, block, 0).astype(np.float64)
            part = np.stack([finite.sum(axis=0), values.sum(axis=0), (values**2).sum(axis=0)])
            rows, sums = rows + len(ids), part if rows == 0 else sums + part
        known = np.maximum(sums[0], 1)
        mean = sums[1] / known
        return cls(rows, mean, np.sqrt(np.maximum(sums[2] / known - mean**2, 0)))

    def unit(self, block: Floats) -> Floats:
        """Expression (n, genes) as unit vectors; a value that is no number counts as its gene's mean."""
        scaled = (block - self.mean) / np.where(self.sd > 0, self.sd, 1)
        scaled = np.clip(np.nan_to_num(scaled, nan=0.0, posinf=CLIP, neginf=-CLIP), -CLIP, CLIP)
        scaled -= scaled.mean(axis=1, keepdims=True)
        length = np.linalg.norm(scaled, axis=1, keepdims=True)
        return np.asarray(scaled / np.where(length > 0, length, 1), dtype=np.float32)


def _signs(blocks: Blocks, scale: _Scale) -> tuple[list[str], npt.NDArray[np.bool_]]:
    """Ids (n,) and the signs (n, TABLES * bits) of the profiles along random directions; at least n buckets a table."""
    bits = int(np.clip(np.ceil(np.log2(scale.rows)), 12, 20))
    directions = np.random.default_rng(0).standard_normal((scale.genes, TABLES * bits), dtype=np.float32)
    ids: list[str] = []
    signs = []
    for names, block in blocks():
        ids += names
        signs.append(scale.unit(block) @ directions > 0)
    return ids, np.concatenate(signs)


def _codes(signs: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """(TABLES, n) bucket of each profile in each table."""
    bits = signs.shape[1] // TABLES
    codes = signs.reshape(len(signs), TABLES, bits) @ (2 ** np.arange(bits, dtype=np.int64))
    return np.ascontiguousarray(codes.T)


def _chosen(blocks: Blocks, scale: _Scale, rows: set[int]) -> dict[int, Floats]:
    """The unit profiles of some rows."""
    found: dict[int, Floats] = {}
    start = 0
    if rows:
        for ids, block in blocks():
            here = sorted(row - start for row in rows if start <= row < start + len(ids))
            if here:
                found.update({start + row: unit for row, unit in zip(here, scale.unit(block[here]), strict=True)})
            start += len(ids)
    return found


def _bucket_pairs(codes: npt.NDArray[np.int64]) -> set[tuple[int, int]]:
    """Pairs of rows in one bucket, each row with its next few, so that a crowded bucket costs no square."""
    order = np.argsort(codes, kind="stable")
    pairs: set[tuple[int, int]] = set()
    for step in range(1, _NEXT + 1):
        same = codes[order[:-step]] == codes[order[step:]]
        pairs.update(zip(order[:-step][same].tolist(), order[step:][same].tolist(), strict=True))
    return pairs


def _leak(what: str, fold: int) -> DataError:
    hint = "give both to one patient, or delete one of them in the source tables"
    return DataError(f"{what} stands in the training and in the test part", f"fold {fold}", hint)
