"""Keys of the published reference for each tensor of preset `paper`, and the keys that are unused.

In a key each index is replaced by its rank among its siblings (mcti/model/reference.py).
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence

from mcti.model.presets import ModelConfig, preset

TensorSources = dict[str, tuple[str, ...]]
"""Tensor of preset `paper` -> reference keys, stacked along a first axis or along the rows."""

UNUSED = {
    r"b_classifier\.fcc\.": "the 1-D convolution of the bag classifier is never part of an output",
    r"multi_head\.W_[qk]\.": "softmax over a sequence of length one is 1 for any queries and keys",
    r"multi_head\.W_o\.": "the value projection is reshaped to tokens before the output projection",
    r"gene_bias$": "never added",
}
# Of the five mixes of a decoder stage, `fusion_net` computes x and two of the other four guide the streams. The names
# do not determine which two, see docs/model.md.
GUIDES = {"fusion_x": ("fusion_x_cls", "fusion_x_surv"), "fusion": ("fusion_cls", "fusion_surv")}
IDLE_MIX = "two mixes guide the streams of a stage and one computes x; this mix has neither role"
LAST_MIX = "x after the last decoder stage is not an input of any layer"


def tensor_sources(config: ModelConfig, guides: str) -> TensorSources:
    """Tensors of preset `paper` and the reference keys (indices as ranks) of their values, in order."""
    return dict(itertools.chain(_fixed(), _genes(), _unet(config, guides)))


def _fixed() -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "task_tokens", tuple(f"task_token_{stream}" for stream in ("cls", "surv", "mix"))
    attention, ours = "attention_net_wsi.1", "pathology.attention"
    for name, key in (("to_q", "to_q"), ("to_k", "to_k"), ("to_v", "to_v"), ("mix", "proj_v")):
        yield f"{ours}.{name}.weight", (f"{attention}.{key}.weight",)
    yield f"{ours}.scale", (f"{attention}.rescale",)
    yield f"{ours}.local.0.weight", (f"{attention}.pos_emb.0.weight",)
    yield f"{ours}.local.2.weight", (f"{attention}.pos_emb.1.weight",)
    for name, key in (
        ("pathology.instance", "i_classifier.fc.0"),
        ("pathology.query.first", "b_classifier.q.0"),
        ("pathology.query.second", "b_classifier.q.1"),
        ("pathology.project.0", "b_classifier.proj"),
        *((f"pathology.project.{2 + 2 * layer}", f"WSI_encode.cls_proj.{layer}") for layer in range(3)),
        ("pathology.refine.0", "attention_net_wsi.0"),
        (f"{ours}.out", f"{attention}.proj"),
        ("subtype_head.norm", "cls_head.0"),
        ("subtype_head.out", "cls_head.1"),
        ("survival_head.norm", "surv_head.0"),
        ("survival_head.out", "surv_head.1"),
    ):
        yield from _affine(name, (key,))


def _genes() -> Iterator[tuple[str, tuple[str, ...]]]:
    yield from _affine("genomics.hidden.0.0", ("Gene_encode.0.0",))
    yield from _affine("genomics.hidden.1.0", ("Gene_encode.1.0",))
    yield from _affine("genomics.value", ("multi_head.W_v",))


def _unet(config: ModelConfig, guides: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for stage, depth in enumerate(config.encoder_depths):
        ours, theirs = f"unet.encoder.{stage}", f"encoder_layers.{stage}.0"
        both = (f"{theirs}.cls_AB", f"{theirs}.surv_AB")
        yield from _attention(f"{ours}.attention", both, config.attention_depth)
        yield from _guided(f"{ours}.guided", theirs, depth)
        yield from _affine(f"{ours}.mix", (f"{theirs}.fusion",))
    yield from _guided("unet.bottleneck.guided", "bottleneck", config.bottleneck_depth)
    yield from _affine("unet.bottleneck.mix", ("bottleneck.fusion",))
    for stage, depth in enumerate(config.decoder_depths):
        ours, theirs = f"unet.decoder.{stage}", f"decoder_leyers.{stage}.0"
        yield from _attention(f"{ours}.attention", (f"{theirs}.x_AB",), config.attention_depth)
        yield from _guided(f"{ours}.guided", theirs, depth)
        yield from _affine(f"{ours}.guides", [f"{theirs}.{mix}" for mix in GUIDES[guides]])
        if stage < len(config.decoder_depths) - 1:
            yield from _affine(f"{ours}.mix", (f"{theirs}.fusion_net",))


def _attention(ours: str, streams: Sequence[str], depth: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    for layer in range(depth):
        name, heads = f"{ours}.layers.{layer}", [f"{stream}.layers.{layer}.0" for stream in streams]
        yield from _affine(f"{name}.norm", [f"{head}.norm" for head in heads])
        yield f"{name}.qkv.weight", tuple(f"{head}.fn.qkv.weight" for head in heads)
        yield from _affine(f"{name}.out", [f"{head}.fn.proj" for head in heads])
        yield from _mlp(name, [f"{stream}.layers.{layer}.1" for stream in streams])


def _guided(ours: str, theirs: str, depth: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    for block in range(depth):
        name = f"{ours}.blocks.{block}"
        streams = [f"{theirs}.{stream}_TGAB.blocks.{block}" for stream in ("cls", "surv")]
        heads = [f"{stream}.0" for stream in streams]
        yield from _affine(f"{name}.norm", [f"{head}.norm" for head in heads])
        joint = tuple(f"{head}.fn.{part}.weight" for head in heads for part in ("to_q", "to_k", "to_v"))
        yield f"{name}.attention.to_qkv.weight", joint
        yield f"{name}.attention.scale", tuple(f"{head}.fn.rescale" for head in heads)
        yield from _affine(f"{name}.attention.out", [f"{head}.fn.proj" for head in heads])
        yield from _affine(f"{name}.attention.local.first", [f"{head}.fn.pos_emb.0" for head in heads])
        yield from _affine(f"{name}.attention.local.second", [f"{head}.fn.pos_emb.1" for head in heads])
        yield from _mlp(name, [f"{stream}.1" for stream in streams])


def _mlp(name: str, parts: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield from _affine(f"{name}.mlp_norm", [f"{part}.norm" for part in parts])
    yield from _affine(f"{name}.mlp.first", [f"{part}.fn.net.0" for part in parts])
    yield from _affine(f"{name}.mlp.second", [f"{part}.fn.net.1" for part in parts])


def _affine(name: str, keys: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for part in ("weight", "bias"):
        yield f"{name}.{part}", tuple(f"{key}.{part}" for key in keys)


def aliases(keys: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Keys that repeat the tensor of another key, each with the key that it repeats."""
    for key in keys:
        first = key.removeprefix("WSI_encode.")
        if key != first and re.match(r"[ib]_classifier\.", first) and first in keys:
            yield key, first


