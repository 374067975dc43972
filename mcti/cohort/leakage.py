"""Checks for leakage: data of one patient in the training and in the test part, possibly under two ids.

Three cases are checked: the patient id, the contents of a slide (MD5), and expression profiles that are equal except
for rounding.
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

MIN_CORRELATION = 0.99
"""Two profiles with at least this correlation come from one sample. Over genes standardised and clipped, two patients
of BRCA or NSCLC reach at most 0.9 (docs/cohort.md), a profile and its rounded copy 0.9999."""

HASH_TABLES = 16
"""Two profiles at MIN_CORRELATION share no bucket once in 10,000 times; a rounded copy always shares one."""
CLIP = 3.0  # without it, one gene 200 sd from the mean would determine the correlation of two profiles
MIN_GENES = 20  # profiles of fewer genes correlate by chance
_BUCKET_NEIGHBOURS = 8  # neighbours in a bucket that each profile is compared with
_MAX_SIGN_DIFFERENCE = 0.1  # share of differing signs; at MIN_CORRELATION it is 0.045 with an sd of 0.015 or less

Profiles = npt.NDArray[np.float32]
ReadBlocks = Callable[[], Iterable[tuple[list[str], Profiles]]]
"""Each call reads the expression once: ids (n,) and values (n, genes) of each block."""
PASSES = 3  # maximum number of calls of ReadBlocks by same_profiles


def check(folds: Folds, cohort: Location, blocks: ReadBlocks) -> None:
    """Check every fold for leakage from its test patients into its training patients.

    Raises DataError for the first case, with the patients and what they share.
    """
    for number in folds.numbers:
        if both := set(folds.test_patients(number)) & set(folds.train_patients(number)):
            raise _leakage_error(f"patient {min(both)!r}", number)
    roles = folds.frame.pivot(index="patient_id", columns="fold", values="role")
    pairs = [*same_slides(tables.read_slides(cohort)), *same_profiles(blocks)]
    for first, second, what in pairs:
        if first in roles.index and second in roles.index:
            differs = roles.loc[first] != roles.loc[second]
            differs &= roles.loc[first].notna() & roles.loc[second].notna()
            if differs.any():
                raise _leakage_error(f"{what} of {first!r} and {second!r}", int(str(differs.idxmax())))


def same_slides(slides: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Pairs of patients that share a slide, by its id or by the MD5 of its contents, with what they share."""
    pairs = []
    for column, word in (("slide_id", "slide"), ("md5", "slide contents (md5)")):
        rows = slides[slides[column].notna()]
        shared = rows[rows.duplicated(column, keep=False)]
        for value, owners in shared.groupby(column, sort=True)["patient_id"]:
            patients = sorted(set(owners))
            pairs += [(patients[0], other, f"{word} {value}") for other in patients[1:]]
    return pairs


def same_profiles(blocks: ReadBlocks) -> list[tuple[str, str, str]]:
    """Pairs of patients whose profiles correlate above MIN_CORRELATION, at a cost linear in patients and genes.

    Genes are standardised over the cohort and clipped. The signs of random projections hash the profiles; nearly equal
    profiles share a bucket in some table (Charikar, STOC 2002, 380-388), and only pairs of a bucket are compared in
    full. `blocks` is called three times.
    """
    scale = _GeneScale.from_blocks(blocks)
    if scale.genes < MIN_GENES or scale.rows < 2:
        return []
    ids, signs = _signs(blocks, scale)
    candidates = {pair for codes in _bucket_codes(signs) for pair in _bucket_pairs(codes)}
    most = _MAX_SIGN_DIFFERENCE * signs.shape[1]
    likely = sorted((a, b) for a, b in candidates if np.count_nonzero(signs[a] != signs[b]) <= most)
    profiles = _unit_profiles(blocks, scale, {row for pair in likely for row in pair})
    return [(ids[a], ids[b], "expression profile") for a, b in likely if profiles[a] @ profiles[b] >= MIN_CORRELATION]


