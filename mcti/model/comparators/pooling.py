"""Networks of slides alone that pool a bag by its mean or by gated attention."""

import torch
from torch import Tensor, nn

from mcti.model.axes import config_after_axes
from mcti.model.comparators.base import Comparator, Reading
from mcti.model.dropout import Dropout
from mcti.model.presets import ModelConfig


class GatedAttention(nn.Module):
    """Attention pooling a_i = softmax_i(w·(tanh(V x_i) ⊙ sigmoid(U x_i))) (Ilse et al. 2018, ICML, equation 9).

    tokens (b, N, D), mask (b, N) True = present -> pooled (b, D) = sum_i a_i x_i, weights a (b, N), 0 where absent.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.values, self.gates = nn.Linear(width, width), nn.Linear(width, width)
        self.score = nn.Linear(width, 1)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Pool tokens (b, n, D) where mask (b, n) is True; see the class."""
        scores = self.score(torch.tanh(self.values(tokens)) * torch.sigmoid(self.gates(tokens)))[..., 0]
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        weights = scores.softmax(1)
        return (weights[:, None] @ tokens)[:, 0], weights


def embedding(config: ModelConfig) -> nn.Sequential:
    """Layers from a patch feature to a token: Linear, ReLU, dropout."""
    return nn.Sequential(nn.Linear(config.features, config.width), nn.ReLU(), Dropout(config.dropout))


class MeanPool(Comparator):
    """The mean patch feature through a perceptron of one hidden layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.hidden = nn.Sequential(
            embedding(config_after_axes(config)), nn.Linear(config.width, config.width), nn.ReLU()
        )

    def read(self, patches: Tensor, mask: Tensor, genes: Tensor) -> Reading:  # noqa: ARG002 - slides alone
        """patches (b, N, D_in), mask (b, N), genes (b, G) -> vector (b, D); every patch has the same weight."""
        count = mask.sum(1, keepdim=True).clamp_min(1)
        return Reading(self.hidden(patches.sum(1) / count), mask / count)


class ABMIL(Comparator):
    """Attention-based multiple-instance learning with gates (Ilse, Tomczak and Welling 2018, ICML)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.embed = embedding(config_after_axes(config))
        self.pool = GatedAttention(config.width)

    def read(self, patches: Tensor, mask: Tensor, genes: Tensor) -> Reading:  # noqa: ARG002 - slides alone
        """patches (b, N, D_in), mask (b, N), genes (b, G) -> vector (b, D); see Comparator."""
        return Reading(*self.pool(self.embed(patches), mask))
