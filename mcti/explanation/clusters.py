"""Clusters of one patient's patches, and the transport mass between clusters and gene groups."""

import numpy as np
from numpy.typing import NDArray

from mcti.arrays import FloatArray, IntArray

_MAX_FITTED = 5000
"""Number of patches that k-means is fitted on; the others are assigned to the nearest centre."""

_SEED = 7
"""Seed of k-means."""


def clusters(patches: NDArray[np.float32], count: int) -> IntArray:
    """Cluster (N,) of each patch, numbered by size, the largest first; fewer than `count` where few patches differ.

    k-means on the standardised features (N, D) of this patient only, so that an explanation does not depend on the
    other patients. The same patches give the same clusters.
    """
    from sklearn.cluster import KMeans

    number = min(count, len(np.unique(patches, axis=0)) if len(patches) <= _MAX_FITTED else count)
    rows = np.linspace(0, len(patches) - 1, min(len(patches), _MAX_FITTED)).astype(np.int64)
    fitted = KMeans(number, n_init=3, random_state=_SEED).fit(patches[rows].astype(np.float64))
    labels = fitted.predict(patches.astype(np.float64)).astype(np.int64)
    sizes = np.bincount(labels, minlength=number)
    rank = np.empty(number, dtype=np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(number)
    return np.asarray(rank[labels], dtype=np.int64)


def cluster_plan(members: IntArray, shares: FloatArray, plan: FloatArray) -> FloatArray:
    """(clusters, T) transport mass from each cluster of patches to each gene token.

    Two transports in sequence: the patches give their mass to the patch tokens, and the tokens are coupled with the
    gene tokens. The mass of a token comes from the clusters in proportion to what their patches gave to it, so the sum
    over clusters equals the sum over tokens of `plan`.

    members (N,) cluster of each patch;  shares (N, K) mass of patch i at token k, rows add up to 1;  plan (K, T)
    """
    mass = np.zeros((int(members.max()) + 1, shares.shape[1]))
    np.add.at(mass, members, shares)
    return np.asarray(mass / np.maximum(mass.sum(0), 1e-300) @ plan)
