"""Heads: logits from the mean token of a stream, and the paths that bypass the U-Net (docs/model.md, section 6)."""

from torch import Tensor, nn

from mcti.model.dropout import Dropout
from mcti.model.pathology import PathologyOutput
from mcti.model.presets import ModelConfig


class Head(nn.Module):
    """Mean token of a stream to logits (docs/model.md, section 6), with the optional paths that bypass the U-Net."""

    def __init__(self, config: ModelConfig, outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.drop = Dropout(config.dropout)
        self.out = nn.Linear(config.width, outputs)
        self.linear_skip = Skip(config, outputs) if config.linear_skip else None

    def forward(self, mean: Tensor, mined: PathologyOutput, gene_tokens: Tensor, covariates: Tensor | None) -> Tensor:
        """mean (b, D), pathology output, gene tokens (b, T, D), covariates (b, V + C) or None -> (b, outputs)."""
        mean_patch = mined.average if self.linear_skip is None else self.linear_skip.norm(mined.average)
        return self.decide(mean, mean_patch, mined.focus, gene_tokens, covariates)

    def decide(
        self, mean: Tensor, mean_patch: Tensor, focus: Tensor, gene_tokens: Tensor, covariates: Tensor | None
    ) -> Tensor:
        """`forward` with the normalised mean patch (b, D_in) and the focus (b, D_in) as inputs."""
        logits: Tensor = self.out(self.drop(self.norm(mean)))
        return (
            logits
            if self.linear_skip is None
            else logits + self.linear_skip(mean_patch, focus, gene_tokens, covariates)
        )


class Skip(nn.Module):
    """Bypass of the U-Net: linear in the mean patch feature, gene tokens and covariates; initialised to zero.

    A `bilinear_rank` r above 0 adds r products of one direction of the focus (the mean critical patch) and one of the
    gene tokens, because additive layers learn an interaction of slides and genes slowly (docs/model.md, section 6).
    """

    def __init__(self, config: ModelConfig, outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.features, elementwise_affine=False)
        self.drop = Dropout(config.dropout)
        genes = config.tokens * config.width
        self.slides = _zero_linear(config.features, outputs)
        self.genes = _zero_linear(genes, outputs)
        self.clinical = _zero_linear(config.clinical_width, outputs) if config.covariates else None
        self.pairing = Pairing(config.features, genes, config.bilinear_rank, outputs) if config.bilinear_rank else None

    def forward(self, mean_patch: Tensor, focus: Tensor, gene_tokens: Tensor, covariates: Tensor | None) -> Tensor:
        """Mean patch after `norm` (b, D_in), focus (b, D_in), (b, T, D), (b, V + C) or None -> (b, outputs)."""
        genes = self.drop(gene_tokens.flatten(1))
        logits: Tensor = self.slides(self.drop(mean_patch)) + self.genes(genes)
        if self.clinical is not None:
            logits = logits + self.clinical(covariates)
        return logits if self.pairing is None else logits + self.pairing(self.drop(focus), genes)


class Pairing(nn.Module):
    """Low-rank bilinear form of two vectors, (b, p), (b, q) -> (b, outputs); initialised to zero."""

    def __init__(self, left: int, right: int, rank: int, outputs: int) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(left, rank, bias=False), nn.Linear(right, rank, bias=False)
        for side in (self.left, self.right):
            nn.init.normal_(side.weight, std=side.in_features**-0.5)
        self.out = _zero_linear(rank, outputs)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """(b, p), (b, q) -> (b, outputs)."""
        out: Tensor = self.out(self.left(left) * self.right(right))
        return out


def _zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer initialised to zero."""
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.zeros_(layer.weight)
    return layer
