"""Layers that run several task streams of one shape as one batched product, and self-attention over them.

S streams with separate weights share one tensor (S, b, n, D); b patients, n tokens. A mask (b, n) is True where
a token is present; None means that all are.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mcti.model.dropout import Dropout
from mcti.model.presets import ModelConfig


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight' + bias, batched: (S, m, d_in), (S, d_out, d_in), (S, d_out) or None -> (S, m, d_out).

    The gradient of the weight has the layout of the weight. That of torch.bmm is transposed, so autograd copies it once
    more: a sixth of the time of a guided block at the width of the paper.
    """
    if torch.is_autocast_enabled(x.device.type):  # autocast does not apply inside a custom autograd.Function
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    if not torch.is_grad_enabled():
        return _product(x, weight, bias)
    out: Tensor = _Product.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return out


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.bmm(x, weight.mT) if bias is None else torch.baddbmm(bias[:, None], x, weight.mT)


class _Product(torch.autograd.Function):
    """`product`, differentiable; all of one dtype."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The batched product."""
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The required gradients, that of the weight as (S, d_out, d_in)."""
        x, weight = ctx.saved_tensors
        to_x, to_weight, to_bias = ctx.needs_input_grad
        return (
            torch.bmm(upstream, weight) if to_x else None,
            torch.bmm(upstream.mT, x) if to_weight else None,
            upstream.sum(1) if to_bias else None,
        )


class StreamLinear(nn.Module):
    """One Linear per stream: (S, b, n, d_in) -> (S, b, n, d_out); weight (S, d_out, d_in), bias (S, d_out)."""

    def __init__(self, streams: int, in_width: int, out_width: int, *, bias: bool = True) -> None:
        super().__init__()
        bound = 1 / math.sqrt(in_width)  # initialisation of nn.Linear
        self.weight = nn.Parameter(torch.empty(streams, out_width, in_width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(streams, out_width).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(S, b, n, d_in) -> (S, b, n, d_out)."""
        return product(x.flatten(1, 2), self.weight, self.bias).view(len(x), *x.shape[1:3], -1)

    def zero_init(self) -> None:
        """Set weight and bias to zero, so that the residual branch is initially the identity."""
        nn.init.zeros_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class StreamNorm(nn.Module):
    """One LayerNorm per stream over the last axis of (S, b, n, D)."""

    def __init__(self, streams: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(streams, width))
        self.bias = nn.Parameter(torch.zeros(streams, width))

    def forward(self, x: Tensor) -> Tensor:
        """(S, b, n, D) -> (S, b, n, D)."""
        plain = F.layer_norm(x, x.shape[-1:])
        return torch.addcmul(self.bias[:, None, None], plain, self.weight[:, None, None])


class StreamMLP(nn.Module):
    """Linear-GELU-Linear of constant width."""

    def __init__(self, streams: int, width: int) -> None:
        super().__init__()
        self.first = StreamLinear(streams, width, width)
        self.second = StreamLinear(streams, width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(S, b, n, D) -> (S, b, n, D)."""
        out: Tensor = self.second(F.gelu(self.first(x)))
        return out


class AttentionLayer(nn.Module):
    """x + attention(LN(x)), then x + MLP(LN(x)); absent tokens have no influence on others."""

    def __init__(self, streams: int, config: ModelConfig) -> None:
        super().__init__()
        width, self.heads = config.width, config.heads
        self.norm = StreamNorm(streams, width)
        self.qkv = StreamLinear(streams, width, 3 * width, bias=False)
        self.out = StreamLinear(streams, width, width)
        self.mlp_norm = StreamNorm(streams, width)
        self.mlp = StreamMLP(streams, width)
        self.drop = Dropout(config.dropout, axis=1)
        if config.zero_init_residual:
            self.out.zero_init()
            self.mlp.second.zero_init()

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x (S, b, n, D) -> (S, b, n, D)."""
        x = x + self.drop(self.out(self.attend(self.qkv(self.norm(x)), mask)))
        out: Tensor = x + self.drop(self.mlp(self.mlp_norm(x)))
        return out

    def attend(self, qkv: Tensor, mask: Tensor | None) -> Tensor:
        """Scaled dot-product attention over the tokens: (S, b, n, 3D) -> (S, b, n, D)."""
        streams, batch, length, _ = qkv.shape
        parts = qkv.view(streams * batch, length, 3, self.heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4)  # each (S·b, heads, n, d)
        keys = None if mask is None else mask.repeat(streams, 1)[:, None, None]  # (S·b, 1, 1, n)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=keys)
        return mixed.transpose(1, 2).reshape(streams, batch, length, -1)


class SelfAttention(nn.Module):
    """A transformer of `depth` pre-norm layers over the tokens of each stream."""

    def __init__(self, streams: int, depth: int, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(AttentionLayer(streams, config) for _ in range(depth))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x (S, b, n, D) -> (S, b, n, D)."""
        for layer in self.layers:
            x = layer(x, mask)
        return x


class Mix(nn.Module):
    """1×1 convolution over two streams: w1·x1 + w2·x2 + b, for several outputs at once.

    pair (2, b, n, D) -> (outputs, b, n, D); weight (outputs, 2), bias (outputs,). For M members (mcti/model/members.py)
    (2·M, b, n, D) -> (outputs·M, b, n, D) with the weights (outputs, 2, M) and (outputs, M).
    """

    def __init__(self, outputs: int, *, average_init: bool) -> None:
        super().__init__()
        bound = 2**-0.5  # initialisation of nn.Conv2d with two channels
        self.weight = nn.Parameter(torch.empty(outputs, 2).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))
        if average_init:  # the plain average
            nn.init.constant_(self.weight, 0.5)
            nn.init.zeros_(self.bias)

    def forward(self, pair: Tensor) -> Tensor:
        """(2·M, b, n, D) -> (outputs·M, b, n, D)."""
        first, second = pair.chunk(2)  # each (M, b, n, D)
        shape = (len(self.bias), -1, 1, 1, 1)
        to_first, to_second = self.weight[:, 0].reshape(shape), self.weight[:, 1].reshape(shape)
        return (to_first * first + to_second * second + self.bias.view(shape)).flatten(0, 1)