def unused_reason(key: str, config: ModelConfig, guides: str) -> str:
    """Reason why a key that fills no tensor has no influence on any output; empty for an unknown key."""
    last = len(config.decoder_depths) - 1
    if key.startswith(f"decoder_leyers.{last}.0.fusion_net."):
        return LAST_MIX
    idle = [mix for name, mixes in GUIDES.items() if name != guides for mix in mixes]
    if key.rpartition(".")[0] in {f"decoder_leyers.{stage}.0.{mix}" for stage in range(last + 1) for mix in idle}:
        return IDLE_MIX
    return next((reason for pattern, reason in UNUSED.items() if re.match(pattern, key)), "")


def unused_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The keys that are unused with one of the GUIDES at least, and their shapes."""
    width, hidden = config.width, config.gene_width
    shapes: dict[str, tuple[int, ...]] = {"gene_bias": (config.critical, width)}
    shapes |= {"b_classifier.fcc.weight": (width, width, width), "b_classifier.fcc.bias": (width,)}
    for name in "qko":
        shapes |= {f"multi_head.W_{name}.weight": (hidden, hidden), f"multi_head.W_{name}.bias": (hidden,)}
    for stage in range(len(config.decoder_depths)):
        for mix in ("net", "cls", "surv", "x_cls", "x_surv"):
            key = f"decoder_leyers.{stage}.0.fusion_{mix}"
            shapes |= {f"{key}.weight": (1, 2, 1, 1), f"{key}.bias": (1,)}
    return shapes


def pattern(key: str) -> str:
    """The key with # for each index."""
    return re.sub(r"\.\d+(?=\.|$)", ".#", key)


def patterns() -> set[str]:
    """All key patterns of the reference, indices as #."""
    shallow = preset("paper", features=1, genes=["-"], classes=["-"], bins=1)
    known = {key for guides in GUIDES for parts in tensor_sources(shallow, guides).values() for key in parts}
    known |= {f"WSI_encode.{key}" for key in known if re.match(r"[ib]_classifier\.", key)}
    pairs = ("weight", "bias")
    known |= {f"{owner}b_classifier.fcc.{part}" for owner in ("", "WSI_encode.") for part in pairs}
    known |= {f"multi_head.W_{name}.{part}" for name in "qko" for part in pairs} | {"gene_bias"}
    return {pattern(key) for key in known}
