"""Input and output of every coupling solver: the checked problem with its masks, and the plan."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec, TypeVar, cast

import torch
from torch import Tensor

from mcti.errors import DataError, UsageError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

FLOAT32_TOLERANCE = 1e-5  # sums of a few hundred float32 entries have errors of about 1e-6
FLOAT32_SPREAD = 1e3  # costs this many entropies apart: float32 potentials keep four digits of the exponent


@dataclass(frozen=True)
class Plan:
    """A batch of couplings between n rows and m columns.

    coupling     (b, n, m) mass, float32 or float64; 0 in absent rows and columns
    iterations   number for the slowest item of the batch; 0 for a solver without iterations
    error        (b,) distance of the plan from the requested one: for fixed marginals the largest error of a row, as a
                 share of the mass it should hold; for `unbalanced` a bound on the relative error of the scalings
    permutation  (b, n) column of each row, -1 for an absent row; None where the plan is no assignment
    """

    coupling: Tensor
    iterations: int
    error: Tensor
    permutation: Tensor | None = None

    def carry(self, tokens: Tensor) -> Tensor:
        """Carry tokens (b, m, D) of the columns to the rows: coupling @ tokens, (b, n, D), in the tokens' dtype.

        An assignment is an index operation: n·D reads instead of a product of n²·D operations.
        """
        if self.permutation is None:
            return self.coupling.to(tokens.dtype) @ tokens
        present = self.permutation >= 0
        index = self.permutation.clamp_min(0)[..., None].expand(-1, -1, tokens.shape[-1])
        mass = present / present.sum(1, keepdim=True).clamp_min(1).double()  # (b, n)
        return tokens.gather(1, index) * mass[..., None].to(tokens.dtype)

    def transposed(self) -> "Plan":
        """The same mass with rows and columns exchanged, (b, m, n); `error` is that of the solver."""
        permutation = None if self.permutation is None else _inverse(self.permutation, self.coupling.shape[2])
        return Plan(self.coupling.transpose(1, 2), self.iterations, self.error, permutation)

    def repeated(self, times: int) -> "Plan":
        """Each item of the batch repeated `times` times in succession."""
        permutation = None if self.permutation is None else self.permutation.repeat_interleave(times, 0)
        coupling, error = (value.repeat_interleave(times, 0) for value in (self.coupling, self.error))
        return Plan(coupling, self.iterations, error, permutation)


def _inverse(permutation: Tensor, columns: int) -> Tensor:
    """Row of each column (b, m), -1 for an absent column."""
    batch, rows = permutation.shape
    spare = torch.where(
        permutation >= 0, permutation, columns
    )  # absent rows write into an additional column, which is removed
    inverse = permutation.new_full((batch, columns + 1), -1)
    inverse.scatter_(1, spare, torch.arange(rows, device=permutation.device).expand(batch, -1))
    return inverse[:, :columns]


@dataclass(frozen=True)
class Problem:
    """A checked batch of costs with masks; the cost of absent tokens is zero.

    cost (b, n, m) finite, detached; rows (b, n), columns (b, m) bool; whole: no token is absent
    """

    cost: Tensor
    rows: Tensor
    columns: Tensor
    whole: bool

    @classmethod
    def of(cls, cost: Tensor, mask_rows: Tensor | None, mask_columns: Tensor | None) -> "Problem":
        """Check cost (b, n, m) and masks; values at absent tokens are not read.

        Raises DataError for a cost that is not floating (b, n, m), masks of another type or shape, and for the
        first NaN or infinite cost between present tokens
        """
        if cost.dim() != 3 or not cost.is_floating_point() or 0 in cost.shape[1:]:
            raise DataError(
                f"the cost is {cost.dtype} of shape {tuple(cost.shape)}, not floating of shape (b, n, m)",
                where="transport",
                hint="give a batch of cost matrices with at least one row and one column",
            )
        rows = _mask("rows", mask_rows, cost, cost.shape[1])
        columns = _mask("columns", mask_columns, cost, cost.shape[2])
        whole = (mask_rows is None and mask_columns is None) or bool(rows.all() & columns.all())
        cost = cost.detach()
        if not whole:
            cost = cost.masked_fill(~(rows[:, :, None] & columns[:, None, :]), 0.0)
        _finite(cost)
        return cls(cost, rows, columns, whole)

    @property
    def absent(self) -> Tensor:
        """(b, n, m) True where row or column is absent."""
        return ~(self.rows[:, :, None] & self.columns[:, None, :])

    def masses(self) -> tuple[Tensor, Tensor]:
        """Uniform masses of the present rows (b, n) and columns (b, m), float64, 0 where absent."""
        a, b = (mask / mask.sum(1, keepdim=True).clamp_min(1).double() for mask in (self.rows, self.columns))
        return a, b

    def both_or_neither(self) -> None:
        """Check the sides of every item.

        Raises DataError when an item has tokens on one side only: no plan meets such marginals
        """
        lone = (self.rows.any(1) != self.columns.any(1)).nonzero()
        if len(lone):
            raise DataError(
                "one side has no present token, but the other side has mass",
                where=f"transport, batch item {int(lone[0])}",
                hint="mask both sides, or use solver unbalanced, which allows mass to vanish",
            )

    def result_dtype(self) -> torch.dtype:
        """float32 for half precision, since 8 bits of mantissa are too few for the marginals."""
        return self.cost.dtype if self.cost.dtype == torch.float64 else torch.float32


def _mask(name: str, mask: Tensor | None, cost: Tensor, size: int) -> Tensor:
    full = (cost.shape[0], size)
    if mask is None:
        return torch.ones(full, dtype=torch.bool, device=cost.device)
    if mask.dtype != torch.bool or mask.shape != full:
        raise DataError(
            f"the mask is {mask.dtype} of shape {tuple(mask.shape)}, not bool of shape {full}",
            where=f"transport, mask of the {name}",
            hint="give one bool for each token, True where it is present",
        )
    return mask


def finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite; values of any shape.

    One pass over the minimum and maximum, where `isfinite` allocates a mask and takes ten times as long.
    """
    # Both NaN and infinity propagate to the minimum or the maximum.
    return not values.numel() or all(math.isfinite(end) for end in map(float, values.aminmax()))


def _finite(cost: Tensor) -> None:
    if not finite(cost):
        item, row, column = (~torch.isfinite(cost)).nonzero()[0].tolist()
        raise DataError(
            f"the cost is {cost[item, row, column].item()}, not a finite number",
            where=f"transport, batch item {item}, row {row}, column {column}",
            hint="check the features of that item for NaN or infinity, or mask the absent token",
        )


def positive(**settings: float) -> None:
    """Check settings of a solver.

    Raises UsageError when one is not a positive finite number
    """
    for name, value in settings.items():
        if not 0 < value < float("inf"):
            raise UsageError(
                f"{name} is {value!r}, not a positive number", where="transport", hint=f"set {name} above 0"
            )


def untraced(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Exclude a function from torch.compile that branches on values or loops to a tolerance: one graph break."""

    @wraps(function)
    def run(*args: Parameters.args, **settings: Parameters.kwargs) -> Result:
        # `disable` is not called at import: it imports the compiler, which takes two seconds in every process.
        if torch.compiler.is_compiling():
            kept_out = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
            return cast("Callable[Parameters, Result]", kept_out)(*args, **settings)
        return function(*args, **settings)

    return run
