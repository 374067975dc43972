"""Assignment of whole sites to folds, balanced by search: no tissue source site is in two folds.

Howard et al., Nature Communications 12 (2021) 4423: a model can recognise the site of a slide, and with it the outcome.
"""

import numpy as np

from mcti.arrays import BoolArray, FloatArray, IntArray
from mcti.errors import DataError

EVENT_WEIGHT, PATIENT_WEIGHT, SUBTYPE_WEIGHT = 16.0, 1.0, 1.0
"""Events have the largest weight: they determine the precision of a survival score. Subtypes share their weight."""

EXACT_ASSIGNMENTS = 20_000  # with few sites every assignment is scored, which is exact


def imbalance(counts: FloatArray, assignment: IntArray, folds: int) -> float:
    """Deviation of the folds from equal shares; 0 is perfect balance, lower is better.

    counts (sites, columns) with weights already in the columns' scale;  assignment (sites,) fold of each site.
    Sum over columns and folds of (share of the column in the fold - 1 / folds) squared.
    """
    shares = np.zeros((folds, counts.shape[1]))
    np.add.at(shares, assignment, counts)
    return float(((shares - counts.sum(axis=0) / folds) ** 2).sum())


def assign_sites(
    sites: list[str], event: BoolArray, subtype: list[str], folds: int, seed: list[int], starts: int
) -> IntArray:
    """The fold of each patient (n,): whole sites, with events, patients and subtypes as balanced as possible.

    sites, event, subtype   of each patient (n,)
    starts                  random starts of the local search by moves and swaps; with few sites every assignment is
                            scored instead

    Raises DataError when there are fewer sites than folds.
    """
    names, site = np.unique(np.array(sites, dtype=object), return_inverse=True)
    if len(names) < folds:
        what = f"{len(names)} site{'s' * (len(names) > 1)} cannot fill {folds} folds"
        fewer = f"split.folds to {len(names)}, or " if len(names) > 1 else ""
        raise DataError(what, "column site", f"set {fewer}split.scheme to stratified")
    counts = _weighted_counts(site, event, subtype)
    rng = np.random.default_rng(seed)
    if float(folds) ** (len(names) - 1) <= EXACT_ASSIGNMENTS:
        best = _exhaustive(counts, folds)
    else:
        best = min((_descend(counts, folds, rng) for _ in range(starts)), key=lambda p: imbalance(counts, p, folds))
    return np.asarray(rng.permutation(folds)[best][site], dtype=np.int64)


def _weighted_counts(site: IntArray, event: BoolArray, subtype: list[str]) -> FloatArray:
    """(sites, columns): patients, events and patients of each subtype, each as a weighted share of its total."""
    names, code = np.unique(np.array(subtype, dtype=object), return_inverse=True)
    columns = [(PATIENT_WEIGHT, np.ones(len(site))), (EVENT_WEIGHT, event.astype(float))]
    columns += [(SUBTYPE_WEIGHT / len(names), (code == k).astype(float)) for k in range(len(names))]
    counts = np.stack([np.bincount(site, weights=values) for _, values in columns], axis=1)
    weights = np.sqrt([weight for weight, _ in columns])
    return np.asarray(counts / np.maximum(counts.sum(axis=0), 1) * weights)


def _exhaustive(counts: FloatArray, folds: int) -> IntArray:
    """The best of all assignments; the first site is in fold 0, since the folds are interchangeable."""
    sites = len(counts)
    codes = np.arange(folds ** (sites - 1))
    assignments = np.stack([np.zeros_like(codes), *((codes // folds**i) % folds for i in range(sites - 1))], axis=1)
    filled = assignments[[len(np.unique(row)) == folds for row in assignments]]
    return np.asarray(min(filled, key=lambda row: imbalance(counts, row, folds)), dtype=np.int64)


def _descend(counts: FloatArray, folds: int, rng: np.random.Generator) -> IntArray:
    """A local optimum from a random start: no single move and no swap of two sites improves it."""
    assignment = _start(counts, folds, rng)
    shares = np.zeros((folds, counts.shape[1]))
    np.add.at(shares, assignment, counts)
    while True:
        gain, change = min(_best_move(counts, assignment, shares), _best_swap(counts, assignment, shares))
        if gain > -1e-12:
            return assignment
        for site, fold in change:
            shares[assignment[site]] -= counts[site]
            shares[fold] += counts[site]
            assignment[site] = fold


def _start(counts: FloatArray, folds: int, rng: np.random.Generator) -> IntArray:
    """Heavy sites first, each to the lightest fold; noise in the weights makes the starts differ."""
    weight = counts.sum(axis=1) * rng.uniform(0.5, 1.5, len(counts))
    assignment = np.zeros(len(counts), dtype=np.int64)
    load = np.zeros(folds)
    for rank, site in enumerate(np.argsort(-weight, kind="stable")):
        fold = rank if rank < folds else int(load.argmin())  # the first sites fill every fold
        assignment[site] = fold
        load[fold] += weight[site]
    return assignment


def _best_move(counts: FloatArray, assignment: IntArray, shares: FloatArray) -> tuple[float, list[tuple[int, int]]]:
    """The change of imbalance by the best single move, and the move; the last site of a fold is not moved."""
    current = shares[assignment]  # (sites, columns): shares of the fold of each site
    leave = ((current - counts) ** 2 - current**2).sum(axis=1)
    enter = ((shares[None] + counts[:, None]) ** 2 - shares[None] ** 2).sum(axis=2)
    gains = leave[:, None] + enter
    gains[np.arange(len(counts)), assignment] = np.inf
    gains[np.bincount(assignment, minlength=len(shares))[assignment] == 1] = np.inf
    site, fold = np.unravel_index(int(gains.argmin()), gains.shape)
    return float(gains[site, fold]), [(int(site), int(fold))]


def _best_swap(counts: FloatArray, assignment: IntArray, shares: FloatArray) -> tuple[float, list[tuple[int, int]]]:
    """The change of imbalance by the best swap of two sites, and the two moves of the swap."""
    current = shares[assignment]
    step = counts[None, :, :] - counts[:, None, :]  # (a, b): change of the fold of a when b replaces a
    gains = ((current[:, None] + step) ** 2 - current[:, None] ** 2).sum(axis=2)
    gains = gains + gains.T
    gains[assignment[:, None] == assignment[None, :]] = np.inf
    a, b = np.unravel_index(int(gains.argmin()), gains.shape)
    return float(gains[a, b]), [(int(a), int(assignment[b])), (int(b), int(assignment[a]))]
