"""The peer: MCTI for one patient at a time, in the manner of the published reference, written from docs/model.md.

Every coupling is solved by itself with ot.emd on the CPU in float64; streams run one after the other; the whole mass
matrix N×K is in memory; the gene attention runs its unused query, key and output products. Parameter names are the
reference's, so that mcti.model.reference reads the peer's own state dict and both give the same answer. Left out: the
1-D convolution of the bag classifier (4.3 GB that are never used).
"""

# mypy: disable-error-code="no-any-return, misc, has-type, assignment"
# A transcript of the published modules, whose containers have no types.

import ot
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Norm(nn.Module):
    def __init__(self, width: int, inner: nn.Module) -> None:
        super().__init__()
        self.norm, self.fn = nn.LayerNorm(width), inner

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        return self.fn(self.norm(x), *more)


class Feed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Attend(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj, self.scale = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width), width**-0.5

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.proj((q @ k.transpose(-2, -1) * self.scale).softmax(-1) @ v)


class Transformer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList([Norm(width, Attend(width)), Norm(width, Feed(width))]) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        for attend, feed in self.layers:
            x = x + attend(x)
            x = x + feed(x)
        return x


class Guided(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.rescale = nn.Parameter(torch.ones(1, 1, 1))
        self.proj = nn.Linear(width, width)
        self.pos_emb = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        q, k, v = self.to_q(x), self.to_k(x), self.to_v(x)
        guided = couple(task, v) @ task * v
        q, k = F.normalize(q.transpose(-2, -1), dim=-1), F.normalize(k.transpose(-2, -1), dim=-1)
        weights = (k @ q.transpose(-2, -1) * self.rescale).softmax(-1)
        return self.proj((weights @ guided.transpose(-2, -1)).transpose(-2, -1)) + self.pos_emb(v)


@torch.no_grad()
def couple(task: Tensor, values: Tensor) -> Tensor:
    """Exact plan (1, n, n) of one patient, there and back between the device and the solver."""
    cost = torch.cdist(task[0], values[0], compute_mode="donot_use_mm_for_euclid_dist").square()
    cost = ((cost - cost.mean()) / cost.std()).double().cpu().numpy()
    plan = ot.emd([], [], cost, numItermax=10**6)
    return torch.from_numpy(plan).to(values)[None]


class Stack(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleList([Norm(width, Guided(width)), Norm(width, Feed(width))]) for _ in range(depth)
        )

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        for guided, feed in self.blocks:
            x = x + guided(x, task)
            x = x + feed(x)
        return x


class Encoder(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.cls_AB, self.surv_AB = Transformer(width), Transformer(width)
        self.cls_TGAB, self.surv_TGAB = Stack(width, depth), Stack(width, depth)
        self.fusion = nn.Conv2d(2, 1, 1)

    def forward(self, x: Tensor, cls: Tensor, surv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        cls, surv = self.cls_AB(cls), self.surv_AB(surv)
        cls, surv = self.cls_TGAB(x, cls), self.surv_TGAB(x, surv)
        return self.fusion(torch.stack([cls, surv], 1))[:, 0], cls, surv


class Bottleneck(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.cls_TGAB, self.surv_TGAB = Stack(width, depth), Stack(width, depth)
        self.fusion = nn.Conv2d(2, 1, 1)

    def forward(self, x: Tensor, cls: Tensor, surv: Tensor) -> Tensor:
        return self.fusion(torch.stack([self.cls_TGAB(x, cls), self.surv_TGAB(x, surv)], 1))[:, 0]


class Decoder(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.x_AB = Transformer(width)
        self.cls_TGAB, self.surv_TGAB = Stack(width, depth), Stack(width, depth)
        self.fusion_net, self.fusion_x_cls, self.fusion_x_surv = (nn.Conv2d(2, 1, 1) for _ in range(3))

    def forward(self, x: Tensor, skip: Tensor, cls: Tensor, surv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pair = self.x_AB(torch.stack([x, skip], 1))
        cls = self.cls_TGAB(cls, self.fusion_x_cls(pair)[:, 0])
        surv = self.surv_TGAB(surv, self.fusion_x_surv(pair)[:, 0])
        return self.fusion_net(pair)[:, 0], cls, surv


class Instance(nn.Module):
    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(features, classes))


class Bag(nn.Module):
    def __init__(self, features: int, query: int, width: int) -> None:
        super().__init__()
        self.q = nn.Sequential(nn.Linear(features, query), nn.ReLU(), nn.Linear(query, query), nn.Tanh())
        self.proj = nn.Linear(features, width)


class Patches(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        linear = [nn.Linear(width, width) for _ in range(3)]
        self.cls_proj = nn.Sequential(linear[0], nn.ReLU(), linear[1], nn.ReLU(), linear[2])


class Channels(nn.Module):
    def __init__(self, width: int, critical: int) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.proj_v = nn.Linear(critical, critical, bias=False)
        self.rescale = nn.Parameter(torch.ones(1, 1))
        self.proj = nn.Linear(width, width)
        self.pos_emb = nn.Sequential(
            nn.Linear(width, width, bias=False), nn.GELU(), nn.Linear(width, width, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.to_q(x), self.to_k(x), self.to_v(x)
        v = F.normalize(self.proj_v(v.T).T, dim=-1)
        weights = (F.normalize(k.T, dim=-1) @ F.normalize(q.T, dim=-1).T * self.rescale).softmax(-1)
        return self.proj(v @ weights) + self.pos_emb(v)


class Heads(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.W_q, self.W_k, self.W_v, self.W_o = (nn.Linear(width, width) for _ in range(4))

    def forward(self, g: Tensor, tokens: int) -> Tensor:
        """Attention over a sequence of one: the products with W_q, W_k and W_o are computed and change nothing."""
        q, k, v = (part(g).view(tokens, 1, -1) for part in (self.W_q, self.W_k, self.W_v))
        read = (q @ k.transpose(1, 2)).softmax(-1) @ v
        self.W_o(read.flatten())
        return read[:, 0]


class PeerMCTI(nn.Module):
    """One patient: patches (N, D_in), genes (G,) -> subtype logits (C,), hazard logits (B,)."""

    def __init__(  # noqa: PLR0913  (the nine sizes of the network)
        self, *, features: int, genes: int, classes: int, bins: int, width: int, query: int, critical: int, tokens: int,
        task: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.tokens, self.critical = tokens, critical
        hidden = tokens * width
        for stream in ("cls", "surv", "mix"):
            self.register_parameter(f"task_token_{stream}", nn.Parameter(torch.randn(1, task, width)))
        self.Gene_encode = nn.ModuleList(
            nn.Sequential(nn.Linear(size, hidden), nn.ELU(), nn.AlphaDropout(0.25)) for size in (genes, hidden)
        )
        self.i_classifier, self.b_classifier = Instance(features, classes), Bag(features, query, width)
        self.WSI_encode = Patches(width)
        self.attention_net_wsi = nn.Sequential(nn.Linear(width, width), nn.GELU(), Channels(width, critical))
        self.multi_head = Heads(hidden)
        self.encoder_layers = nn.ModuleList(nn.ModuleList([Encoder(width, depth)]) for depth in (2, 4))
        self.bottleneck = Bottleneck(width, 2)
        self.decoder_leyers = nn.ModuleList(nn.ModuleList([Decoder(width, depth)]) for depth in (2, 4))
        self.cls_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))
        self.surv_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, bins))

    def mine(self, patches: Tensor) -> Tensor:
        """Section 1: all N×K masses at once."""
        scores = self.i_classifier.fc(patches).amax(-1)
        chosen = scores.sort(descending=True).indices[: self.critical]
        q, z = self.b_classifier.q(patches), self.b_classifier.q(patches[chosen])
        masses = F.normalize(F.normalize(q, dim=-1) @ z.T, dim=-1).softmax(-1)
        tokens = F.gelu(self.b_classifier.proj(masses.T @ F.normalize(patches, dim=-1)))
        return self.attention_net_wsi(self.WSI_encode.cls_proj(tokens))

    def join(self, tokens: Tensor, genes: Tensor) -> Tensor:
        """Section 3 with POT's own unbalanced solver."""
        x, y = (rows - rows.amin(1, keepdim=True) for rows in (tokens.detach(), genes.detach()))
        cost = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()
        cost = (cost / cost.max()).double().cpu().numpy()
        plan = ot.unbalanced.sinkhorn_unbalanced([], [], cost, 0.1, 0.5, reg_type="entropy", numItermax=1000)
        return torch.cat([tokens, torch.from_numpy(plan).to(tokens).T @ tokens, genes])

    def forward(self, patches: Tensor, genes: Tensor) -> tuple[Tensor, Tensor]:
        for layer in self.Gene_encode:
            genes = layer(genes)
        joint = self.join(self.mine(patches), self.multi_head(genes, self.tokens))[None]
        cls, surv, x = (
            torch.cat([joint, getattr(self, f"task_token_{stream}")], 1) for stream in ("cls", "surv", "mix")
        )
        skips = []
        for (stage,) in self.encoder_layers:
            x, cls, surv = stage(x, cls, surv)
            skips.append(x)
        x = self.bottleneck(x, cls, surv)
        for (stage,) in self.decoder_leyers:
            x, cls, surv = stage(x, skips.pop(), cls, surv)
        return self.cls_head(cls.mean(1))[0], self.surv_head(surv.mean(1))[0]
