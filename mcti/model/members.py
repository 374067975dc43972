"""Several networks of one configuration as one: a forward pass of all members of an ensemble at once.

One patient's forward pass consists of about 1,400 small operations, and their start takes longer than their arithmetic.
With the weights of M members side by side the same operations compute all members. Row r of a batch of R = M·b rows
belongs to member r // b. The results differ from those of the single networks in the last digits, since batched
products add in another order. For a fixed number of members they depend on the patient alone.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mcti.model.axes import Axes, gene_shares
from mcti.model.comparators import Comparator
from mcti.model.cox_branch import CoxBranch
from mcti.model.genomics import GroupedGenes
from mcti.model.guidance import Coupling, GuidedAttention
from mcti.model.network import MCTI, AbsentTokens
from mcti.model.pathology import PatchAttention, PathologyBranch
from mcti.model.streams import Mix, StreamLinear, StreamNorm
from mcti.model.unet import TaskUNet

MAX_PARAMETERS = 2_000_000
"""Of one member. The arithmetic of a larger network takes longer than the start of its operations, and the stacked
weights are a second copy of them."""


def can_be_stacked(nets: Sequence[MCTI | Comparator]) -> bool:
    """Whether `stack` supports these networks: two or more of one configuration, each of `MAX_PARAMETERS` at most.

    With a `critical_share` below 1 the members of a patient may differ in their number of critical patches.
    """
    first = nets[0]
    if len(nets) < 2 or not isinstance(first, MCTI) or first.config.critical_share < 1:
        return False
    if sum(weights.numel() for weights in first.parameters()) > MAX_PARAMETERS:
        return False
    return all(isinstance(net, MCTI) and net.config == first.config for net in nets)


def stack(nets: Sequence[MCTI]) -> MCTI:
    """One network whose rows (R, …) pass through the M networks, member by member.

    For evaluation; its weights have no gradient. The networks themselves are not changed.
    """
    net = copy.deepcopy(nets[0]).eval().requires_grad_(requires_grad=False)
    for name, module in list(net.named_modules()):
        replaced = _KINDS.get(type(module))
        if replaced is not None:
            _merge(module, [other.get_submodule(name) for other in nets], replaced.stacked)
            # As torch.nn.utils.parametrize: the same submodules and settings, another forward pass.
            module.__class__ = replaced.module
    assert isinstance(net.unet, MemberUNet)
    net.unet.members = len(nets)
    return net


def _merge(module: nn.Module, parts: Sequence[nn.Module], stacked: Callable[[list[Tensor]], Tensor]) -> None:
    """Replace the own weights of a module, not those of its submodules, by the stacked ones of its parts."""
    for name, weights in [*module._parameters.items(), *module._buffers.items()]:
        if weights is not None:
            value = stacked([getattr(part, name).detach() for part in parts])
            is_parameter = name in module._parameters
            setattr(module, name, nn.Parameter(value, requires_grad=False) if is_parameter else value)


def _by_stream(weights: list[Tensor]) -> Tensor:
    """(S, …) of each member -> (S·M, …), the streams outside."""
    return torch.stack(weights, 1).flatten(0, 1)


def _factors(weights: list[Tensor]) -> Tensor:
    """() of each member -> (M, 1, 1)."""
    return torch.stack(weights)[:, None, None]


def _for_rows(weights: Tensor, rows: int) -> Tensor:
    """Weights (M, …) for each of M·b rows: (rows, …)."""
    return weights if len(weights) == rows else weights.repeat_interleave(rows // len(weights), 0)


class MemberLinear(nn.Linear):
    """nn.Linear with the weights (M, out, in) and the bias (M, out)."""

    def forward(self, x: Tensor) -> Tensor:
        """(R, …, in) -> (R, …, out)."""
        rows = x.reshape(len(self.weight), -1, x.shape[-1])
        bias = self._parameters["bias"]
        out = torch.bmm(rows, self.weight.mT) if bias is None else torch.baddbmm(bias[:, None], rows, self.weight.mT)
        return out.view(*x.shape[:-1], -1)


class MemberNorm(nn.LayerNorm):
    """nn.LayerNorm with weight and bias (M, D)."""

    def forward(self, x: Tensor) -> Tensor:
        """(R, D) -> (R, D)."""
        plain = F.layer_norm(x, self.normalized_shape, eps=self.eps)
        if not self.elementwise_affine:
            return plain
        return torch.addcmul(_for_rows(self.bias, len(x)), plain, _for_rows(self.weight, len(x)))


class MemberAxes(Axes):
    """The axes of M members, each for its own row."""

    def forward(self, patches: Tensor, genes: Tensor) -> tuple[Tensor, Tensor]:
        """(M, N, D_in), (M, G) -> (M, N, A_f), (M, A_g)."""
        rows = patches if self.features is None else patches @ self.features.mT
        return rows, genes if self.genes is None else (self.genes @ genes[..., None])[..., 0]

    def by_gene(self, groups: Tensor) -> Tensor:
        """(M, T, A_g) -> (M, T, G), from shares that are computed once."""
        return groups if self.genes is None else groups @ self._gene_shares

    @cached_property
    def _gene_shares(self) -> Tensor:
        assert self.genes is not None
        return gene_shares(self.genes)


class MemberPathology(PathologyBranch):
    """The pathology branch of M members, each for its own bag; its layers are those of this module."""

    def instance_at(self, patches: Tensor, best: Tensor) -> Tensor:
        """Instance logits (M, C) of class c at the patch best[:, c]."""
        rows = patches.gather(1, best[..., None].expand(-1, -1, patches.shape[-1]))
        return (rows * self.instance.weight).sum(-1) + self.instance.bias


class MemberPatchAttention(PatchAttention):
    """The channel attention of M members over the tokens (R, K, D)."""

    def temperature(self, rows: int) -> Tensor:
        """The factor of each row, (rows, 1, 1)."""
        return _for_rows(self.scale, rows)


class MemberGenes(GroupedGenes):
    """The gene groups of M members; weights (M, …)."""

    def forward(self, genes: Tensor) -> tuple[Tensor, Tensor | None]:
        """(R, G) -> (R, T, D), (R, T, G)."""
        scale, values = self.queries.shape[-1] ** -0.5, genes.view(len(self.names), -1, 1, genes.shape[1])
        named, levelled = (self.queries @ level.mT * scale for level in (self.names, self.levels))  # (M, T, G)
        weights = (named[:, None] + values * levelled[:, None]).softmax(-1)  # (M, b, T, G)
        scaled = self.drop(values) * genes.shape[1] ** 0.5
        read = ((weights * scaled).flatten(1, 2) @ self.contents).unflatten(1, weights.shape[1:3]) * scale
        return self.out((read + self.groups[:, None]).flatten(0, 1)), weights.flatten(0, 1)


class MemberCox(CoxBranch):
    """The Cox branches of M members; coefficients (M, …)."""

    def dot(self, values: Tensor, coefficients: Tensor) -> Tensor:
        """(R, p), (M, p) -> (R,)."""
        return (values * _for_rows(coefficients, len(values))).sum(-1)

    def limited(self, genes: Tensor) -> Tensor:
        """Standardised genes (M, G) -> (M, G) within the limit of each member."""
        limit = self.gene_limit[:, None]
        return genes.to(self.genes.dtype).clamp(-limit, limit)

    def forward(self, logits: Tensor, scores: Tensor) -> Tensor:
        """(R, B), scores (R,) -> (R, B)."""
        weight = _for_rows(self.cox_weight, len(logits))[:, None]
        return (1 - weight) * logits + weight * self.alone(scores)

    def alone(self, scores: Tensor) -> Tensor:
        """Scores (R,) -> (R, B)."""
        return _for_rows(self.base, len(scores)) + scores[:, None]


class MemberUNet(TaskUNet):
    """The U-Net of M members: its layers have the streams of all members side by side."""

    members: int

    def forward(
        self, x: Tensor, streams: Tensor, mask: Tensor | None, trace: list[Coupling] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """x (1, R, n, D), streams (2, R, n, D), mask (R, n), the same for each member; output as TaskUNet."""
        rows, members = x.shape[1], self.members
        first = None if mask is None else mask[: rows // members]
        # (S, R, …) -> (S·M, b, …): the members are streams of their own.
        shared, split = (value.reshape(-1, rows // members, *value.shape[2:]) for value in (x, streams))
        out, norms = super().forward(shared, split, first, trace)
        by_row = None if norms is None else {name: norm.reshape(-1, rows) for name, norm in norms.items()}
        return out.reshape(streams.shape), by_row


class MemberNetwork(MCTI):
    """MCTI with the weights of M members; `stack` makes it."""

    def learned_tokens(self, batch: int) -> Tensor:
        """The task tokens (3, R, tokens, D)."""
        return self.task_tokens.repeat_interleave(batch // self.task_tokens.shape[1], 1)


class MemberAbsentTokens(AbsentTokens):
    """The learned tokens of M members, (M, …)."""

    def learned(self, rows: int) -> tuple[Tensor, Tensor]:
        """The tokens of absent slides (rows, 1, D) and genes (rows, T, D)."""
        return _for_rows(self.slides, rows)[:, None], _for_rows(self.genes, rows)


@dataclass(frozen=True)
class _Kind:
    """The class that replaces one of a single network, and how the weights of the members become one tensor."""

    module: type[nn.Module]
    stacked: Callable[[list[Tensor]], Tensor] = torch.stack


_KINDS: dict[type[nn.Module], _Kind] = {
    nn.Linear: _Kind(MemberLinear),
    nn.LayerNorm: _Kind(MemberNorm),
    Axes: _Kind(MemberAxes),
    PathologyBranch: _Kind(MemberPathology, _factors),
    PatchAttention: _Kind(MemberPatchAttention, _factors),
    GroupedGenes: _Kind(MemberGenes),
    CoxBranch: _Kind(MemberCox),
    AbsentTokens: _Kind(MemberAbsentTokens),
    StreamLinear: _Kind(StreamLinear, _by_stream),
    StreamNorm: _Kind(StreamNorm, _by_stream),
    GuidedAttention: _Kind(GuidedAttention, _by_stream),
    Mix: _Kind(Mix, lambda weights: torch.stack(weights, -1)),
    TaskUNet: _Kind(MemberUNet),
    MCTI: _Kind(MemberNetwork, lambda weights: torch.stack(weights, 1)),
}
