"""Vectors of length one, with few operations."""

import torch
from torch import Tensor

_SHORTEST = 1e-12
"""The length of a shorter vector counts as this one, so that a vector of zeros remains zero."""


def unit(x: Tensor, dim: int) -> Tensor:
    """x over its Euclidean length along `dim`, in the shape of x; in float32 where x has half precision.

    As torch.nn.functional.normalize, to rounding. Its `linalg.vector_norm` along another axis than the last one takes
    four times as long as all operations here.
    """
    squares = x.to(torch.promote_types(x.dtype, torch.float32)).square().sum(dim, keepdim=True)
    return x * squares.clamp_min(_SHORTEST**2).rsqrt()
