"""Transport-guided attention: a coupling combines task tokens and values (docs/model.md, section 4).

Tensors are (S, b, n, D) as in mcti/model/streams.py: all S·b couplings of a layer are solved in one call.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mcti.model.dropout import Dropout
from mcti.model.presets import ModelConfig
from mcti.model.streams import StreamLinear, StreamMLP, StreamNorm, product
from mcti.model.transport import CouplingHealth, Plan, SolverSettings, couple, health, low_rank_points
from mcti.model.transport.null_plans import shuffled, uniform
from mcti.model.unit_vectors import unit


@dataclass
class Coupling:
    """One coupling of the guided attention and its inputs.

    plan    coupling of the rows of guides with the rows of values
    guides  (S·b, n, D) task tokens t;  values (S·b, n, D)
    mask    (S·b, n) True = present, or None where all are
    coupler computed the plan
    """

    plan: Plan
    guides: Tensor
    values: Tensor
    mask: Tensor | None
    coupler: "Coupler"

    def health(self, *, seed: int = 0) -> CouplingHealth:
        """Stability under rounding noise, sharpness, and diversity of the tokens, each (S·b,)."""
        return health(
            self.guides,
            self.values,
            lambda guides, values: self.coupler(guides, values, self.mask).plan,
            seed=seed,
            mask_rows=self.mask,
            mask_columns=self.mask,
        )


@dataclass(frozen=True)
class Coupler:
    """Computes the coupling of guides and values: a solver by name and its settings.

    transpose_plan  each value token receives its matched guide, not the reverse
    form            "solved", or a control plan: "uniform" or "shuffled"
    """

    solver: str
    settings: SolverSettings
    transpose_plan: bool
    form: str = "solved"

    @classmethod
    def from_config(cls, config: ModelConfig) -> "Coupler":
        """The coupler of a configuration."""
        settings = SolverSettings(
            entropy=config.entropy,
            max_iterations=config.iterations,
            tolerance=config.tolerance,
            rank=config.rank,
            gradient=config.plan_gradient,
        )
        return cls(config.solver, settings, config.transpose_plan, config.plan)

    def __call__(self, guides: Tensor, values: Tensor, mask: Tensor | None) -> Coupling:
        """Couple guides and values, both (b, n, D); the mask (b, n) holds for both."""
        present = guides.new_ones(guides.shape[:2], dtype=torch.bool) if mask is None else mask
        if self.form == "uniform":
            plan: Plan = uniform(present, present)
        else:
            plan = self._solve(guides, values, mask)
        if self.form == "shuffled":
            plan = shuffled(plan, present)
        return Coupling(plan, guides.detach(), values.detach(), mask, self)

    def _solve(self, guides: Tensor, values: Tensor, mask: Tensor | None) -> Plan:
        settings = self.settings
        if self.solver == "low_rank":  # computed from the tokens: shift and scale of the cost do not change the plan
            return low_rank_points(
                guides,
                values,
                rank=settings.rank,
                max_iterations=settings.max_iterations,
                tolerance=settings.tolerance,
                mask_rows=mask,
                mask_columns=mask,
            )
        with torch.set_grad_enabled(settings.gradient and torch.is_grad_enabled()):
            cost = standard_cost(guides, values, mask)
            return couple(cost, self.solver, settings, mask_rows=mask, mask_columns=mask)

    def carry(self, plan: Plan, guides: Tensor) -> Tensor:
        """The guides (b, n, D) aligned with the values: plan·t as in the reference, or plan'·t."""
        return (plan.transposed() if self.transpose_plan else plan).carry(guides)


