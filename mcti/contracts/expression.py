"""What the contract asks of expression, gathered in blocks of patients so that a wide table never stands in memory."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Block = tuple[list[str], npt.NDArray[np.float32]]
"""Patient ids (n,) and their expression (n, genes)."""

CLIP = 3.0  # standard deviations; a gene 200 sd out would else outweigh all others in the site test
PROJECTIONS = 64
PERMUTATIONS = 40
MIN_SITE = 5  # patients; smaller sites cannot be learned from the others
TEST_PATIENTS = 4000  # of a larger cohort so many are drawn for the site test
_FOLDS = 5


@dataclass(frozen=True)
class Expression:
    """A table of patients by genes that can be read block by block, as often as asked."""

    genes: list[str]
    blocks: Callable[[], Iterable[Block]]


@dataclass
class _Sums:
    """Running sums per gene (genes,) and per site and gene (sites, genes)."""

    rows: int
    foreign: int
    finite: Floats
    infinite: Floats
    total: Floats
    square: Floats
    low: Floats
    high: Floats
    weighted: Floats
    site_count: Floats
    site_total: Floats

    @classmethod
    def empty(cls, genes: int, sites: int) -> "_Sums":
        finite, infinite, total, square, weighted = np.zeros((5, genes))
        low, high = np.full(genes, np.inf), np.full(genes, -np.inf)
        return cls(
            0, 0, finite, infinite, total, square, low, high, weighted, np.zeros((sites, 1)), np.zeros((sites, genes))
        )


def gene_table(expression: Expression, site: dict[str, str]) -> pd.DataFrame:
    """One row a gene: missing_share, infinite, sd, mean, minimum, maximum, twin, site_variance.

    twin is a gene with the same values; site_variance is the share of a gene's variance that the site explains, less
    what chance explains (adjusted eta²); missing with fewer than two sites. `site` is the site of each patient;
    foreign_profiles counts those of nobody.
    """
    sums = _sum(expression, site)
    known = np.maximum(sums.finite, 1)
    mean = sums.total / known
    variance = np.maximum(sums.square / known - mean**2, 0)
    # Sums of squares lose digits: what is below 1e-10 of the square itself is rounding, not spread.
    variance[variance <= 1e-10 * sums.square / known] = 0
    return pd.DataFrame(
        {
            "gene": expression.genes,
            "missing_share": 1 - (sums.finite + sums.infinite) / max(sums.rows, 1),
            "infinite": sums.infinite.astype(np.int64),
            "mean": np.where(sums.finite > 0, mean, np.nan),
            "sd": np.where(sums.finite > 0, np.sqrt(variance), np.nan),
            "minimum": np.where(sums.finite > 0, sums.low, np.nan),
            "maximum": np.where(sums.finite > 0, sums.high, np.nan),
            "twin": _twins(expression.genes, sums, variance > 0),
            "spelled_like": _spelled_like(expression.genes),
            "site_variance": _site_variance(sums, mean, variance),
        }
    ).assign(foreign_profiles=sums.foreign)


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
        sums.foreign += sum(p not in site for p in ids)
        # Equal columns have equal dot products with one random vector; others meet by chance of about 1e-15.
        sums.weighted += rng.standard_normal(len(ids)) @ np.where(finite, values, np.pi)
        known = np.array([p in site for p in ids])
        rows = np.array([codes[site[p]] for p in ids if p in site], dtype=np.int64)
        member = (rows[:, None] == np.arange(len(codes))).astype(np.float64)  # (patients, sites)
        sums.site_total += member.T @ values[known]
        sums.site_count[:, 0] += member.sum(axis=0)
    return sums


def _twins(genes: list[str], sums: _Sums, varies: npt.NDArray[np.bool_]) -> list[str | None]:
    """The first gene with the same values, for each that is not the first; constant genes are another matter."""
    first: dict[tuple[float, ...], str] = {}
    twins: list[str | None] = []
    keys = np.stack([sums.weighted, sums.total, sums.square], axis=1).tolist()
    for gene, key, moves in zip(genes, keys, varies.tolist(), strict=True):
        known = first.setdefault(tuple(key), gene) if moves else gene
        twins.append(None if known == gene else known)
    return twins


def _spelled_like(genes: list[str]) -> list[str | None]:
    """The first gene whose name differs only by case, for each that is not the first."""
    first: dict[str, str] = {}
    found = [first.setdefault(gene.casefold(), gene) for gene in genes]
    return [None if known == gene else known for gene, known in zip(genes, found, strict=True)]


def _site_variance(sums: _Sums, mean: Floats, variance: Floats) -> Floats:
    sites, rows = int((sums.site_count > 0).sum()), sums.rows
    if sites < 2 or rows <= sites:
        return np.full(len(mean), np.nan)
    counts = np.maximum(sums.site_count, 1)
    between = (sums.site_count * (sums.site_total / counts - mean) ** 2).sum(axis=0) / rows
    explained = between / np.where(variance > 0, variance, 1)
    chance = (sites - 1) / (rows - 1)
    return np.asarray(np.where(variance > 0, (explained - chance) / (1 - chance), np.nan))


def site_predictability(expression: Expression, genes: pd.DataFrame, site: dict[str, str]) -> float:
    """How well expression tells the site: 0 as by chance, 1 always; NaN with fewer than two sites of MIN_SITE patients.

    Nearest centroid in PROJECTIONS random directions of the standardised genes, five folds; accuracy less the mean
    accuracy under permuted sites, over what is left to 1. Not above the best permutation: 0.
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
    seen = _accuracy(points[chosen], label, fold)
    shuffled = [_accuracy(points[chosen], rng.permutation(label), fold) for _ in range(PERMUTATIONS)]
    chance = float(np.mean(shuffled))
    return (seen - chance) / (1 - chance) if seen > max(shuffled) else 0.0


def _project(expression: Expression, genes: pd.DataFrame) -> tuple[list[str], Floats]:
    mean, sd = genes["mean"].fillna(0).to_numpy(), genes["sd"].fillna(0).to_numpy()
    directions = np.random.default_rng(0).standard_normal((len(mean), PROJECTIONS)) / np.sqrt(max(len(mean), 1))
    ids: list[str] = []
    points = []
    for names, block in expression.blocks():
        ids += names
        scaled = (block.astype(np.float64) - mean) / np.where(sd > 0, sd, 1)
        points.append(np.clip(np.nan_to_num(scaled, nan=0, posinf=CLIP, neginf=-CLIP), -CLIP, CLIP) @ directions)
    return ids, np.concatenate(points)


def _accuracy(points: Floats, label: npt.NDArray[np.int64], fold: npt.NDArray[np.int64]) -> float:
    """Share of patients whose nearest site centroid, taken over the other folds, is that of their own site."""
    hits = 0
    for k in range(_FOLDS):
        train, test = fold != k, fold == k
        member = label[train][:, None] == np.arange(label.max() + 1)
        centroids = (member.T @ points[train]) / np.maximum(member.sum(axis=0), 1)[:, None]
        distance = (centroids**2).sum(axis=1) - 2 * points[test] @ centroids.T  # less |point|², which ranks nothing
        distance[:, member.sum(axis=0) == 0] = np.inf
        hits += int((distance.argmin(axis=1) == label[test]).sum())
    return hits / len(label)


def two_groups(values: Floats) -> tuple[npt.NDArray[np.bool_], float]:
    """The upper of two groups of values (n,), and the share of the variance between the groups (Otsu).

    A normal distribution cut in half gives 0.64; two clear groups give 0.75 and more. N. Otsu, IEEE Transactions on
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
