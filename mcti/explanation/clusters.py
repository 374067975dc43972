"""Clusters of one patient's patches, and what they carry to the gene groups."""

import numpy as np
from numpy.typing import NDArray

_SAMPLE = 5000
"""Patches that k-means sees; the others are dealt to the centres it found."""


def clusters(patches: NDArray[np.float32], wanted: int, seed: int) -> NDArray[np.int64]:
    """The cluster (N,) of each patch, numbered by size, largest first; fewer clusters than patches where N is small.

    k-means on standardised features (N, D), of this patient alone: an explanation does not depend on who else is
    explained. The same patches and seed give the same clusters.
    """
    from sklearn.cluster import KMeans

    count = min(wanted, len(np.unique(patches, axis=0)) if len(patches) <= _SAMPLE else wanted)
    rows = np.linspace(0, len(patches) - 1, min(len(patches), _SAMPLE)).astype(np.int64)
    fitted = KMeans(count, n_init=3, random_state=seed).fit(patches[rows].astype(np.float64))
    found = fitted.predict(patches.astype(np.float64)).astype(np.int64)
    sizes = np.bincount(found, minlength=count)
    rank = np.empty(count, dtype=np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(count)
    return np.asarray(rank[found], dtype=np.int64)


def cluster_plan(
    members: NDArray[np.int64], shares: NDArray[np.float64], plan: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mass that goes from each cluster of patches to each gene token, (clusters, T).

    Two transports in a row: the patches hand their mass to the patch tokens (`shares` (N, K), rows sum to 1), the
    tokens are coupled with the gene tokens (`plan` (K, T)). A token's mass comes from the clusters in the proportion in
    which their patches gave to it, so the sum over clusters is the sum over tokens of `plan`.
    """
    given = np.zeros((int(members.max()) + 1, shares.shape[1]))
    np.add.at(given, members, shares)
    return np.asarray(given / np.maximum(given.sum(0), 1e-300) @ plan)
