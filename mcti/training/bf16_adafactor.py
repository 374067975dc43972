"""bf16 Adafactor: an optimizer with factored second moments, no first moment and weights in bfloat16.

AdamW stores weight, gradient and two moments, 16 bytes per weight. This optimizer stores two bytes for the weight, two
for the gradient and one number for each row and column of a matrix. It is Adafactor (Shazeer and Stern 2018, ICML,
algorithm 4) except for the step size, which is the learning rate itself: steps relative to the size of a
weight would keep zero-initialised residual branches at zero. A step far below the spacing of bfloat16 is not lost: the
new weight is rounded up or down at random, without bias (Gupta et al. 2015, ICML).
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mcti.dataset.sampling import seeded_generator

_SLAB = 2**22
"""Number of weights per update, which avoids a float32 copy of a large matrix."""
_TINY = 1e-30
"""Added to squared gradients: a row of zeros has no direction."""


def to_bf16_matrices(net: nn.Module) -> None:
    """Convert the matrices of the network to bfloat16, in place, except vectors and the instance classifier.

    The critical patches depend on the order of scores that differ in their last digits.
    """
    for name, parameter in net.named_parameters():
        if parameter.ndim >= 2 and ".instance." not in f".{name}":
            parameter.data = parameter.data.bfloat16()


class Bf16Adafactor(torch.optim.Optimizer):
    """Adafactor with an absolute step, decoupled weight decay and stochastic rounding; see the module.

    beta2 of step t is 1 - t^-0.8. An update with a root mean square above 1 is scaled to 1. The roundings of a step
    are a function of (seed, step) alone, so a resumed run repeats them.
    """

    def __init__(self, params: Any, lr: float, seed: int, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.seed = seed

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient, in place and in its shape; `closure` is not supported."""
        assert closure is None
        members = [(parameter, group) for group in self.param_groups for parameter in group["params"]]
        for number, (parameter, settings) in enumerate(members):
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if not state:
                _begin(state, parameter)
            state["step"] += 1
            seed = seeded_generator(self.seed, int(state["step"]), number).initial_seed()
            _move(parameter, state, settings, torch.Generator(parameter.device).manual_seed(seed))


def _begin(state: dict[str, Tensor], parameter: Tensor) -> None:
    """Zero moments: of the rows and columns of each matrix, or of every number of a vector."""
    state["step"] = torch.tensor(0.0)
    if parameter.ndim < 2:
        state["squares"] = torch.zeros_like(parameter, dtype=torch.float32)
        return
    state["rows"] = parameter.new_zeros(parameter.shape[:-1], dtype=torch.float32)
    state["columns"] = parameter.new_zeros((*parameter.shape[:-2], parameter.shape[-1]), dtype=torch.float32)


def _move(parameter: Tensor, state: dict[str, Tensor], group: dict[str, Any], generator: torch.Generator) -> None:
    assert parameter.grad is not None
    keep = 1.0 - float(state["step"]) ** -0.8
    if parameter.ndim < 2:
        square = parameter.grad.float().square() + _TINY
        state["squares"].mul_(keep).add_(square, alpha=1 - keep)
        update = parameter.grad.float() * state["squares"].rsqrt()
        length = float(update.square().mean().sqrt())
        _apply(parameter, update, length, group, generator)
        return
    pieces = list(_slabs(parameter, state))
    _follow(pieces, state, keep, parameter.shape)
    total = sum(float(_direction(*piece[1:]).square().sum()) for piece in pieces)
    length = (total / parameter.numel()) ** 0.5
    for weight, *rest in pieces:
        _apply(weight, _direction(*rest), length, group, generator)


Slab = tuple[Tensor, Tensor, Tensor, Tensor]
"""Views of a matrix's weights (r, m), gradients (r, m), row moments (r,) and column moments (m,)."""


def _slabs(parameter: Tensor, state: dict[str, Tensor]) -> Iterator[Slab]:
    """A stack of matrices (…, n, m) in blocks of a few rows."""
    assert parameter.grad is not None
    rows, columns = parameter.shape[-2:]
    count = max(1, _SLAB // columns)
    stacked = (parameter.view(-1, rows, columns), parameter.grad.reshape(-1, rows, columns))
    moments = (state["rows"].view(-1, rows), state["columns"].view(-1, columns))
    for weight, slope, row, column in zip(*stacked, *moments, strict=True):
        for start in range(0, rows, count):
            rows_of_slab = slice(start, start + count)
            yield weight[rows_of_slab], slope[rows_of_slab], row[rows_of_slab], column


def _follow(pieces: list[Slab], state: dict[str, Tensor], keep: float, shape: torch.Size) -> None:
    """Update the moments with the mean squared gradient of each row and column."""
    state["columns"].mul_(keep)
    for _, slope, row, column in pieces:
        square = slope.float().square() + _TINY
        row.mul_(keep).add_(square.mean(1), alpha=1 - keep)
        column.add_(square.sum(0), alpha=(1 - keep) / shape[-2])


def _direction(slope: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Gradient over the root of its second moment, row · column / mean of the columns: (r, m) in float32."""
    return slope.float() * row.rsqrt()[:, None] * (column / column.mean()).rsqrt()


def _apply(weight: Tensor, update: Tensor, length: float, group: dict[str, Any], generator: torch.Generator) -> None:
    """weight (1 - lr · decay) - lr · update, root mean square at most 1; in place, in the dtype of the weight."""
    moved = weight.float() * (1 - group["lr"] * group["weight_decay"])
    moved.add_(update, alpha=-group["lr"] / max(1.0, length))
    weight.copy_(stochastic(moved, generator) if weight.dtype == torch.bfloat16 else moved)


def stochastic(values: Tensor, generator: torch.Generator) -> Tensor:
    """Stochastic rounding of float32 to bfloat16, any shape: unbiased on average; finite values only."""
    bits = values.contiguous().view(torch.int32)
    chance = torch.randint(0, 2**16, bits.shape, dtype=torch.int32, device=bits.device, generator=generator)
    return ((bits + chance) & -(2**16)).view(torch.float32).bfloat16()
