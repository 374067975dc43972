"""Synthetic state dicts of the published reference: random tensors under its key names, at any width."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

LARGE = {"features": 1024, "width": 1024, "query": 128, "critical": 256, "tokens": 8, "task": 240, "hidden": 8192}
SMALL = {"features": 12, "width": 8, "query": 6, "critical": 5, "tokens": 2, "task": 4, "hidden": 10}


@dataclass(frozen=True)
class Sizes:
    """Widths of the reference; see docs/model.md for the symbols."""

    features: int
    width: int
    query: int
    critical: int
    tokens: int
    task: int
    hidden: int
    genes: int = 7
    classes: int = 2
    bins: int = 4


class Layers:
    """The published layers as key -> shape, in the order of the state dict."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes, self.width = sizes, sizes.width
        self.keys: dict[str, tuple[int, ...]] = {}

    def affine(self, name: str, *shape: int, bias: bool = True) -> None:
        self.keys[f"{name}.weight"] = shape
        if bias:
            self.keys[f"{name}.bias"] = shape[:1]

    def square(self, name: str, *, bias: bool = True) -> None:
        self.affine(name, self.width, self.width, bias=bias)

    def norm(self, name: str) -> None:
        self.keys[f"{name}.weight"] = self.keys[f"{name}.bias"] = (self.width,)

    def mlp(self, name: str) -> None:
        self.norm(f"{name}.norm")
        self.square(f"{name}.fn.net.0")
        self.square(f"{name}.fn.net.2")

    def attention(self, name: str) -> None:
        for layer in range(2):
            head = f"{name}.layers.{layer}"
            self.norm(f"{head}.0.norm")
            self.affine(f"{head}.0.fn.qkv", 3 * self.width, self.width, bias=False)
            self.square(f"{head}.0.fn.proj")
            self.mlp(f"{head}.1")

    def guided(self, name: str, depth: int) -> None:
        for block in range(depth):
            head = f"{name}.blocks.{block}"
            self.norm(f"{head}.0.norm")
            self.keys[f"{head}.0.fn.rescale"] = (1, 1, 1)
            for part in ("to_q", "to_k", "to_v"):
                self.square(f"{head}.0.fn.{part}", bias=False)
            for part in ("proj", "pos_emb.0", "pos_emb.2"):
                self.square(f"{head}.0.fn.{part}")
            self.mlp(f"{head}.1")

    def fusion(self, name: str) -> None:
        self.keys[f"{name}.weight"], self.keys[f"{name}.bias"] = (1, 2, 1, 1), (1,)

    def inputs(self) -> None:
        size = self.sizes
        for stream in ("cls", "surv", "mix"):
            self.keys[f"task_token_{stream}"] = (1, size.task, size.width)
        self.keys["gene_bias"] = (size.critical, size.width)
        self.affine("Gene_encode.0.0", size.hidden, size.genes)
        self.affine("Gene_encode.1.0", size.hidden, size.hidden)

    def pathology(self) -> None:
        size, d = self.sizes, self.width
        for owner in ("", "WSI_encode."):
            self.affine(f"{owner}i_classifier.fc.0", size.classes, size.features)
            self.affine(f"{owner}b_classifier.q.0", size.query, size.features)
            self.affine(f"{owner}b_classifier.q.2", size.query, size.query)
            self.keys[f"{owner}b_classifier.fcc.weight"], self.keys[f"{owner}b_classifier.fcc.bias"] = (d, d, d), (d,)
            self.affine(f"{owner}b_classifier.proj", d, size.features)
        for layer in (0, 2, 4):
            self.square(f"WSI_encode.cls_proj.{layer}")
        self.square("attention_net_wsi.0")
        for part in ("to_q", "to_k", "to_v", "pos_emb.0", "pos_emb.2"):
            self.square(f"attention_net_wsi.2.{part}", bias=False)
        self.square("attention_net_wsi.2.proj")
        self.affine("attention_net_wsi.2.proj_v", size.critical, size.critical, bias=False)
        self.keys["attention_net_wsi.2.rescale"] = (1, 1)

    def stage(self, stage: int, depth: int) -> None:
        name = f"encoder_layers.{stage}.0"
        for stream in ("cls", "surv"):
            self.attention(f"{name}.{stream}_AB")
            self.guided(f"{name}.{stream}_TGAB", depth)
        self.fusion(f"{name}.fusion")
        name = f"decoder_leyers.{stage}.0"
        self.attention(f"{name}.x_AB")
        for stream in ("cls", "surv"):
            self.guided(f"{name}.{stream}_TGAB", depth)
        for mix in ("cls", "surv", "net", "x_cls", "x_surv"):
            self.fusion(f"{name}.fusion_{mix}")

    def outputs(self) -> None:
        size = self.sizes
        for stream in ("cls", "surv"):
            self.guided(f"bottleneck.{stream}_TGAB", 2)
        self.fusion("bottleneck.fusion")
        for stream, count in (("cls", size.classes), ("surv", size.bins)):
            self.norm(f"{stream}_head.0")
            self.affine(f"{stream}_head.1", count, self.width)
        for part in ("W_q", "W_k", "W_o"):
            self.affine(f"multi_head.{part}", size.hidden, size.hidden)
        self.affine("multi_head.W_v", size.tokens * self.width, size.hidden)


def shapes(**sizes: int) -> dict[str, tuple[int, ...]]:
    """Every key with its shape (docs/model.md, "Reference checkpoints"); sizes are fields of `Sizes`."""
    layers = Layers(Sizes(**sizes))
    layers.inputs()
    layers.pathology()
    for stage, depth in enumerate((2, 4)):
        layers.stage(stage, depth)
    layers.outputs()
    return layers.keys


def state(seed: int = 0, **sizes: int) -> dict[str, Tensor]:
    """Random tensors under the reference's names; aliases share theirs, the largest unused tensor takes no memory."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for key, shape in shapes(**{**SMALL, **sizes}).items():
        first = key.removeprefix("WSI_encode.")
        if first in tensors:
            tensors[key] = tensors[first]
        elif "fcc" in key:
            tensors[key] = torch.zeros(1).expand(shape)
        else:
            tensors[key] = _random(key, shape, generator)
    return tensors


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
            listed = re.findall(r"\(([\d, ]+)\)", cells[2])
            rows.append((cells[0], int(cells[1]), [tuple(int(n) for n in f.split(",") if n.strip()) for f in listed]))
    return rows
