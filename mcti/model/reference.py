"""Read a state dict of the published reference into preset `paper`: every key used, a second name, or dead and why.

Every width, depth and token count is taken from the shapes. Docs: docs/model.md, "Reference checkpoints".
"""

import itertools
import json
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mcti import storage
from mcti.errors import DataError, did_you_mean
from mcti.model.presets import ModelConfig, preset
from mcti.storage import Location

Places = dict[str, tuple[str, ...]]  # our tensor -> reference keys, stacked along a first axis or along the rows

DEAD = {
    r"b_classifier\.fcc\.": "the 1-D convolution of the bag classifier is never part of an output",
    r"multi_head\.W_[qk]\.": "softmax over a sequence of one is 1, whatever queries and keys are",
    r"multi_head\.W_o\.": "the value projection is reshaped to tokens before the output projection",
    r"gene_bias$": "never added",
    r"decoder_leyers\.\d+\.0\.fusion_(cls|surv)\.": "mixes of a stage whose streams have no skip: never applied",
}
LAST_MIX = "x after the last decoder stage feeds nothing"
_MEND = "give the state dict of the published reference model, saved by torch.save"


@dataclass(frozen=True)
class Conversion:
    """A reference state dict in our names.

    config   preset `paper` with the widths of the checkpoint
    weights  our name -> tensor, loadable with strict=True
    used     reference key -> our name
    second   second name -> the key it repeats
    dead     reference key -> why it never influences an output
    """

    config: ModelConfig
    weights: dict[str, Tensor]
    used: dict[str, str]
    second: dict[str, str]
    dead: dict[str, str]

    def report(self, state: Mapping[str, Tensor]) -> dict[str, Any]:
        """What became of every key and how many parameters live, as JSON values."""
        return {
            "used": self.used,
            "second_names": self.second,
            "dead": self.dead,
            "live_parameters": sum(state[key].numel() for key in self.used),
            "dead_parameters": sum(state[key].numel() for key in self.dead),
        }


def convert(
    checkpoint: Location, out: Location, *, genes: Sequence[str] | None = None, classes: Sequence[str] | None = None
) -> Conversion:
    """Write weights.safetensors, model.json and conversion.json into `out`, whole or not at all.

    checkpoint: path or s3:// address of the reference's state dict. It carries no names: genes and classes in its order
    may be given, else they are numbered (gene_0001, class_1).

    Raises DataError on a file that is no plain state dict (nothing in it is executed), on foreign or missing keys, on a
    shape that does not fit and on names that are too many or too few.
    """
    from safetensors.torch import save_file

    with storage.local(checkpoint) as path:
        state = read_state(path)
        found = translate(state, genes=genes, classes=classes, where=str(checkpoint))
        with storage.replacing(out) as draft:
            draft.mkdir()
            save_file(
                {name: tensor.contiguous() for name, tensor in found.weights.items()}, draft / "weights.safetensors"
            )
            storage.write_json(draft / "model.json", {"config": json.loads(found.config.to_json())})
            storage.write_json(draft / "conversion.json", found.report(state))
    return found


