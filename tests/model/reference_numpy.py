"""The maths page (docs/model.md, sections 1 to 6) written out for one patient, in NumPy float64, slow and plain.

Reads a reference-shaped state dict by its own key names and shares no code with mcti/model: the oracle of its tests.
Couplings are solved by scipy's assignment; the generalised Sinkhorn is the two-line iteration of section 3.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import erf, expit

Array = np.ndarray


@dataclass
class Answer:
    critical: list[int]
    tokens: Array  # (n, D) of the mix stream before the U-Net
    plan: Array  # (K, T)
    subtype_logits: Array
    hazard_logits: Array
    survival: Array
    risk: float


class Weights:
    """Arrays of a state dict by key; `below` steps into a prefix."""

    def __init__(self, state: Mapping[str, Array], prefix: str = "") -> None:
        self.state, self.prefix = state, prefix

    def below(self, name: str) -> "Weights":
        return Weights(self.state, f"{self.prefix}{name}.")

    def __getitem__(self, name: str) -> Array:
        return np.asarray(self.state[self.prefix + name], dtype=np.float64)

    def has(self, name: str) -> bool:
        return any(key.startswith(f"{self.prefix}{name}.") for key in self.state)

    def linear(self, name: str, x: Array, *, bias: bool = True) -> Array:
        out = x @ self[f"{name}.weight"].T
        return out + self[f"{name}.bias"] if bias else out

    def norm(self, name: str, x: Array) -> Array:
        return layer_norm(x) * self[f"{name}.weight"] + self[f"{name}.bias"]


def gelu(x: Array) -> Array:
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def unit_rows(x: Array) -> Array:
    return x / np.maximum(np.sqrt((x**2).sum(-1, keepdims=True)), 1e-12)


def layer_norm(x: Array) -> Array:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def squared_distances(x: Array, y: Array) -> Array:
    out = np.zeros((len(x), len(y)))
    for i, row in enumerate(x):
        for j, other in enumerate(y):
            out[i, j] = ((row - other) ** 2).sum()
    return out


def patch_channel_attention(w: Weights, p: Array) -> Array:
    """Section 1, step 6, after its first Linear and gelu."""
    q, k, v = (w.linear(f"to_{name}", p, bias=False) for name in "qkv")
    v = unit_rows((v.T @ w["proj_v.weight"].T).T)
    a = softmax(float(w["rescale"].ravel()[0]) * unit_rows(k.T) @ unit_rows(q.T).T)
    local = w.linear("pos_emb.2", gelu(w.linear("pos_emb.0", v, bias=False)), bias=False)
    return w.linear("proj", v @ a) + local


def pathology(w: Weights, x: Array) -> tuple[Array, list[int]]:
    """Section 1: X (N, D_in) -> P (K, D) and the critical rows."""
    scores = w.linear("i_classifier.fc.0", x).max(1)
    kept = len(w["attention_net_wsi.2.proj_v.weight"])
    critical = [int(row) for row in np.argsort(-scores, kind="stable")[:kept]]

    def phi(rows: Array) -> Array:
        return np.tanh(w.linear("b_classifier.q.2", np.maximum(w.linear("b_classifier.q.0", rows), 0)))

    a = softmax(unit_rows(unit_rows(phi(x)) @ phi(x[critical]).T))  # (N, K)
    p = gelu(w.linear("b_classifier.proj", a.T @ unit_rows(x)))
    p = np.maximum(w.linear("WSI_encode.cls_proj.0", p), 0)
    p = np.maximum(w.linear("WSI_encode.cls_proj.2", p), 0)
    p = w.linear("WSI_encode.cls_proj.4", p)
    p = gelu(w.linear("attention_net_wsi.0", p))
    return patch_channel_attention(w.below("attention_net_wsi.2"), p), critical


def genomics(w: Weights, g: Array, width: int) -> Array:
    """Section 2, preset paper, without dropout: g (G,) -> (T, D)."""
    for layer in ("Gene_encode.0.0", "Gene_encode.1.0"):
        g = w.linear(layer, g)
        g = np.where(g > 0, g, np.exp(np.minimum(g, 0)) - 1)
    return w.linear("multi_head.W_v", g).reshape(-1, width)


def unbalanced_plan(
    p: Array, genes: Array, entropy: float = 0.1, marginal: float = 0.5, measure: str = "entropy"
) -> Array:
    """Section 3: generalised Sinkhorn, iterated to convergence."""
    cost = squared_distances(p - p.min(1, keepdims=True), genes - genes.min(1, keepdims=True))
    cost = cost / cost.max()
    k, t = cost.shape
    a, b, power = np.full(k, 1 / k), np.full(t, 1 / t), marginal / (marginal + entropy)
    kernel = np.exp(-cost / entropy) * (1.0 if measure == "entropy" else np.outer(a, b))
    u, v = np.ones(k), np.ones(t)
    for _ in range(1000):
        u = (a / (kernel @ v)) ** power
        v = (b / (kernel.T @ u)) ** power
    return u[:, None] * kernel * v[None]


def guided_attention(w: Weights, x: Array, t: Array) -> Array:
    """Section 4: TGA(x, t)."""
    n = len(x)
    q, k, v = (w.linear(f"to_{name}", x, bias=False) for name in "qkv")
    m = squared_distances(t, v)
    rows, columns = linear_sum_assignment((m - m.mean()) / m.std())
    plan = np.zeros((n, n))
    plan[rows, columns] = 1 / n
    guided = (plan @ t) * v
    a = softmax(float(w["rescale"].ravel()[0]) * unit_rows(k.T) @ unit_rows(q.T).T)
    return w.linear("proj", (a @ guided.T).T) + w.linear("pos_emb.2", gelu(w.linear("pos_emb.0", v)))


def mlp(w: Weights, x: Array) -> Array:
    return w.linear("fn.net.2", gelu(w.linear("fn.net.0", w.norm("norm", x))))


def guided_stack(w: Weights, x: Array, t: Array) -> Array:
    block = 0
    while w.has(f"blocks.{block}"):
        head = w.below(f"blocks.{block}.0")
        x = x + guided_attention(head.below("fn"), head.norm("norm", x), t)
        x = x + mlp(w.below(f"blocks.{block}.1"), x)
        block += 1
    return x


def self_attention(w: Weights, x: Array) -> Array:
    layer, width = 0, x.shape[1]
    while w.has(f"layers.{layer}"):
        head = w.below(f"layers.{layer}.0")
        q, k, v = np.split(head.linear("fn.qkv", head.norm("norm", x), bias=False), 3, axis=1)
        x = x + head.linear("fn.proj", softmax(q @ k.T * width**-0.5) @ v)
        x = x + mlp(w.below(f"layers.{layer}.1"), x)
        layer += 1
    return x


def mix(w: Weights, name: str, first: Array, second: Array) -> Array:
    weight = w[f"{name}.weight"].ravel()
    return weight[0] * first + weight[1] * second + float(w[f"{name}.bias"].ravel()[0])


def unet(w: Weights, x: Array, cls: Array, surv: Array) -> tuple[Array, Array]:
    """Section 5."""
    skips, stages = [], 0
    while w.has(f"encoder_layers.{stages}"):
        stage = w.below(f"encoder_layers.{stages}.0")
        cls, surv = self_attention(stage.below("cls_AB"), cls), self_attention(stage.below("surv_AB"), surv)
        cls, surv = guided_stack(stage.below("cls_TGAB"), x, cls), guided_stack(stage.below("surv_TGAB"), x, surv)
        x = mix(stage, "fusion", cls, surv)
        skips.append(x)
        stages += 1
    middle = w.below("bottleneck")
    x_cls, x_surv = guided_stack(middle.below("cls_TGAB"), x, cls), guided_stack(middle.below("surv_TGAB"), x, surv)
    x = mix(middle, "fusion", x_cls, x_surv)
    for number in range(stages):
        stage = w.below(f"decoder_leyers.{number}.0")
        pair = [self_attention(stage.below("x_AB"), one) for one in (x, skips[stages - 1 - number])]
        cls = guided_stack(stage.below("cls_TGAB"), cls, mix(stage, "fusion_x_cls", *pair))
        surv = guided_stack(stage.below("surv_TGAB"), surv, mix(stage, "fusion_x_surv", *pair))
        x = mix(stage, "fusion_net", *pair)
    return cls, surv


def forward(state: Mapping[str, Array], patches: Array, genes: Array, measure: str = "entropy") -> Answer:
    """The whole network for one patient: patches (N, D_in) with N >= K, genes (G,)."""
    w = Weights(state)
    p, critical = pathology(w, np.asarray(patches, np.float64))
    tokens = genomics(w, np.asarray(genes, np.float64), p.shape[1])
    plan = unbalanced_plan(p, tokens, measure=measure)
    joint = np.concatenate([p, plan.T @ p, tokens])
    cls, surv, x = (np.concatenate([joint, w[f"task_token_{name}"][0]]) for name in ("cls", "surv", "mix"))
    out_cls, out_surv = unet(w, x, cls, surv)
    heads = [
        w.linear(f"{name}_head.1", w.norm(f"{name}_head.0", stream.mean(0)))
        for name, stream in (("cls", out_cls), ("surv", out_surv))
    ]
    survival = np.cumprod(1 - expit(heads[1]))
    return Answer(critical, x, plan, heads[0], heads[1], survival, -float(survival.sum()))
