"""Read a state dict of the published reference into preset `paper`; each key is used, an alias or unused.

Every width, depth and token count is taken from the shapes. Docs: docs/model.md, "Reference checkpoints".
"""

import dataclasses
import json
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mcti import storage
from mcti.errors import DataError, UsageError, did_you_mean
from mcti.model import reference_keys
from mcti.model.network import MCTI
from mcti.model.presets import ModelConfig, preset
from mcti.model.reference_keys import GUIDES
from mcti.storage import Location

_HINT = "use the state dict of the published reference model, saved by torch.save"


@dataclass(frozen=True)
class Conversion:
    """A reference state dict under the names of this package.

    config   preset `paper` with the widths of the checkpoint
    weights  name in this package -> tensor, loadable with strict=True
    used     reference key -> name in this package
    aliases  alias -> the reference key that it repeats
    unused   reference key -> reason why it has no influence on any output
    """

    config: ModelConfig
    weights: dict[str, Tensor]
    used: dict[str, str]
    aliases: dict[str, str]
    unused: dict[str, str]

    def report(self, state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Status and shape of every key and the numbers of used and unused parameters, as JSON values."""
        return {
            "used": self.used,
            "aliases": self.aliases,
            "unused": self.unused,
            "used_parameters": sum(state[key].numel() for key in self.used),
            "unused_parameters": sum(state[key].numel() for key in self.unused),
            "unused_parameters_by_reason": {
                reason: sum(state[key].numel() for key, why in self.unused.items() if why == reason)
                for reason in sorted(set(self.unused.values()))
            },
        }


def convert(
    checkpoint: Location,
    out: Location,
    *,
    genes: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    measure: str = "entropy",
    guides: str = "fusion_x",
) -> Conversion:
    """Write weights.safetensors, model.json and conversion.json into `out`, all or nothing.

    checkpoint: path or s3:// address of the reference's state dict. It contains no names: pass genes and classes in its
    order, else they are numbered (gene_0001, class_1). measure: of the patch-gene coupling, "entropy" as in POT until
    0.9.4, or "kl" as in later versions. guides: which mixes guide the decoder's streams, a key of GUIDES.

    Raises UsageError on an unknown measure or guides; DataError on a file that is no plain state dict (nothing in it is
    executed), on unknown or missing keys, on a wrong shape and on a wrong number of names.
    """
    from safetensors.torch import save_file

    with storage.local_copy(checkpoint) as path:
        state = read_state(path)
        conversion = translate(
            state, genes=genes, classes=classes, measure=measure, guides=guides, where=str(checkpoint)
        )
        with storage.replacing(out) as draft:
            draft.mkdir()
            save_file(
                {name: tensor.contiguous() for name, tensor in conversion.weights.items()},
                draft / "weights.safetensors",
            )
            storage.write_json(draft / "model.json", {"config": json.loads(conversion.config.to_json())})
            storage.write_json(draft / "conversion.json", conversion.report(state))
    return conversion


def load(folder: Location) -> MCTI:
    """The converted network, ready for use: network(patches (b, N, D_in), mask (b, N), genes (b, G)).

    Raises DataError when weights and configuration do not belong together.
    """
    from safetensors.torch import load_file

    with storage.local_copy(folder) as path:
        config = ModelConfig.from_json(json.dumps(storage.read_json(path / "model.json")["config"]), str(folder))
        mapped = load_file(path / "weights.safetensors")
    # Copied into memory that torch aligns: on some processors a kernel rounds differently for unaligned tensors.
    weights = {name: tensor.clone() for name, tensor in mapped.items()}
    with torch.device("meta"):
        network = MCTI(config)
    try:
        network.load_state_dict(weights, strict=True, assign=True)
    except RuntimeError as error:
        raise DataError(
            "the weights do not fit the configuration", str(folder), "convert the checkpoint again"
        ) from error
    return network.requires_grad_().eval()


def read_state(path: Location) -> dict[str, Tensor]:
    """The tensors of a file that torch.save wrote, each with its stored shape; memory-mapped where the format allows.

    Code in the file is never executed.

    Raises DataError when the file is not a flat mapping of names to tensors
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        calls = re.search(r"GLOBAL (\S+)", str(error))
        what = f"a pickle that calls {calls[1]}, which tensors need not" if calls else "no checkpoint"
        raise DataError(what, str(path), _HINT) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise DataError(f"not a readable checkpoint ({type(error).__name__})", str(path), _HINT) from error
    if not isinstance(state, Mapping) or not state:
        raise DataError(f"a {type(state).__name__}, not a state dict", str(path), _HINT)
    for key, value in state.items():
        if isinstance(value, Mapping):
            raise DataError(
                f"entry {key!r} is a mapping", str(path), f"{_HINT}; if that entry is the state dict, save it alone"
            )
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise DataError(f"entry {key!r} is a {type(value).__name__}, not a tensor", str(path), _HINT)
        if value.layout != torch.strided:
            raise DataError(f"entry {key!r} is a sparse tensor", str(path), "save it dense")
    return dict(state)


def translate(
    state: Mapping[str, Tensor],
    *,
    genes: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    measure: str = "entropy",
    guides: str = "fusion_x",
    where: str = "the checkpoint",
) -> Conversion:
    """The state dict (tensors of any shape) under the names of this package; arguments as in `convert`.

    Raises DataError when a key is unknown or missing, or a shape does not match
    Raises UsageError when `guides` is unknown
    """
    if guides not in GUIDES:
        raise UsageError(f"there are no guides {guides!r}", "convert-reference", did_you_mean(guides, GUIDES))
    keys = _ranked(state)
    _check_patterns(keys, where)
    try:
        config = _config(state, keys, genes, classes, where)
    except UsageError as error:  # a part without a key or with an axis of length 0 is an error of the file
        raise DataError(f"no network has its sizes ({error.where}: {error.what})", where, _HINT) from error
    config = dataclasses.replace(config, gene_measure=measure)  # type: ignore[arg-type]  # ModelConfig checks it
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in MCTI(config).state_dict().items()}
    sources = reference_keys.tensor_sources(config, guides)
    assert sources.keys() == shapes.keys(), sorted(sources.keys() ^ shapes.keys())
    weights = {name: _gather(state, keys, sources[name], shapes[name], where) for name in shapes}
    used = {keys[part]: name for name, parts in sources.items() for part in parts}
    _check_unused_shapes(state, keys, config, where)
    aliases = {keys[key]: keys[first] for key, first in reference_keys.aliases(keys)}
    _check_aliases(state, aliases, where)
    rest = [short for short, full in keys.items() if full not in used and full not in aliases]
    unused = {keys[short]: reference_keys.unused_reason(short, config, guides) for short in rest}
    for full, reason in unused.items():
        if not reason:
            raise DataError(f"unknown key {full!r}", where, _HINT)
    return Conversion(config, weights, used, aliases, unused)


