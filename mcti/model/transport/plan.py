"""What every coupling solver takes and gives: masks, marginals, checks and the plan itself."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mcti.errors import DataError, UsageError


@dataclass(frozen=True)
class Plan:
    """A batch of couplings between n rows and m columns.

    coupling     (b, n, m) mass; absent rows and columns hold none
    iterations   of the slowest item of the batch; 0 where the solver has none
    error        (b,) largest error of a marginal, as a share of the mass that row or column should hold; for
                 `unbalanced`, whose marginals are free, the last relative change of its scalings
    permutation  (b, n) column of each row, -1 for an absent row; None where the plan is no assignment
    """

    coupling: Tensor
    iterations: int
    error: Tensor
    permutation: Tensor | None = None

    def carry(self, tokens: Tensor) -> Tensor:
        """Carry tokens (b, m, D) of the columns to the rows: coupling @ tokens, (b, n, D), in the tokens' dtype.

        An assignment is gathered, not multiplied: n·D reads where the product costs n²·D.
        """
        if self.permutation is None:
            return self.coupling.to(tokens.dtype) @ tokens
        present = self.permutation >= 0
        index = self.permutation.clamp_min(0)[..., None].expand(-1, -1, tokens.shape[-1])
        mass = present / present.sum(1, keepdim=True).clamp_min(1)  # (b, n)
        return tokens.gather(1, index) * mass[..., None].to(tokens.dtype)

    def transposed(self) -> "Plan":
        """The same mass with rows and columns exchanged, (b, m, n)."""
        permutation = None if self.permutation is None else _inverse(self.permutation, self.coupling.shape[2])
        return Plan(self.coupling.transpose(1, 2), self.iterations, self.error, permutation)


def _inverse(permutation: Tensor, columns: int) -> Tensor:
    """Row of each column (b, m), -1 for an absent column."""
    batch, rows = permutation.shape
    spare = torch.where(permutation >= 0, permutation, columns)  # absent rows write into a column that is cut off
    inverse = permutation.new_full((batch, columns + 1), -1)
    inverse.scatter_(1, spare, torch.arange(rows, device=permutation.device).expand(batch, -1))
    return inverse[:, :columns]


def present(cost: Tensor, mask_rows: Tensor | None, mask_columns: Tensor | None) -> tuple[Tensor, Tensor]:
    """The masks (b, n) and (b, m) as bool, True = present; a mask that is not given means that all are.

    Raises DataError when a mask is not bool or has another shape than the cost.
    """
    masks = []
    for name, mask, size in (("rows", mask_rows, cost.shape[1]), ("columns", mask_columns, cost.shape[2])):
        full = (cost.shape[0], size)
        if mask is None:
            mask = torch.ones(full, dtype=torch.bool, device=cost.device)
        if mask.dtype != torch.bool or mask.shape != full:
            raise DataError(
                f"the mask is {mask.dtype} of shape {tuple(mask.shape)}, not bool of shape {full}",
                where=f"transport, mask of the {name}",
                mend="give one bool for each token, True where it is present",
            )
        masks.append(mask)
    return masks[0], masks[1]


def checked(cost: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The cost with absent entries set to zero, whatever stood there.

    Raises DataError when the cost of two present tokens is NaN or infinite, and names the first.
    """
    both = rows[:, :, None] & columns[:, None, :]
    cost = cost.masked_fill(~both, 0.0)
    if not bool(torch.isfinite(cost).all()):
        item, row, column = (~torch.isfinite(cost)).nonzero()[0].tolist()
        raise DataError(
            f"the cost is {cost[item, row, column].item()}, not a finite number",
            where=f"transport, batch item {item}, row {row}, column {column}",
            mend="look for NaN or infinite features of that item, or mask the absent token",
        )
    return cost


def shaped(cost: Tensor) -> None:
    """Raise DataError unless the cost is a floating tensor (b, n, m) with at least one row and one column."""
    if cost.dim() != 3 or not cost.is_floating_point() or 0 in cost.shape[1:]:
        raise DataError(
            f"the cost is {cost.dtype} of shape {tuple(cost.shape)}, not floating of shape (b, n, m)",
            where="transport",
            mend="give a batch of cost matrices with at least one row and one column",
        )


def positive(**values: float) -> None:
    """Raise UsageError when a setting of a solver is not a positive finite number."""
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise UsageError(f"{name} is {value!r}, not a positive number", where="transport", mend=f"give {name} > 0")