def standard_cost(guides: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Squared distances (b, n, n) between guides and values, standardised over the pairs of present tokens.

    Never in half precision, and relative to the mean of the values: near-identical tokens differ in the last digits
    only, which the expansion of the square would lose. Tokens without any variance cost 0.
    """
    with torch.autocast(guides.device.type, enabled=False):
        dtype = torch.promote_types(guides.dtype, torch.float32)
        values, guides = values.to(dtype), guides.to(dtype)
        if mask is None:
            centre = values.mean(1, keepdim=True)
            cost = _squared_distances(guides - centre, values - centre)
            cost = cost - cost.mean((1, 2), keepdim=True)
            variance = cost.square().mean((1, 2), keepdim=True)
        else:
            present, count = mask.to(dtype)[..., None], mask.sum(1)[:, None, None].to(dtype)
            centre = (values * present).sum(1, keepdim=True) / count
            cost = _squared_distances((guides - centre) * present, (values - centre) * present)
            pairs = present * present.transpose(1, 2)
            cost = (cost - (cost * pairs).sum((1, 2), keepdim=True) / count.square()) * pairs
            variance = cost.square().sum((1, 2), keepdim=True) / count.square()
        return cost * torch.where(variance > 0, variance, 1.0).rsqrt()


def _squared_distances(guides: Tensor, values: Tensor) -> Tensor:
    """(b, n, D), (b, m, D) -> (b, n, m)."""
    squares = guides.square().sum(-1)[:, :, None] + values.square().sum(-1)[:, None]
    return torch.baddbmm(squares, guides, values.transpose(1, 2), alpha=-2)


class GuidedAttention(nn.Module):
    """TGA(x, t): channel attention over values that the task tokens guide by optimal transport.

    x, t (S, b, n, D), mask (b, n) -> (S, b, n, D). The plan is a constant for autograd unless `plan_gradient` is set.
    """

    def __init__(self, streams: int, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.coupler = Coupler.from_config(config) if config.guidance else None
        self.to_qkv = StreamLinear(streams, width, 3 * width, bias=False)
        self.scale = nn.Parameter(torch.ones(streams))
        self.out = StreamLinear(streams, width, width)
        self.local = StreamMLP(streams, width)

    def forward(self, x: Tensor, guides: Tensor, mask: Tensor | None, trace: list[Coupling] | None = None) -> Tensor:
        """x, guides (S, b, n, D), mask (b, n) -> (S, b, n, D); the coupling is appended to the trace."""
        if mask is not None:
            x = x * mask[..., None]  # an absent token must not contribute to the norm of a channel
        queries, keys, values = self.to_qkv(x).chunk(3, -1)
        guided = self._guide(guides, values, mask, trace)
        queries, keys = unit(queries, 2), unit(keys, 2)  # each channel over the tokens
        scale = self.scale[:, None, None, None]
        channels = (scale * (keys.transpose(2, 3) @ queries)).softmax(-1)  # (S, b, D, D)
        attended = product(guided.flatten(0, 1), channels.flatten(0, 1).to(guided.dtype)).view(guided.shape)
        out: Tensor = self.out(attended) + self.local(values)
        return out

    def _guide(self, guides: Tensor, values: Tensor, mask: Tensor | None, trace: list[Coupling] | None) -> Tensor:
        """(plan·t) ⊙ v, (S, b, n, D); v alone where guidance is switched off."""
        if self.coupler is None:
            return values
        flat, every = guides.flatten(0, 1), None if mask is None else mask.repeat(len(guides), 1)
        coupling = self.coupler(flat, values.flatten(0, 1), every)
        if trace is not None:
            trace.append(coupling)
        return self.coupler.carry(coupling.plan, flat).view(guides.shape).to(values.dtype) * values


class GuidedBlock(nn.Module):
    """x + TGA(LN(x), t), then x + MLP(LN(x))."""

    def __init__(self, streams: int, config: ModelConfig) -> None:
        super().__init__()
        self.norm = StreamNorm(streams, config.width)
        self.attention = GuidedAttention(streams, config)
        self.mlp_norm = StreamNorm(streams, config.width)
        self.mlp = StreamMLP(streams, config.width)
        self.drop = Dropout(config.dropout, axis=1)
        if config.zero_init_residual:
            self.attention.out.zero_init()
            self.attention.local.second.zero_init()
            self.mlp.second.zero_init()

    def forward(self, x: Tensor, guides: Tensor, mask: Tensor | None, trace: list[Coupling] | None) -> Tensor:
        """x, guides (S, b, n, D) -> (S, b, n, D)."""
        x = x + self.drop(self.attention(self.norm(x), guides, mask, trace))
        out: Tensor = x + self.drop(self.mlp(self.mlp_norm(x)))
        return out


class GuidedStack(nn.Module):
    """`depth` guided blocks for S streams."""

    def __init__(self, streams: int, depth: int, config: ModelConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(GuidedBlock(streams, config) for _ in range(depth))

    def forward(
        self, x: Tensor, guides: Tensor, mask: Tensor | None = None, trace: list[Coupling] | None = None
    ) -> Tensor:
        """x, guides (S, b, n, D), mask (b, n) -> (S, b, n, D)."""
        for block in self.blocks:
            x = block(x, guides, mask, trace)
        return x