@dataclass(frozen=True)
class _GeneScale:
    """Mean and standard deviation of each gene (genes,) over the finite values of the cohort."""

    rows: int
    mean: npt.NDArray[np.float64]
    sd: npt.NDArray[np.float64]

    @property
    def genes(self) -> int:
        return len(self.mean)

    @classmethod
    def from_blocks(cls, blocks: ReadBlocks) -> "_GeneScale":
        rows, sums = 0, np.zeros((3, 0))
        for ids, block in blocks():
            finite = np.isfinite(block)
            values = np.where(finite, block, 0).astype(np.float64)
            block_sums = np.stack([finite.sum(axis=0), values.sum(axis=0), (values**2).sum(axis=0)])
            rows, sums = rows + len(ids), block_sums if rows == 0 else sums + block_sums
        counts = np.maximum(sums[0], 1)
        mean = sums[1] / counts
        return cls(rows, mean, np.sqrt(np.maximum(sums[2] / counts - mean**2, 0)))

    def unit_vectors(self, block: Profiles) -> Profiles:
        """Expression (n, genes) as unit vectors; a missing value counts as the mean of its gene."""
        scaled = (block - self.mean) / np.where(self.sd > 0, self.sd, 1)
        scaled = np.clip(np.nan_to_num(scaled, nan=0.0, posinf=CLIP, neginf=-CLIP), -CLIP, CLIP)
        scaled -= scaled.mean(axis=1, keepdims=True)
        length = np.linalg.norm(scaled, axis=1, keepdims=True)
        return np.asarray(scaled / np.where(length > 0, length, 1), dtype=np.float32)


def _signs(blocks: ReadBlocks, scale: _GeneScale) -> tuple[list[str], npt.NDArray[np.bool_]]:
    """Ids (n,) and the signs (n, HASH_TABLES * bits) along random directions; at least n buckets per table."""
    bits = int(np.clip(np.ceil(np.log2(scale.rows)), 12, 20))
    directions = np.random.default_rng(0).standard_normal((scale.genes, HASH_TABLES * bits), dtype=np.float32)
    ids: list[str] = []
    signs = []
    for names, block in blocks():
        ids += names
        signs.append(scale.unit_vectors(block) @ directions > 0)
    return ids, np.concatenate(signs)


def _bucket_codes(signs: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """(HASH_TABLES, n) bucket of each profile in each table."""
    bits = signs.shape[1] // HASH_TABLES
    codes = signs.reshape(len(signs), HASH_TABLES, bits) @ (2 ** np.arange(bits, dtype=np.int64))
    return np.ascontiguousarray(codes.T)


def _unit_profiles(blocks: ReadBlocks, scale: _GeneScale, rows: set[int]) -> dict[int, Profiles]:
    """{row: unit vector (genes,)} of the profiles in `rows`."""
    profiles: dict[int, Profiles] = {}
    start = 0
    if rows:
        for ids, block in blocks():
            positions = sorted(row - start for row in rows if start <= row < start + len(ids))
            if positions:
                units = scale.unit_vectors(block[positions])
                profiles.update({start + row: unit for row, unit in zip(positions, units, strict=True)})
            start += len(ids)
    return profiles


def _bucket_pairs(codes: npt.NDArray[np.int64]) -> set[tuple[int, int]]:
    """Pairs of rows in one bucket, each row with its next neighbours only: a full bucket has no quadratic cost."""
    order = np.argsort(codes, kind="stable")
    pairs: set[tuple[int, int]] = set()
    for step in range(1, _BUCKET_NEIGHBOURS + 1):
        same = codes[order[:-step]] == codes[order[step:]]
        pairs.update(zip(order[:-step][same].tolist(), order[step:][same].tolist(), strict=True))
    return pairs


def _leakage_error(what: str, fold: int) -> DataError:
    hint = "assign both to one patient, or delete one of them in the source tables"
    return DataError(f"{what} is in the training part and in the test part", f"fold {fold}", hint)
