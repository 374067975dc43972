"""Pathology branch: the subtype task selects critical patches (docs/model.md, section 1; MICCAI 2024, section 2.1)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mcti.model.presets import ModelConfig
from mcti.model.unit_vectors import unit

_STORED_BLOCKS = 4
"""Number of blocks of a batch that are stored for the backward pass: for short bags recomputing them costs more than
their memory, and `checkpoint` imports the compiler of torch, which takes seconds in every process."""


@dataclass
class PathologyOutput:
    """Output of the pathology branch for a batch of bags.

    tokens           (b, K, D) patch tokens, rows in descending score; absent rows are zero
    present          (b, K) bool, False where a bag has fewer than K critical patches
    critical         (b, K) row of the patch in its bag, -1 where absent
    scores           (b, K) largest instance logit of the patch, 0 where absent
    critical_logits  (b, K, C) instance logits of the patch, 0 where absent
    mass             (b, K) mass that each critical patch received, in patches; a row sums to the bag's N
    instance_logits  (b, C) largest instance logit of each class over the bag
    average          (b, D_in) mean patch feature
    focus            (b, D_in) mean critical patch feature, weighted by the softmax of the scores
    sums             (b, K, D_in) sum of the patch features sent to each token: input of the token layers
    keys             (b, K, query width) keys of the critical patches, matched by the patches; zero where absent
    """

    tokens: Tensor
    present: Tensor
    critical: Tensor
    scores: Tensor
    critical_logits: Tensor
    mass: Tensor
    instance_logits: Tensor
    average: Tensor
    focus: Tensor
    sums: Tensor
    keys: Tensor


class PathologyBranch(nn.Module):
    """Bags of patches to K patch tokens.

    patches (b, N, D_in) padded, mask (b, N) True = real -> PathologyOutput. The bags are processed in blocks of `block`
    rows, and the backward pass recomputes each block of a batch with more than four: peak memory O(block·(K + D_in))
    besides the bags, never N·K.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.critical, self.block, self.share = config.critical, config.block, config.critical_share
        self.normalise_mass = config.normalise_mass
        self.instance = nn.Linear(config.features, len(config.classes))
        self.query = QueryNet(config.features, config.query)
        self.soft_instance_gate = config.soft_instance_gate
        self.inverse_temperature = (
            nn.Parameter(torch.tensor(config.inverse_temperature)) if config.inverse_temperature else None
        )
        self.project = nn.Sequential(
            nn.Linear(config.features, config.width),
            nn.GELU(),
            nn.Linear(config.width, config.width),
            nn.ReLU(),
            nn.Linear(config.width, config.width),
            nn.ReLU(),
            nn.Linear(config.width, config.width),
        )
        self.refine = nn.Sequential(nn.Linear(config.width, config.width), nn.GELU())
        self.attention = PatchAttention(config.width, config.critical)

    def forward(self, patches: Tensor, mask: Tensor) -> PathologyOutput:
        """patches (b, N, D_in), mask (b, N) -> tokens (b, K, D) and the selection; see the class."""
        scores, best, average = self._scan(patches, mask)
        index, present = self._select(scores)
        rows = _rows(patches, index).to(self.instance.weight.dtype)  # (b, K, D_in)
        critical_logits = _real(self.instance(rows))
        critical_scores = critical_logits.amax(-1)
        focus = torch.einsum("bk,bkd->bd", focus_weights(critical_scores, present).to(rows.dtype), rows)
        if self.soft_instance_gate:
            rows = rows * _gate(critical_scores, scores, mask).to(rows.dtype)[..., None]
        keys = self.query(rows).masked_fill(~present[..., None], 0.0)
        sums, mass = self._transport(patches, mask, keys, present)
        sums = sums * self.patch_weight(present, mask)[:, None, None].to(sums.dtype)
        return PathologyOutput(
            self.tokens_of(sums, present),
            present,
            critical=torch.where(present, index, -1),
            scores=torch.where(present, critical_scores, 0.0),
            critical_logits=torch.where(present[..., None], critical_logits, 0.0),
            mass=mass,
            instance_logits=self.instance_at(patches, best),
            average=average,
            focus=focus,
            sums=sums,
            keys=keys,
        )

    def tokens_of(self, sums: Tensor, present: Tensor) -> Tensor:
        """Patch tokens (b, K, D) from the sums (b, K, D_in)."""
        tokens: Tensor = self.attention(self.refine(self.project(sums)), present)
        return tokens

    def patch_weight(self, present: Tensor, mask: Tensor) -> Tensor:
        """Weight of one patch's mass in the sums, (b,): with `normalise_mass` tokens over patches, else 1."""
        if not self.normalise_mass:
            return torch.ones(len(mask), device=mask.device)
        return present.sum(1).clamp_min(1) / mask.sum(1).clamp_min(1)

    def instance_at(self, patches: Tensor, best: Tensor) -> Tensor:
        """Instance logits (b, C) of class c at the patch best[:, c]; only these rows have a gradient."""
        rows = _rows(patches, best).to(self.instance.weight.dtype)  # (b, C, D_in)
        return torch.einsum("bcd,cd->bc", rows, self.instance.weight) + self.instance.bias

    @torch.no_grad()
    def _scan(self, patches: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (b, N), -inf where padded; the best patch of each class (b, C); the mean patch (b, D_in)."""
        scores, tops, bests, total = [], [], [], _real(patches.new_zeros(()))
        # Never in half precision: the order of the scores selects the critical patches.
        with torch.autocast(patches.device.type, enabled=False):
            for start in range(0, patches.shape[1], self.block):
                rows = patches[:, start : start + self.block].to(self.instance.weight.dtype)
                block_mask = mask[:, start : start + self.block, None].to(rows.dtype)
                logits = self.instance(rows).masked_fill(block_mask == 0, -torch.inf)  # (b, block, C)
                top, best = logits.max(1)
                scores.append(logits.amax(-1))
                tops.append(top)
                bests.append(best + start)
                total = total + (block_mask.mT @ rows)[:, 0]
        winner = torch.stack(tops).argmax(0, keepdim=True)
        best = torch.stack(bests).gather(0, winner)[0]
        return torch.cat(scores, 1), best, total / mask.sum(1, keepdim=True).clamp_min(1)

    def _select(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (b, K) of the critical patches in descending score, and which of them are present."""
        order = _highest(scores, self.critical)
        present = scores.gather(1, order) > -torch.inf
        if self.share < 1:
            score_share = scores.softmax(1).gather(1, order).nan_to_num(0.0)
            present = present & ((score_share.cumsum(1) - score_share) < self.share)
        missing = self.critical - order.shape[1]
        return F.pad(order, (0, missing)), F.pad(present, (0, missing))

    def _transport(self, patches: Tensor, mask: Tensor, keys: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Sums (b, K, D_in) of the normalised patches by mass, and the mass (b, K)."""
        count = max(1, self.block // len(patches))  # the block is shared by the bags of the batch
        if patches.shape[1] <= count:
            return self._transport_block(patches, mask, keys, present)
        sums, mass = None, None
        for start in range(0, patches.shape[1], count):
            end = start + count
            arguments = (patches[:, start:end], mask[:, start:end], keys, present)
            if torch.is_grad_enabled() and patches.shape[1] > _STORED_BLOCKS * count:
                # Only views of the bag are stored; the backward pass recomputes the (block, K) masses.
                part = checkpoint(self._transport_block, *arguments, use_reentrant=False, preserve_rng_state=False)
            else:
                part = self._transport_block(*arguments)
            sums = part[0] if sums is None else sums + part[0]
            mass = part[1] if mass is None else mass + part[1]
        assert sums is not None
        assert mass is not None
        return sums, mass

    def _transport_block(self, rows: Tensor, mask: Tensor, keys: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        rows = rows.to(self.instance.weight.dtype)
        shares = self.masses(rows, keys, present) * mask[..., None]  # (b, block, K)
        # The shares are divided by the lengths, not the rows: this avoids a second copy of the block.
        lengths = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp_min(1e-12)
        return (shares / lengths).transpose(1, 2) @ rows, shares.sum(1)

    def masses(self, rows: Tensor, keys: Tensor, present: Tensor) -> Tensor:
        """Distribution of one unit of mass of each patch over the critical patches: (b, N, D_in) -> (b, N, K)."""
        queries = unit(self.query(rows), -1)
        similarity = unit(queries @ keys.transpose(1, 2), -1)
        if self.inverse_temperature is not None:
            similarity = similarity * self.inverse_temperature
        # A bag without a critical patch (absent slides) distributes its mass evenly, which avoids a division by zero.
        hidden = ~present & present.any(1, keepdim=True)
        return similarity.masked_fill(hidden[:, None], -torch.inf).softmax(-1)


def focus_weights(scores: Tensor, present: Tensor) -> Tensor:
    """Softmax (b, K) of the scores of the critical patches that are present; 0 where a bag has none.

    The survival loss trains the instance classifier through these weights.
    """
    return scores.masked_fill(~present, -torch.inf).softmax(1).nan_to_num(0.0)


class QueryNet(nn.Module):
    """Query net phi: x -> tanh(W2 relu(W1 x + b1) + b2)."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(features, width)
        self.second = nn.Linear(width, width)

    def forward(self, rows: Tensor) -> Tensor:
        """(..., D_in) -> (..., query width)."""
        return torch.tanh(self.second(torch.relu(self.first(rows))))


class PatchAttention(nn.Module):
    """Channel attention over the patch tokens, without residual (docs/model.md, section 1, step 6).

    tokens (b, K, D), present (b, K) -> (b, K, D); absent rows are zero and have no influence on other rows.
    """

    def __init__(self, width: int, critical: int) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.mix = nn.Linear(critical, critical, bias=False)
        self.scale = nn.Parameter(torch.ones(()))
        self.out = nn.Linear(width, width)
        self.local = nn.Sequential(nn.Linear(width, width, bias=False), nn.GELU(), nn.Linear(width, width, bias=False))

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        """tokens (b, K, D), present (b, K) -> (b, K, D)."""
        tokens = tokens * present[..., None]
        queries = unit(self.to_q(tokens), 1)  # each channel over the tokens
        keys = unit(self.to_k(tokens), 1)
        # The mixing depends on the order of the rows: descending score.
        values = unit(self.mix(self.to_v(tokens).transpose(1, 2)).transpose(1, 2), -1)
        channels = (self.temperature(len(tokens)) * keys.transpose(1, 2) @ queries).softmax(-1)  # (b, D, D)
        out: Tensor = (self.out(values @ channels) + self.local(values)) * present[..., None]
        return out

    def temperature(self, rows: int) -> Tensor:  # noqa: ARG002  (used in mcti/model/members.py)
        """The factor of the logits of the channels: () for all of the b `rows`."""
        return self.scale


def _real(x: Tensor) -> Tensor:
    """At least float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _highest(scores: Tensor, count: int) -> Tensor:
    """Positions (b, min(count, N)) of the highest of the scores (b, N), in descending order.

    The earlier patch wins a tie on every machine and with any padding of the bag.
    """
    if count < scores.shape[1]:
        values, order = scores.topk(count + 1)
        if bool((values[:, :-1] > values[:, 1:]).all()):  # without a tie there is one order, found without sorting all
            return order[:, :count]
    return scores.argsort(dim=1, descending=True, stable=True)[:, :count]


def _rows(patches: Tensor, index: Tensor) -> Tensor:
    """Rows index (b, K) of each bag (b, N, D_in) -> (b, K, D_in)."""
    return patches.gather(1, index[..., None].expand(-1, -1, patches.shape[-1]))


def _gate(critical: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """sigmoid of the critical scores (b, K), standardised by mean and deviation over their whole bag."""
    count = mask.sum(1, keepdim=True).clamp_min(1)
    filled = scores.masked_fill(~mask, 0.0)
    mean = filled.sum(1, keepdim=True) / count
    deviation = (((filled - mean) * mask).square().sum(1, keepdim=True) / count).sqrt()
    return torch.sigmoid((critical - mean) / (deviation + 1e-6))