def _ranked(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Key with each index replaced by its rank among its siblings -> original key.

    An activation or a dropout without parameters in a Sequential shifts the indices, but not the ranks.
    """
    siblings: dict[tuple[str, ...], set[int]] = {}
    for key in state:
        parts = key.split(".")
        for position, part in enumerate(parts):
            if part.isdecimal():
                siblings.setdefault(tuple(parts[:position]), set()).add(int(part))
    ranks = {
        parent: {index: rank for rank, index in enumerate(sorted(indices))} for parent, indices in siblings.items()
    }

    def short(key: str) -> str:
        """The key with ranks for indices."""
        parts = key.split(".")
        return ".".join(
            str(ranks[tuple(parts[:position])][int(part)]) if part.isdecimal() else part
            for position, part in enumerate(parts)
        )

    return {short(key): key for key in state}


def _config(
    state: Mapping[str, Tensor],
    keys: Mapping[str, str],
    genes: Sequence[str] | None,
    classes: Sequence[str] | None,
    where: str,
) -> ModelConfig:
    """Preset `paper` with every size taken from the shapes of the tensors."""

    def size(short: str, axis: int) -> int:
        """Length of this axis of a tensor."""
        tensor = state[_known(keys, short, where)]
        if tensor.dim() <= axis:
            raise DataError(f"{keys[short]} has shape {tuple(tensor.shape)}", where, _HINT)
        return tensor.shape[axis]

    def count(pattern: str) -> int:
        """Number of different indices that the group of the pattern matches."""
        return len({match[1] for key in keys if (match := re.match(pattern, key))})

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


def _names(what: str, count: int, names: Sequence[str] | None, where: str) -> list[str]:
    if names is None:
        digits = len(str(count))
        return [f"{what}_{number:0{digits}d}" for number in range(1, count + 1)]
    if len(names) != count:
        raise DataError(
            f"{count} inputs or outputs of kind {what}, but {len(names)} names", where, "list all of them, in order"
        )
    if len(set(names)) < count:
        twice = next(name for name in names if list(names).count(name) > 1)
        raise DataError(f"the {what} {twice!r} is named twice", where, "list each name once")
    return list(names)


def _gather(
    state: Mapping[str, Tensor], keys: Mapping[str, str], parts: Sequence[str], shape: torch.Size, where: str
) -> Tensor:
    """The tensor of `shape` whose elements are those of the parts, in order; the parts have equal shapes."""
    tensors = [state[_known(keys, part, where)] for part in parts]
    expected = _part_shape(shape, len(parts))
    for part, tensor in zip(parts, tensors, strict=True):
        squeezed = tuple(length for length in tensor.shape if length != 1)
        if squeezed != tuple(length for length in expected if length != 1):
            raise DataError(f"{keys[part]} has shape {tuple(tensor.shape)}", where, f"expected {tuple(expected)}")
        if tensor.is_meta or not tensor.is_floating_point():
            raise DataError(f"{keys[part]} contains no real numbers", where, _HINT)
        if not bool(tensor.isfinite().all()):
            raise DataError(
                f"{keys[part]} contains NaN or infinity", where, "use a checkpoint from before the divergence"
            )
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
        raise DataError(f"key {short} is missing", where, _HINT)
    return keys[short]


def _check_aliases(state: Mapping[str, Tensor], aliases: Mapping[str, str], where: str) -> None:
    """Check that each alias has the same tensor as the key that it repeats; otherwise one would be lost silently."""
    for key, first in aliases.items():
        one, other = state[key], state[first]
        same = one.shape == other.shape and ("fcc" in first or torch.equal(one, other))  # fcc: unused, 4 GB
        if not same:
            raise DataError(f"{key} differs from {first}, of which it is an alias", where, _HINT)


def _check_unused_shapes(state: Mapping[str, Tensor], keys: Mapping[str, str], config: ModelConfig, where: str) -> None:
    """Check that the unused keys that exist have the shapes of the published reference."""
    for key, shape in reference_keys.unused_shapes(config).items():
        actual = tuple(state[keys[key]].shape) if key in keys else shape
        if actual != shape:
            raise DataError(f"{keys[key]} has shape {actual}", where, f"expected {shape}")


def _check_patterns(keys: Mapping[str, str], where: str) -> None:
    """Check that each key has a pattern of the published reference, at any depth."""
    patterns = reference_keys.patterns()
    for short, full in keys.items():
        pattern = reference_keys.pattern(short)
        if pattern not in patterns:
            suggestion = did_you_mean(pattern, patterns)
            if full.startswith("module."):
                suggestion = "remove the prefix `module.` of DataParallel from its keys"
            raise DataError(f"unknown key {full!r}", where, f"{_HINT}; {suggestion}")
