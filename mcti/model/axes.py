"""Inputs along the principal axes of the training part, each brought to unit variance, before any learned layer.

Gene expression and patch features vary ten to twenty times as much along their first principal axis as along the
thirtieth (TCGA-BRCA and NSCLC, 1,558 genes, 192 features). Gradient descent learns the directions of large variance
first; on a few hundred patients training ends long before the others are learned. Along whitened axes all directions
are learned at the same rate, just as a ridge penalty on whitened components shrinks them equally
(mcti/evaluation/design_matrix.py).
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mcti.model.presets import ModelConfig

LEAST_VARIANCE = 1e-3
"""Least variance of an axis, as a share of the mean variance of a column. Whitening would amplify the rounding errors
and noise of a smaller one."""


class Axes(nn.Module):
    """Standardised genes (b, G) and patches (b, N, D_in) -> along A_g axes and A_f axes; a count of 0 changes nothing.

    directions: genes (A_g, G), features (A_f, D_in), a row the unit vector of an axis over its standard deviation in
    the training part; before the fit, the first columns. They are fitted, not learned, and stored with the weights.
    Standardised inputs have mean 0 in the training part, and so have the axes.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        after_axes = config_after_axes(config)
        genes, features = (len(after_axes.genes), len(config.genes)), (after_axes.features, config.features)
        self.register_buffer("genes", torch.eye(*genes) if config.gene_axes else None)
        self.register_buffer("features", torch.eye(*features) if config.feature_axes else None)
        self.genes: Tensor | None
        self.features: Tensor | None

    def forward(self, patches: Tensor, genes: Tensor) -> tuple[Tensor, Tensor]:
        """(b, N, D_in), (b, G) -> (b, N, A_f), (b, A_g)."""
        # Never in half precision: the order of the scores selects the critical patches.
        with torch.autocast(patches.device.type, enabled=False):
            return along(patches, self.features), along(genes, self.genes)

    def by_gene(self, groups: Tensor) -> Tensor:
        """Weights of the axes in each group (b, T, A_g) as weights of the genes (b, T, G); a row still sums to 1.

        An axis is shared among the genes by their squared loadings, which sum to 1.
        """
        if self.genes is None:
            return groups
        return groups @ gene_shares(self.genes).to(groups.dtype)

    @torch.no_grad()
    def fit_genes(self, genes: Tensor) -> None:
        """Fit the gene axes to standardised genes (n, G), a missing value 0. An axis without variance is 0."""
        assert self.genes is not None
        self.genes.copy_(directions(genes, len(self.genes)))

    @torch.no_grad()
    def fit_features(self, bags: Sequence[Tensor]) -> None:
        """Fit the feature axes to standardised patches of each patient (N, D_in), with equal weight per patient."""
        assert self.features is not None
        moments = torch.zeros(self.features.shape[1], self.features.shape[1], dtype=torch.float64)
        for bag in bags:
            rows = bag.double()
            moments += rows.T @ rows / (len(rows) * len(bags))
        self.features.copy_(principal(moments, len(self.features)))


def gene_shares(directions: Tensor) -> Tensor:
    """Share of each gene in each axis, (…, A, p) -> (…, A, p): the squared loadings, which sum to 1."""
    squares = directions.square()
    return squares / squares.sum(-1, keepdim=True).clamp_min(torch.finfo(squares.dtype).tiny)


def directions(rows: Tensor, count: int) -> Tensor:
    """Whitened principal axes (count, p) of centred rows (n, p), as `principal` gives them; float64."""
    rows = rows.double()
    if len(rows) >= rows.shape[1]:
        return principal(rows.T @ rows / len(rows), count)
    # With 20,000 genes and a few hundred patients the matrix of moments would have 3 GiB and take an hour. The products
    # of the patients have the same eigenvalues, and their eigenvectors are those of the moments times the rows.
    squares, of_patients = torch.linalg.eigh(rows @ rows.T)
    squares, of_patients = squares.flip(0)[:count], of_patients.flip(1)[:, :count]
    vectors = rows.T @ (of_patients * squares.clamp_min(torch.finfo(squares.dtype).tiny).rsqrt())
    return _whitening(squares / len(rows), vectors, rows.square().mean(), count)


def principal(moments: Tensor, count: int) -> Tensor:
    """(count, p) leading eigenvectors of second moments (p, p), each over its standard deviation; float64."""
    variances, vectors = torch.linalg.eigh(moments)
    return _whitening(variances.flip(0), vectors.flip(1), moments.diagonal().mean(), count)


def _whitening(variances: Tensor, vectors: Tensor, mean: Tensor, count: int) -> Tensor:
    """The first `count` of axes (p, k) with falling variances (k,), each over its standard deviation: (count, p).

    The sign of an axis is arbitrary: its largest entry is made positive. An axis with a variance below LEAST_VARIANCE
    times the mean variance of a column is 0, and so are those beyond k.
    """
    variances, vectors = variances[:count], vectors[:, :count]
    kept = variances > LEAST_VARIANCE * mean.clamp_min(1e-300)
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    scaled: Tensor = vectors * largest.sign() * torch.where(kept, variances, torch.ones_like(variances)).rsqrt() * kept
    return F.pad(scaled.T, (0, 0, 0, count - scaled.shape[1]))


def along(values: Tensor, directions: Tensor | None) -> Tensor:
    """(…, p) along the axes (A, p): (…, A); the values themselves where there is none."""
    if directions is None:
        return values
    dtype = torch.promote_types(values.dtype, directions.dtype)
    return values.to(dtype) @ directions.to(dtype).T


def config_after_axes(config: ModelConfig) -> ModelConfig:
    """The configuration of the layers after the axes: features and genes are replaced by axes.

    There cannot be more axes than columns.
    """
    genes, features = config.genes, config.features
    if config.gene_axes:
        genes = tuple(f"axis {k}" for k in range(min(config.gene_axes, len(genes))))
    if config.feature_axes:
        features = min(config.feature_axes, features)
    return dataclasses.replace(config, genes=genes, features=features)