def read_state(path: Location) -> dict[str, Tensor]:
    """The tensors of a file that torch.save wrote, mapped rather than read where the format allows; never executed.

    Raises DataError on anything but a flat mapping of names to tensors.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        first = str(error).strip().splitlines()[0][:120]
        raise DataError(f"more than tensors, or no checkpoint at all ({first})", str(path), _MEND) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise DataError(f"not a readable checkpoint ({type(error).__name__})", str(path), _MEND) from error
    if not isinstance(state, Mapping) or not state:
        raise DataError(f"a {type(state).__name__}, not a state dict", str(path), _MEND)
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise DataError(f"entry {key!r} is a {type(value).__name__}, not a tensor", str(path), _MEND)
    return dict(state)


def translate(
    state: Mapping[str, Tensor],
    *,
    genes: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    where: str = "the checkpoint",
) -> Conversion:
    """The state dict in our names; see `convert` for arguments and errors."""
    from mcti.model.network import MCTI

    keys = _ranked(state)
    _refuse_foreign(keys, where)
    config = _config(state, keys, genes, classes, where)
    with torch.device("meta"):
        wanted = {name: tensor.shape for name, tensor in MCTI(config).state_dict().items()}
    places = _places(config)
    assert places.keys() == wanted.keys(), sorted(places.keys() ^ wanted.keys())
    weights = {name: _gather(state, keys, places[name], wanted[name], where) for name in wanted}
    used = {keys[part]: name for name, parts in places.items() for part in parts}
    second = {keys[key]: keys[first] for key, first in _second_names(keys)}
    _check_second(state, second, where)
    dead = {
        full: _dead(short, full, config, where)
        for short, full in keys.items()
        if full not in used and full not in second
    }
    return Conversion(config, weights, used, second, dead)


def _ranked(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Key with its indices replaced by their rank among their siblings -> key as it stands.

    An activation or a dropout without parameters in a Sequential shifts indices; ranks do not move.
    """
    siblings: dict[tuple[str, ...], set[int]] = {}
    for key in state:
        parts = key.split(".")
        for place, part in enumerate(parts):
            if part.isdecimal():
                siblings.setdefault(tuple(parts[:place]), set()).add(int(part))
    ranks = {parent: {index: rank for rank, index in enumerate(sorted(found))} for parent, found in siblings.items()}

    def short(key: str) -> str:
        parts = key.split(".")
        return ".".join(
            str(ranks[tuple(parts[:place])][int(part)]) if part.isdecimal() else part
            for place, part in enumerate(parts)
        )

    return {short(key): key for key in state}


def _config(
    state: Mapping[str, Tensor],
    keys: Mapping[str, str],
    genes: Sequence[str] | None,
    classes: Sequence[str] | None,
    where: str,
) -> ModelConfig:
    """Preset `paper` with every size read off the shapes."""

    def size(short: str, axis: int) -> int:
        tensor = state[_known(keys, short, where)]
        if tensor.dim() <= axis:
            raise DataError(f"{keys[short]} has shape {tuple(tensor.shape)}", where, _MEND)
        return tensor.shape[axis]

    def count(pattern: str) -> int:
        return len({found[1] for key in keys if (found := re.match(pattern, key))})

    width = size("b_classifier.proj.weight", 0)
    stages = count(r"encoder_layers\.(\d+)\.")
    depths = {
        part: tuple(count(rf"{part}\.{stage}\.0\.cls_TGAB\.blocks\.(\d+)\.") for stage in range(stages))
        for part in ("encoder_layers", "decoder_leyers")
    }
    return preset(
        "paper",
        features=size("i_classifier.fc.0.weight", 1),
        genes=_names("gene", size("Gene_encode.0.0.weight", 1), genes, where),
        classes=_names("class", size("i_classifier.fc.0.weight", 0), classes, where),
        bins=size("surv_head.1.weight", 0),
        width=width,
        query=size("b_classifier.q.0.weight", 0),
        critical=size("attention_net_wsi.1.proj_v.weight", 0),
        tokens=size("multi_head.W_v.weight", 0) // width,
        task_tokens=size("task_token_cls", 1),
        gene_width=size("Gene_encode.0.0.weight", 0),
        encoder_depths=depths["encoder_layers"],
        bottleneck_depth=count(r"bottleneck\.cls_TGAB\.blocks\.(\d+)\."),
        decoder_depths=depths["decoder_leyers"],
        attention_depth=count(r"encoder_layers\.0\.0\.cls_AB\.layers\.(\d+)\."),
    )


def _names(what: str, count: int, given: Sequence[str] | None, where: str) -> list[str]:
    if given is None:
        digits = len(str(count))
        return [f"{what}_{number:0{digits}d}" for number in range(1, count + 1)]
    if len(given) != count:
        raise DataError(
            f"{count} inputs or outputs of kind {what}, but {len(given)} names", where, "give them all, in order"
        )
    return list(given)


