"""Whole sites to folds, balanced by search: no tissue source site stands in two folds.

Howard et al., Nature Communications 12 (2021) 4423: a model reads the site off the slide, and the site off the fold.
"""

import numpy as np
import numpy.typing as npt

from mcti.errors import DataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

EVENT_WEIGHT, PATIENT_WEIGHT, SUBTYPE_WEIGHT = 16.0, 1.0, 1.0
"""Events count most: they carry the information of a survival fold. Subtypes share their weight."""

EXACT_PLACEMENTS = 20_000  # with few sites every placement is scored; a search could only do worse


def imbalance(counts: Floats, placement: Ints, folds: int) -> float:
    """How far the folds are from equal shares; 0 is perfect, lower is better.

    counts (sites, columns) with weights already in the columns' scale;  placement (sites,) fold of each site.
    Sum over columns and folds of (share of the column in the fold - 1 / folds) squared.
    """
    shares = np.zeros((folds, counts.shape[1]))
    np.add.at(shares, placement, counts)
    return float(((shares - counts.sum(axis=0) / folds) ** 2).sum())


def assign_sites(
    sites: list[str], event: npt.NDArray[np.bool_], subtype: list[str], folds: int, seed: list[int], starts: int
) -> Ints:
    """The fold of each patient (n,), whole sites together, events, patients and subtypes as equal as can be.

    Few sites are tried in all placements; more go through descent by moves and swaps from `starts` random starts.

    Raises
        DataError: fewer sites than folds.
    """
    names, site = np.unique(np.array(sites, dtype=object), return_inverse=True)
    if len(names) < folds:
        what = f"{len(names)} site{'s' * (len(names) > 1)} cannot fill {folds} folds"
        fewer = f"split.folds to {len(names)}, or " if len(names) > 1 else ""
        raise DataError(what, "column site", f"set {fewer}split.scheme to stratified")
    counts = _weighted_counts(site, event, subtype)
    rng = np.random.default_rng(seed)
    if float(folds) ** (len(names) - 1) <= EXACT_PLACEMENTS:
        best = _exhaustive(counts, folds)
    else:
        best = min((_descend(counts, folds, rng) for _ in range(starts)), key=lambda p: imbalance(counts, p, folds))
    return np.asarray(rng.permutation(folds)[best][site], dtype=np.int64)


def _weighted_counts(site: Ints, event: npt.NDArray[np.bool_], subtype: list[str]) -> Floats:
    """(sites, columns): patients, events and patients of each subtype, each as a weighted share of its total."""
    kinds, kind = np.unique(np.array(subtype, dtype=object), return_inverse=True)
    columns = [(PATIENT_WEIGHT, np.ones(len(site))), (EVENT_WEIGHT, event.astype(float))]
    columns += [(SUBTYPE_WEIGHT / len(kinds), (kind == k).astype(float)) for k in range(len(kinds))]
    counts = np.stack([np.bincount(site, weights=values) for _, values in columns], axis=1)
    weights = np.sqrt([weight for weight, _ in columns])
    return np.asarray(counts / np.maximum(counts.sum(axis=0), 1) * weights)


def _exhaustive(counts: Floats, folds: int) -> Ints:
    """The best of all placements; the first site stands in fold 0, since folds have no names yet."""
    sites = len(counts)
    codes = np.arange(folds ** (sites - 1))
    placements = np.stack([np.zeros_like(codes), *((codes // folds**i) % folds for i in range(sites - 1))], axis=1)
    filled = placements[[len(np.unique(row)) == folds for row in placements]]
    return np.asarray(min(filled, key=lambda row: imbalance(counts, row, folds)), dtype=np.int64)


def _descend(counts: Floats, folds: int, rng: np.random.Generator) -> Ints:
    """A placement that no single move and no swap of two sites betters, from a random start."""
    placement = _start(counts, folds, rng)
    shares = np.zeros((folds, counts.shape[1]))
    np.add.at(shares, placement, counts)
    while True:
        gain, change = min(_best_move(counts, placement, shares), _best_swap(counts, placement, shares))
        if gain > -1e-12:
            return placement
        for site, fold in change:
            shares[placement[site]] -= counts[site]
            shares[fold] += counts[site]
            placement[site] = fold


def _start(counts: Floats, folds: int, rng: np.random.Generator) -> Ints:
    """Heavy sites first, each to the lightest fold; noise in the weights makes every start another one."""
    weight = counts.sum(axis=1) * rng.uniform(0.5, 1.5, len(counts))
    placement = np.zeros(len(counts), dtype=np.int64)
    load = np.zeros(folds)
    for rank, site in enumerate(np.argsort(-weight, kind="stable")):
        fold = rank if rank < folds else int(load.argmin())  # the first ones fill every fold
        placement[site] = fold
        load[fold] += weight[site]
    return placement


def _best_move(counts: Floats, placement: Ints, shares: Floats) -> tuple[float, list[tuple[int, int]]]:
    """The change of imbalance by the best single move, and the move; a fold's last site stays."""
    own = shares[placement]
    leave = ((own - counts) ** 2 - own**2).sum(axis=1)
    enter = ((shares[None] + counts[:, None]) ** 2 - shares[None] ** 2).sum(axis=2)
    gains = leave[:, None] + enter
    gains[np.arange(len(counts)), placement] = np.inf
    gains[np.bincount(placement, minlength=len(shares))[placement] == 1] = np.inf
    site, fold = np.unravel_index(int(gains.argmin()), gains.shape)
    return float(gains[site, fold]), [(int(site), int(fold))]


def _best_swap(counts: Floats, placement: Ints, shares: Floats) -> tuple[float, list[tuple[int, int]]]:
    """The change of imbalance by the best swap of two sites, and the two moves it is made of."""
    own = shares[placement]
    step = counts[None, :, :] - counts[:, None, :]  # (a, b): what a's fold gains when b replaces a
    gains = ((own[:, None] + step) ** 2 - own[:, None] ** 2).sum(axis=2)
    gains = gains + gains.T
    gains[placement[:, None] == placement[None, :]] = np.inf
    a, b = np.unravel_index(int(gains.argmin()), gains.shape)
    return float(gains[a, b]), [(int(a), int(placement[b])), (int(b), int(placement[a]))]
