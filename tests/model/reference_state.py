"""A test double of the published reference: random tensors under its very key names, at any width."""

import re
from pathlib import Path

import torch
from torch import Tensor

LARGE = {"features": 1024, "width": 1024, "query": 128, "critical": 256, "tokens": 8, "task": 240, "hidden": 8192}
SMALL = {"features": 12, "width": 8, "query": 6, "critical": 5, "tokens": 2, "task": 4, "hidden": 10}


def shapes(  # noqa: C901, PLR0913  (a transcript of the published layers)
    *, features: int, width: int, query: int, critical: int, tokens: int, task: int, hidden: int,
    genes: int = 7, classes: int = 2, bins: int = 4,
) -> dict[str, tuple[int, ...]]:  # fmt: skip
    """Every key with its shape (docs/model.md, "Reference checkpoints")."""
    d, out = width, {}

    def affine(name: str, *shape: int, bias: bool = True) -> None:
        out[f"{name}.weight"] = shape
        if bias:
            out[f"{name}.bias"] = shape[:1]

    def norm(name: str) -> None:
        out[f"{name}.weight"] = out[f"{name}.bias"] = (d,)

    def mlp(name: str) -> None:
        norm(f"{name}.norm")
        affine(f"{name}.fn.net.0", d, d)
        affine(f"{name}.fn.net.2", d, d)

    def attention(name: str) -> None:
        for layer in range(2):
            head = f"{name}.layers.{layer}"
            norm(f"{head}.0.norm")
            affine(f"{head}.0.fn.qkv", 3 * d, d, bias=False)
            affine(f"{head}.0.fn.proj", d, d)
            mlp(f"{head}.1")

    def guided(name: str, depth: int) -> None:
        for block in range(depth):
            head = f"{name}.blocks.{block}"
            norm(f"{head}.0.norm")
            out[f"{head}.0.fn.rescale"] = (1, 1, 1)
            for part in ("to_q", "to_k", "to_v"):
                affine(f"{head}.0.fn.{part}", d, d, bias=False)
            for part in ("proj", "pos_emb.0", "pos_emb.2"):
                affine(f"{head}.0.fn.{part}", d, d)
            mlp(f"{head}.1")

    def fusion(name: str) -> None:
        out[f"{name}.weight"], out[f"{name}.bias"] = (1, 2, 1, 1), (1,)

    for stream in ("cls", "surv", "mix"):
        out[f"task_token_{stream}"] = (1, task, d)
    out["gene_bias"] = (critical, d)
    affine("Gene_encode.0.0", hidden, genes)
    affine("Gene_encode.1.0", hidden, hidden)
    for owner in ("", "WSI_encode."):
        affine(f"{owner}i_classifier.fc.0", classes, features)
        affine(f"{owner}b_classifier.q.0", query, features)
        affine(f"{owner}b_classifier.q.2", query, query)
        out[f"{owner}b_classifier.fcc.weight"], out[f"{owner}b_classifier.fcc.bias"] = (d, d, d), (d,)
        affine(f"{owner}b_classifier.proj", d, features)
    for layer in (0, 2, 4):
        affine(f"WSI_encode.cls_proj.{layer}", d, d)
    affine("attention_net_wsi.0", d, d)
    for part in ("to_q", "to_k", "to_v", "pos_emb.0", "pos_emb.2"):
        affine(f"attention_net_wsi.2.{part}", d, d, bias=False)
    affine("attention_net_wsi.2.proj", d, d)
    affine("attention_net_wsi.2.proj_v", critical, critical, bias=False)
    out["attention_net_wsi.2.rescale"] = (1, 1)
    for stage, depth in enumerate((2, 4)):
        name = f"encoder_layers.{stage}.0"
        for stream in ("cls", "surv"):
            attention(f"{name}.{stream}_AB")
            guided(f"{name}.{stream}_TGAB", depth)
        fusion(f"{name}.fusion")
        name = f"decoder_leyers.{stage}.0"
        attention(f"{name}.x_AB")
        for stream in ("cls", "surv"):
            guided(f"{name}.{stream}_TGAB", depth)
        for mix in ("cls", "surv", "net", "x_cls", "x_surv"):
            fusion(f"{name}.fusion_{mix}")
    for stream in ("cls", "surv"):
        guided(f"bottleneck.{stream}_TGAB", 2)
    fusion("bottleneck.fusion")
    for stream, count in (("cls", classes), ("surv", bins)):
        norm(f"{stream}_head.0")
        affine(f"{stream}_head.1", count, d)
    for part in ("W_q", "W_k", "W_o"):
        affine(f"multi_head.{part}", hidden, hidden)
    affine("multi_head.W_v", tokens * d, hidden)
    return out


def state(seed: int = 0, **sizes: int) -> dict[str, Tensor]:
    """Random tensors under the reference's names; second names share theirs, the largest dead one takes no room."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, Tensor] = {}
    for key, shape in shapes(**{**SMALL, **sizes}).items():
        first = key.removeprefix("WSI_encode.")
        if first in found:
            found[key] = found[first]
        elif "fcc" in key:
            found[key] = torch.zeros(1).expand(shape)
        else:
            found[key] = _random(key, shape, generator)
    return found


def _random(key: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    noise = torch.randn(shape, generator=generator)
    if re.search(r"(norm|_head\.0)\.weight$|rescale$", key):
        return 1 + 0.1 * noise
    if key.startswith("task_token"):
        return noise
    return noise / max(shape[-1], 2) ** 0.5 if len(shape) == 2 else 0.3 * noise


def documented_patterns(page: Path) -> list[tuple[str, int, list[tuple[int, ...]]]]:
    """Rows (pattern, times, shapes) of the table "Every pattern" of the key list."""
    rows = []
    for line in page.read_text(encoding="utf-8").split("## Every pattern")[1].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[1].isdecimal():
            found = re.findall(r"\(([\d, ]+)\)", cells[2])
            rows.append((cells[0], int(cells[1]), [tuple(int(n) for n in f.split(",") if n.strip()) for f in found]))
    return rows
