"""Measurements of expression for the data contract, computed in blocks of patients to limit the memory."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from mcti.arrays import BoolArray, FloatArray, IntArray

Block = tuple[list[str], npt.NDArray[np.float32]]
"""Patient ids (n,) and their expression (n, genes)."""

CLIP = 3.0  # standard deviations; without it, a gene 200 sd from its mean would dominate the site test
PROJECTIONS = 64
PERMUTATIONS = 40
MIN_SITE = 5  # patients; smaller sites have too few patients in the training folds
TEST_PATIENTS = 4000  # drawn for the site test from a larger cohort
_FOLDS = 5


@dataclass(frozen=True)
class Expression:
    """A table of patients by genes; each call of `blocks` reads it once, block by block."""

    genes: list[str]
    blocks: Callable[[], Iterable[Block]]


@dataclass
class _Sums:
    """Running sums per gene (genes,) and per site and gene (sites, genes)."""

    rows: int
    unmatched: int
    finite: FloatArray
    infinite: FloatArray
    total: FloatArray
    square: FloatArray
    low: FloatArray
    high: FloatArray
    weighted: FloatArray
    site_count: FloatArray
    site_total: FloatArray

    @classmethod
    def empty(cls, genes: int, sites: int) -> "_Sums":
        finite, infinite, total, square, weighted = np.zeros((5, genes))
        low, high = np.full(genes, np.inf), np.full(genes, -np.inf)
        return cls(
            0, 0, finite, infinite, total, square, low, high, weighted, np.zeros((sites, 1)), np.zeros((sites, genes))
        )


def gene_table(expression: Expression, site: dict[str, str]) -> pd.DataFrame:
    """One row per gene: missing_share, infinite, sd, mean, minimum, maximum, twin, site_variance, foreign_profiles.

    twin                a gene with the same values
    site_variance       share of the variance that the site explains, corrected for chance (adjusted eta²); missing
                        with fewer than two sites
    foreign_profiles  profiles without a patient, over all genes

    site    {patient: site}
    """
    sums = _sum(expression, site)
    counts = np.maximum(sums.finite, 1)
    mean = sums.total / counts
    variance = np.maximum(sums.square / counts - mean**2, 0)
    # Sums of squares lose digits: a variance below 1e-10 of the mean square is rounding error.
    variance[variance <= 1e-10 * sums.square / counts] = 0
    return pd.DataFrame(
        {
            "gene": expression.genes,
            "missing_share": 1 - (sums.finite + sums.infinite) / max(sums.rows, 1),
            "infinite": sums.infinite.astype(np.int64),
            "mean": np.where(sums.finite > 0, mean, np.nan),
            "sd": np.where(sums.finite > 0, np.sqrt(variance), np.nan),
            "minimum": np.where(sums.finite > 0, sums.low, np.nan),
            "maximum": np.where(sums.finite > 0, sums.high, np.nan),
            "twin": _duplicate_genes(expression.genes, sums, variance > 0),
            "spelled_like": _spelled_like(expression.genes),
            "site_variance": _site_variance(sums, mean, variance),
        }
    ).assign(foreign_profiles=sums.unmatched)


def _sum(expression: Expression, site: dict[str, str]) -> _Sums:
    codes = {name: i for i, name in enumerate(sorted(set(site.values())))}
    sums = _Sums.empty(len(expression.genes), len(codes))
    rng = np.random.default_rng(0)
    for ids, block in expression.blocks():
        values = block.astype(np.float64)
        infinite, finite = np.isinf(values), np.isfinite(values)
        sums.low = np.minimum(sums.low, np.where(finite, values, np.inf).min(axis=0))
        sums.high = np.maximum(sums.high, np.where(finite, values, -np.inf).max(axis=0))
        values[~finite] = 0
        sums.rows += len(ids)
        sums.finite += finite.sum(axis=0)
        sums.infinite += infinite.sum(axis=0)
        sums.total += values.sum(axis=0)
        sums.square += (values**2).sum(axis=0)
        sums.unmatched += sum(p not in site for p in ids)
        # Equal columns have equal dot products with one random vector; others with a probability of about 1e-15.
        sums.weighted += rng.standard_normal(len(ids)) @ np.where(finite, values, np.pi)
        matched = np.array([p in site for p in ids])
        rows = np.array([codes[site[p]] for p in ids if p in site], dtype=np.int64)
        member = (rows[:, None] == np.arange(len(codes))).astype(np.float64)  # (patients, sites)
        sums.site_total += member.T @ values[matched]
        sums.site_count[:, 0] += member.sum(axis=0)
    return sums


def _duplicate_genes(genes: list[str], sums: _Sums, varies: BoolArray) -> list[str | None]:
    """For each gene the first other gene with the same values, or None; constant genes are left out."""
    first: dict[tuple[float, ...], str] = {}
    duplicates: list[str | None] = []
    keys = np.stack([sums.weighted, sums.total, sums.square], axis=1).tolist()
    for gene, key, is_variable in zip(genes, keys, varies.tolist(), strict=True):
        first_equal = first.setdefault(tuple(key), gene) if is_variable else gene
        duplicates.append(None if first_equal == gene else first_equal)
    return duplicates


def _spelled_like(genes: list[str]) -> list[str | None]:
    """For each gene the first other gene whose name differs only by case, or None."""
    first: dict[str, str] = {}
    firsts = [first.setdefault(gene.casefold(), gene) for gene in genes]
    return [None if other == gene else other for gene, other in zip(genes, firsts, strict=True)]


def _site_variance(sums: _Sums, mean: FloatArray, variance: FloatArray) -> FloatArray:
    sites, rows = int((sums.site_count > 0).sum()), sums.rows
    if sites < 2 or rows <= sites:
        return np.full(len(mean), np.nan)
    counts = np.maximum(sums.site_count, 1)
    between = (sums.site_count * (sums.site_total / counts - mean) ** 2).sum(axis=0) / rows
    explained = between / np.where(variance > 0, variance, 1)
    chance = (sites - 1) / (rows - 1)
    return np.asarray(np.where(variance > 0, (explained - chance) / (1 - chance), np.nan))


def site_predictability(expression: Expression, genes: pd.DataFrame, site: dict[str, str]) -> float:
    """How well expression predicts the site: 0 no better than chance, 1 always correct.

    Nearest centroid in PROJECTIONS random directions of the standardised genes, five folds. With the accuracy a and the
    mean accuracy c over permuted sites the result is (a - c) / (1 - c); 0 where a is not above the best permutation;
    NaN with fewer than two sites of MIN_SITE patients.

    genes   table of `gene_table`, one row per gene;  site: {patient: site}
    """
    ids, points = _project(expression, genes)
    names = pd.Series([site.get(p, "") for p in ids], dtype=object)
    large = (names.map(names.value_counts()).to_numpy() >= MIN_SITE) & (names != "").to_numpy()
    rng = np.random.default_rng(0)
    chosen = rng.permutation(np.flatnonzero(large))[:TEST_PATIENTS]
    label = np.unique(names.to_numpy(dtype=object)[chosen], return_inverse=True)[1]
    if len(set(label.tolist())) < 2:
        return float("nan")
    fold = np.arange(len(label)) % _FOLDS
    accuracy = _accuracy(points[chosen], label, fold)
    permuted = [_accuracy(points[chosen], rng.permutation(label), fold) for _ in range(PERMUTATIONS)]
    chance = float(np.mean(permuted))
    return (accuracy - chance) / (1 - chance) if accuracy > max(permuted) else 0.0


def _project(expression: Expression, genes: pd.DataFrame) -> tuple[list[str], FloatArray]:
    mean, sd = genes["mean"].fillna(0).to_numpy(), genes["sd"].fillna(0).to_numpy()
    directions = np.random.default_rng(0).standard_normal((len(mean), PROJECTIONS)) / np.sqrt(max(len(mean), 1))
    ids: list[str] = []
    points = []
    for names, block in expression.blocks():
        ids += names
        scaled = (block.astype(np.float64) - mean) / np.where(sd > 0, sd, 1)
        points.append(np.clip(np.nan_to_num(scaled, nan=0, posinf=CLIP, neginf=-CLIP), -CLIP, CLIP) @ directions)
    return ids, np.concatenate(points)


def _accuracy(points: FloatArray, label: IntArray, fold: IntArray) -> float:
    """Share of patients whose nearest site centroid, computed from the other folds, is that of their site."""
    hits = 0
    for k in range(_FOLDS):
        train, test = fold != k, fold == k
        member = label[train][:, None] == np.arange(label.max() + 1)
        centroids = (member.T @ points[train]) / np.maximum(member.sum(axis=0), 1)[:, None]
        # Squared distance without |point|², which is the same for all sites.
        distance = (centroids**2).sum(axis=1) - 2 * points[test] @ centroids.T
        distance[:, member.sum(axis=0) == 0] = np.inf
        hits += int((distance.argmin(axis=1) == label[test]).sum())
    return hits / len(label)


def two_groups(values: FloatArray) -> tuple[BoolArray, float]:
    """The upper of two groups of values (n,), and the share of the variance between the groups (Otsu).

    A normal distribution split in half gives 0.64; two separate groups give 0.75 or more. N. Otsu, IEEE Transactions on
    Systems, Man and Cybernetics 9 (1979) 62-66.
    """
    ordered = np.sort(values)
    counts = np.arange(1, len(values))
    sums = ordered.cumsum()
    low, high = sums[:-1] / counts, (sums[-1] - sums[:-1]) / (len(values) - counts)
    between = counts * (len(values) - counts) / len(values) ** 2 * (high - low) ** 2
    cut = int(between.argmax())
    total = float(values.var())
    return values > (ordered[cut] + ordered[cut + 1]) / 2, float(between[cut] / total) if total > 0 else 0.0
