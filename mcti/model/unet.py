"""Encoder, bottleneck and decoder over the task streams (docs/model.md, section 5).

Streams (2, b, n, D) are cls and surv; x (1, b, n, D) is shared by both. The layers also process M members at once
(mcti/model/members.py): streams (2·M, b, n, D), all cls first, and x (M, b, n, D).
"""

import torch
from torch import Tensor, nn

from mcti.model.guidance import Coupling, GuidedStack
from mcti.model.presets import ModelConfig
from mcti.model.streams import Mix, SelfAttention

CLS, SURV = 0, 1  # index of each stream
Trace = list[Coupling] | None


class EncoderStage(nn.Module):
    """Self-attention of each stream; each stream then guides x through its own stack; the new x is the mix of both."""

    def __init__(self, depth: int, config: ModelConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(2, config.attention_depth, config)
        self.guided = GuidedStack(2, depth, config)
        self.mix = Mix(1, average_init=config.zero_init_residual)

    def forward(self, x: Tensor, streams: Tensor, mask: Tensor | None, trace: Trace) -> tuple[Tensor, Tensor]:
        """x (1, b, n, D), streams (2, b, n, D) -> new x, new streams; mask (b, n)."""
        streams = self.attention(streams, mask)
        streams = self.guided(_for_both(x), streams, mask, trace)
        return self.mix(streams), streams


class Bottleneck(nn.Module):
    """x guided by each stream, then mixed; the streams do not change."""

    def __init__(self, depth: int, config: ModelConfig) -> None:
        super().__init__()
        self.guided = GuidedStack(2, depth, config)
        self.mix = Mix(1, average_init=config.zero_init_residual)

    def forward(self, x: Tensor, streams: Tensor, mask: Tensor | None, trace: Trace) -> Tensor:
        """x (1, b, n, D), streams (2, b, n, D) -> new x; mask (b, n)."""
        out: Tensor = self.mix(self.guided(_for_both(x), streams, mask, trace))
        return out


class DecoderStage(nn.Module):
    """Self-attention of the pair [x, skip]; its mixes guide the streams and form the new x (not in the last stage)."""

    def __init__(self, depth: int, config: ModelConfig, *, last: bool) -> None:
        super().__init__()
        self.attention = SelfAttention(1, config.attention_depth, config)
        self.guided = GuidedStack(2, depth, config)
        self.guides = Mix(2, average_init=config.zero_init_residual)
        self.mix = None if last else Mix(1, average_init=config.zero_init_residual)

    def forward(
        self, x: Tensor, skip: Tensor, streams: Tensor, mask: Tensor | None, trace: Trace
    ) -> tuple[Tensor, Tensor]:
        """x and skip (1, b, n, D), streams (2, b, n, D) -> new x, new streams; mask (b, n)."""
        pair = torch.cat((x, skip), 1)  # (1, 2b, n, D): one transformer for both
        pair = self.attention(pair, None if mask is None else mask.repeat(2, 1))
        pair = torch.cat(pair.chunk(2, 1)) if len(x) > 1 else pair.view(2, *x.shape[1:])  # (2, b, n, D)
        streams = self.guided(streams, self.guides(pair), mask, trace)
        return x if self.mix is None else self.mix(pair), streams


class TaskUNet(nn.Module):
    """The complete U-Net: from joint tokens with task tokens to the two task streams."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(EncoderStage(depth, config) for depth in config.encoder_depths)
        self.bottleneck = Bottleneck(config.bottleneck_depth, config)
        final = len(config.decoder_depths) - 1
        self.decoder = nn.ModuleList(
            DecoderStage(depth, config, last=stage == final) for stage, depth in enumerate(config.decoder_depths)
        )

    def forward(
        self, x: Tensor, streams: Tensor, mask: Tensor | None, trace: Trace = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """x (1, b, n, D), streams (2, b, n, D) -> streams (2, b, n, D).

        With a trace also the mean norms of the tokens by layer, each (2, b) or (1, b); else None.
        """
        outputs, skips = {"tokens": streams}, []
        for stage, encoder in enumerate(self.encoder):
            x, streams = encoder(x, streams, mask, trace)
            skips.append(x)
            outputs[f"encoder.{stage}"] = streams
        outputs["bottleneck"] = x = self.bottleneck(x, streams, mask, trace)
        for stage, decoder in enumerate(self.decoder):
            x, streams = decoder(x, skips.pop(), streams, mask, trace)
            outputs[f"decoder.{stage}"] = streams
        return streams, None if trace is None else {layer: _norms(out, mask) for layer, out in outputs.items()}


def _for_both(x: Tensor) -> Tensor:
    """x (1, b, n, D) for the streams cls and surv, (2, b, n, D)."""
    return x.expand(2, -1, -1, -1) if len(x) == 1 else x.repeat(2, 1, 1, 1)


def _norms(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean norm of the present tokens, (S, b)."""
    return mean_token(x.detach().norm(dim=-1, keepdim=True), mask)[..., 0]


def mean_token(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the present tokens: (S, b, n, D), mask (b, n) -> (S, b, D)."""
    if mask is None:
        return x.mean(2)
    present = mask[..., None].to(x.dtype)
    return (x * present).sum(2) / present.sum(1)
