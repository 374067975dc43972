"""TransMIL: a transformer over the patches with a convolutional position encoding (Shao et al. 2021, NeurIPS)."""

import torch
from torch import Tensor, nn

from mcti.model.axes import config_after_axes
from mcti.model.comparators.base import Comparator, Reading
from mcti.model.comparators.pooling import embedding
from mcti.model.presets import ModelConfig
from mcti.model.streams import AttentionLayer


class TransMIL(Comparator):
    """A class token and the patches: attention, pyramid position encoding, attention; the output is the class token.

    The patches fill the smallest square row by row; the first patches are repeated in its last cells. Attention is
    exact, O(N²) in time; the Nyström form of the paper approximates it. Padding has no influence: each patient has its
    own square, surrounded by the zero padding of the convolution.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.embed = embedding(config_after_axes(config))
        self.token = nn.Parameter(torch.randn(config.width) * config.width**-0.5)
        self.first, self.second = AttentionLayer(1, config), AttentionLayer(1, config)
        self.position_encoding = Pyramid(config.width)
        self.norm = nn.LayerNorm(config.width)

    def read(self, patches: Tensor, mask: Tensor, genes: Tensor) -> Reading:  # noqa: ARG002 - slides alone
        """patches (b, N, D_in), mask (b, N), genes (b, G) -> vector (b, D); see Comparator."""
        source, grid = squares(mask)
        cells = self.embed(patches).gather(1, source[..., None].expand(-1, -1, self.config.width))
        cells = cells * grid[..., None]
        tokens = torch.cat([self.token.expand(len(cells), 1, -1).to(cells.dtype), cells], 1)
        present = torch.cat([grid.new_ones(len(grid), 1), grid], 1)
        tokens = self.first(tokens[None], present)[0]
        tokens = torch.cat([tokens[:, :1], self.position_encoding(tokens[:, 1:], grid)], 1)
        return Reading(self.norm(self.second(tokens[None], present)[0, :, 0]))


class Pyramid(nn.Module):
    """Position encoding by depth-wise convolutions of 7, 5 and 3 patches: tokens (b, S², D), grid (b, S²)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kernels = nn.ModuleList(nn.Conv2d(width, width, k, padding=k // 2, groups=width) for k in (7, 5, 3))

    def forward(self, tokens: Tensor, grid: Tensor) -> Tensor:
        """(b, n, D) -> (b, n, D): tokens plus the three convolutions; grid (b, n) marks cells with a patch."""
        side = round(tokens.shape[1] ** 0.5)
        plane = (tokens * grid[..., None]).transpose(1, 2).reshape(len(tokens), -1, side, side)
        total = plane + sum((kernel(plane) for kernel in self.kernels), torch.zeros_like(plane))
        out: Tensor = total.flatten(2).transpose(1, 2) * grid[..., None]
        return out


def squares(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Source of each cell of the largest square of the batch: mask (b, N) -> source (b, S²), grid (b, S²).

    source: row of the bag in that cell;  grid: True inside the patient's own square of side ceil(sqrt(N)). Present
    rows are the first ones of a bag.
    """
    counts = mask.sum(1).clamp_min(1)
    sides = counts.double().sqrt().ceil().long()  # (b,)
    side = int(sides.max())
    across = torch.arange(side, device=mask.device)
    row, column = (part.flatten() for part in torch.meshgrid(across, across, indexing="ij"))
    grid = (row < sides[:, None]) & (column < sides[:, None])
    position = row * sides[:, None] + column
    return torch.where(grid, position % counts[:, None], 0), grid
