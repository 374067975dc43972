"""Dropout with one mask per step, independent of how the step is divided into parts or over processes.

torch draws a mask for the rows of a forward pass, so that half a batch has other masks than the whole batch. Here a
mask is drawn for all patients of the step, and each part uses its own rows: gradients summed over parts
(accumulation) or over processes equal those of the whole step.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass
class _Step:
    """Number of patients of the current step, and the rows of the current part; no rows: the whole step."""

    patients: int = 0
    rows: tuple[int, ...] = ()


_step = _Step()


@contextmanager
def part_of_step(patients: int, rows: Sequence[int]) -> Iterator[None]:
    """While the body runs, a forward pass has the patients `rows` (positions) of a step with `patients` patients.

    The caller seeds the generator of torch identically for every part of a step.
    """
    before = _step.patients, _step.rows
    _step.patients, _step.rows = patients, () if len(rows) == patients else tuple(rows)
    try:
        yield
    finally:
        _step.patients, _step.rows = before


class Dropout(nn.Module):
    """nn.Dropout with the patients on axis `axis`, which may contain several copies of them in succession."""

    def __init__(self, share: float, axis: int = 0) -> None:
        super().__init__()
        self.share, self.axis = share, axis

    def forward(self, x: Tensor) -> Tensor:
        """Set a share of the values to zero and scale the others up; the identity in evaluation."""
        if not self.training or not self.share:
            return x
        if not _step.rows:
            return F.dropout(x, self.share)  # the numbers of the product below, with fewer passes over the memory
        out: Tensor = x * _mask(x, self.share, self.axis)
        return out

    def extra_repr(self) -> str:
        """As nn.Dropout prints itself."""
        return f"p={self.share}"


class AlphaDropout(Dropout):
    """nn.AlphaDropout with one mask per step; it preserves mean and variance (Klambauer et al. 2017, NIPS 30)."""

    _SATURATION = -1.7580993408473766  # value of a dropped unit: minus lambda times alpha of SELU

    def forward(self, x: Tensor) -> Tensor:
        """Set a share of the values to the saturation value, then restore mean 0 and variance 1."""
        if not self.training or not self.share:
            return x
        kept = (_mask(x, self.share, self.axis) > 0).to(x.dtype)
        scale = ((1 - self.share) * (1 + self.share * self._SATURATION**2)) ** -0.5
        shift = -scale * self.share * self._SATURATION
        out: Tensor = (x * kept + self._SATURATION * (1 - kept)) * scale + shift
        return out


def _mask(x: Tensor, share: float, axis: int) -> Tensor:
    """1 / (1 - share) where a value is kept, else 0: the rows of this part, of the mask of the whole step."""
    if not _step.rows:
        every: Tensor = F.dropout(torch.ones_like(x), share)
        return every
    copies = x.shape[axis] // len(_step.rows)
    shape = (*x.shape[:axis], copies * _step.patients, *x.shape[axis + 1 :])
    rows = [copy * _step.patients + row for copy in range(copies) for row in _step.rows]
    mask: Tensor = F.dropout(x.new_ones(shape), share)
    return mask.index_select(axis, torch.tensor(rows, device=x.device))