def _gather(
    state: Mapping[str, Tensor], keys: Mapping[str, str], parts: Sequence[str], shape: torch.Size, where: str
) -> Tensor:
    """Our tensor from its parts: their elements in order must fill our shape, each part with its own share."""
    tensors = [state[_known(keys, part, where)] for part in parts]
    expected = _part_shape(shape, len(parts))
    for part, tensor in zip(parts, tensors, strict=True):
        squeezed = tuple(length for length in tensor.shape if length != 1)
        if squeezed != tuple(length for length in expected if length != 1):
            raise DataError(f"{keys[part]} has shape {tuple(tensor.shape)}", where, f"expected {tuple(expected)}")
        if tensor.is_meta or not tensor.is_floating_point():
            raise DataError(f"{keys[part]} holds no real numbers", where, _MEND)
    return torch.stack([tensor.float().reshape(expected) for tensor in tensors]).reshape(shape)


def _part_shape(shape: torch.Size, parts: int) -> tuple[int, ...]:
    """Shape of one of the parts that fill `shape` one after the other."""
    rest, lead = parts, []
    for length in shape:
        shared = min(rest, length) if rest > 1 else 1
        lead.append(length // shared)
        rest //= shared
    return tuple(lead)


def _known(keys: Mapping[str, str], short: str, where: str) -> str:
    if short not in keys:
        raise DataError(f"key {short} is missing", where, _MEND)
    return keys[short]


def _places(config: ModelConfig) -> Places:
    """Our tensors and the reference keys (indices as ranks) that fill them, in order."""
    return dict(itertools.chain(_fixed(), _genes(), _unet(config)))


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


def _unet(config: ModelConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
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
        yield from _affine(f"{ours}.guides", (f"{theirs}.fusion_x_cls", f"{theirs}.fusion_x_surv"))
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


def _second_names(keys: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for key in keys:
        first = key.removeprefix("WSI_encode.")
        if key != first and re.match(r"[ib]_classifier\.", first) and first in keys:
            yield key, first


def _check_second(state: Mapping[str, Tensor], second: Mapping[str, str], where: str) -> None:
    """A second name must hold the tensor it repeats, else one of the two would be dropped unseen."""
    for key, first in second.items():
        one, other = state[key], state[first]
        if "fcc" in first:
            continue  # dead under either name, and 4 GB
        if one.shape != other.shape or not torch.equal(one, other):
            raise DataError(f"{key} differs from {first}, whose second name it is", where, _MEND)


def _dead(short: str, full: str, config: ModelConfig, where: str) -> str:
    """Why a key that fills none of our tensors is dead; a key for which there is no reason is foreign."""
    last = len(config.decoder_depths) - 1
    if short.startswith(f"decoder_leyers.{last}.0.fusion_net."):
        return LAST_MIX
    for pattern, reason in DEAD.items():
        if re.match(pattern, short):
            return reason
    raise DataError(f"foreign key {full!r}", where, _MEND)


def _refuse_foreign(keys: Mapping[str, str], where: str) -> None:
    """Every key must be of a pattern that the published reference has, at whatever depth."""
    patterns = _patterns()
    for short, full in keys.items():
        pattern = _pattern(short)
        if pattern not in patterns:
            raise DataError(f"foreign key {full!r}", where, f"{_MEND}; {did_you_mean(pattern, patterns)}")


def _pattern(key: str) -> str:
    """The key with # for each index."""
    return re.sub(r"\.\d+(?=\.|$)", ".#", key)


def _patterns() -> set[str]:
    """All key patterns of the reference, indices as #."""
    shallow = preset("paper", features=1, genes=["-"], classes=["-"], bins=1)
    known = {key for parts in _places(shallow).values() for key in parts}
    known |= {f"WSI_encode.{key}" for key in known if re.match(r"[ib]_classifier\.", key)}
    pairs = ("weight", "bias")
    known |= {f"{owner}b_classifier.fcc.{part}" for owner in ("", "WSI_encode.") for part in pairs}
    known |= {f"multi_head.W_{name}.{part}" for name in "qko" for part in pairs} | {"gene_bias"}
    known |= {f"decoder_leyers.0.0.fusion_{name}.{part}" for name in ("cls", "surv") for part in pairs}
    return {_pattern(key) for key in known}
