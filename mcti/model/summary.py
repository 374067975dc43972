"""Cost of a configuration: parameters by part, operations and memory per patient; for `mcti model info`."""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from mcti.model.axes import config_after_axes
from mcti.model.comparators import build
from mcti.model.presets import ModelConfig

FLOAT32 = 4  # bytes
# Tensors of token size (n·D) that one block keeps for the backward pass, counted in the code of guidance.py and
# streams.py: norms 2, queries, keys and values 3, their normalised forms 4, guided 2, local 3, MLP 3, residuals 2.
KEPT_GUIDED, KEPT_ATTENTION = 19, 13


@dataclass(frozen=True)
class Summary:
    """Cost of a configuration.

    parameters          part -> number of parameters
    patches             N, to which the next two fields refer
    forward_flops       part -> floating-point operations of the matrix products of one patient's forward pass
    training_flops      one step of one patient: forward, backward, and the recomputation of the bag by blocks
    memory_bytes        training of one patient in float32 with Adam: weights, gradients, moments, bag, activations
    """

    parameters: dict[str, int]
    patches: int
    forward_flops: dict[str, int]
    training_flops: int
    memory_bytes: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """As JSON values, with totals."""
        totals = {
            "parameters_total": sum(self.parameters.values()),
            "forward_flops_total": sum(self.forward_flops.values()),
            "memory_bytes_total": sum(self.memory_bytes.values()),
        }
        return asdict(self) | totals


def describe(config: ModelConfig, patches: int = 4000) -> Summary:
    """The cost of this configuration for one patient with N `patches`."""
    parameters = _parameters(config)
    if config.network != "mcti":
        return _comparator(config, patches)
    after_axes = config_after_axes(config)
    flops = {
        "axes": _axes_flops(config, patches),
        "pathology": _bag_flops(after_axes, patches) + _critical_flops(after_axes),
        "genomics": _gene_flops(after_axes),
        "unet": _unet_flops(after_axes),
        "heads": _head_flops(after_axes),
    }
    # Backward: twice the forward pass, once for the inputs and once for the weights; the bag itself needs no gradient
    # but its blocks are recomputed, which costs the same. No layer before the axes is learned: they run once.
    training = 3 * sum(flops.values()) - 2 * flops["axes"]
    return Summary(parameters, patches, flops, training, _memory(config, patches, sum(parameters.values())))


def _comparator(config: ModelConfig, patches: int) -> Summary:
    """Cost of a comparator: the matrix products counted during a forward pass on zeros.

    There is no formula for its activations: one token per patch of the bag is counted.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    net = build(config).eval()
    bag, mask = torch.zeros(1, patches, config.features), torch.ones(1, patches, dtype=torch.bool)
    flags = {name: torch.ones(1, dtype=torch.bool) for name in ("slides_present", "genes_present")}
    covariates = torch.zeros(1, len(config.clinical_columns)) if config.covariates else None
    # FlopCounterMode does not count the fused attention of the CPU, only the plain form.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        net(bag, mask, torch.zeros(1, len(config.genes)), covariates=covariates, **flags)
    count, parameters = counter.get_total_flops(), _parameters(config)
    weights = FLOAT32 * sum(parameters.values())
    memory = {"weights": weights, "gradients": weights, "adam": 2 * weights, "bag": FLOAT32 * patches * config.features}
    memory["activations"] = FLOAT32 * patches * config.width
    return Summary(parameters, patches, {config.network: count}, 3 * count, memory)


def _parameters(config: ModelConfig) -> dict[str, int]:
    with torch.device("meta"):
        network = build(config)
    parts: dict[str, int] = {}
    for name, tensor in network.named_parameters():
        part = name.split(".")[0]
        part = ".".join(name.split(".")[:2]) if part == "unet" else part
        parts[part] = parts.get(part, 0) + tensor.numel()
    return parts


def _axes_flops(config: ModelConfig, patches: int) -> int:
    after_axes = config_after_axes(config)
    features = patches * config.features * after_axes.features if config.feature_axes else 0
    return 2 * (features + (len(config.genes) * len(after_axes.genes) if config.gene_axes else 0))


def _bag_flops(config: ModelConfig, patches: int) -> int:
    """Operations that are proportional to the bag: mean patch, scores, query net, masses, sums."""
    features, query = config.features, config.query
    row = features * (1 + len(config.classes) + query) + query**2 + config.critical * (query + features)
    return 2 * patches * row


def _critical_flops(config: ModelConfig) -> int:
    """Operations on the K critical patches: instance logits, focus, query net, projection and channel attention."""
    features, width, classes, query = config.features, config.width, len(config.classes), config.query
    row = features * (classes + 1 + query + width) + query**2 + (3 + 1 + 3 + 2 + 1 + 2) * width**2
    return 2 * config.critical * (row + config.critical * width) + 2 * classes * features


def _gene_flops(config: ModelConfig) -> int:
    genes, inner, tokens, width = len(config.genes), config.gene_width, config.tokens, config.width
    joining = config.critical * tokens * width  # plan' P
    if config.gene_branch == "dense":
        return 2 * (genes * inner + inner**2 + inner * tokens * width + joining)
    return 2 * (3 * tokens * genes * inner + tokens * (inner * width + width**2) + joining)


def _unet_flops(config: ModelConfig) -> int:
    """All guided blocks of both streams and all self-attention layers (docs/model.md, sections 4 and 5)."""
    n, width = config.length, config.width
    products = 1 if config.solver == "assignment" else 2  # an assignment is gathered, any other plan multiplied
    products = products if config.guidance else 0
    guided = 20 * n * width**2 + 2 * products * n * n * width
    attention = 12 * n * width**2 + 4 * n * n * width
    depths = sum(config.encoder_depths) + config.bottleneck_depth + sum(config.decoder_depths)
    sequences = 2 * (len(config.encoder_depths) + len(config.decoder_depths))
    return 2 * depths * guided + sequences * config.attention_depth * attention


def _head_flops(config: ModelConfig) -> int:
    outputs, genes = len(config.classes) + config.bins, config.tokens * config.width
    if not config.linear_skip:
        return 2 * config.width * outputs
    read = config.width + config.features + genes + config.bilinear_rank
    return 2 * (read * outputs + 2 * config.bilinear_rank * (config.features + genes))


def _memory(config: ModelConfig, patches: int, parameters: int) -> dict[str, int]:
    n, width = config.length, config.width
    depths = sum(config.encoder_depths) + config.bottleneck_depth + sum(config.decoder_depths)
    layers = 2 * (len(config.encoder_depths) + len(config.decoder_depths)) * config.attention_depth
    kept = 2 * depths * (KEPT_GUIDED * n * width + 3 * width**2) + layers * (KEPT_ATTENTION * n * width + 2 * n * n)
    after_axes = config_after_axes(config).features
    block = min(config.block, patches) * (2 * after_axes + 3 * config.query + 4 * config.critical)
    along_axes = patches * after_axes if config.feature_axes else 0
    return {
        "weights": FLOAT32 * parameters,
        "gradients": FLOAT32 * parameters,
        "adam": 2 * FLOAT32 * parameters,
        "bag": FLOAT32 * patches * config.features,
        "activations": FLOAT32 * (kept + block + along_axes),
    }
