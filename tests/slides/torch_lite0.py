"""EfficientNet-Lite0 in plain torch, by the table of the paper: the oracle of the encoder lite0."""

import torch
from torch.nn import functional

from mcti.slides.lite0 import weights_file

_STAGES = ((1, 1, 16), (2, 2, 24), (2, 2, 40), (3, 2, 80), (3, 1, 112), (4, 2, 192), (1, 1, 320))
"""Repeats, stride of the first block, and width of each stage."""


def torch_lite0(batch: torch.Tensor) -> torch.Tensor:
    """Features (n, 1280) of scaled tiles (n, 3, 224, 224), with separate batch norms."""
    state: dict[str, torch.Tensor] = torch.load(weights_file(), map_location="cpu", weights_only=True)

    def layer(x: torch.Tensor, name: str, norm: str, stride: int = 1, groups: int = 1) -> torch.Tensor:
        weight = state[name + ".weight"]
        total = max(weight.shape[-1] - stride, 0) if x.shape[-1] % stride == 0 else weight.shape[-1] - 1
        x = functional.pad(x, [total // 2, total - total // 2] * 2)
        x = functional.conv2d(x, weight, stride=stride, groups=groups)
        mean, variance, gain, bias = (
            state[f"{norm}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.batch_norm(x, mean, variance, gain, bias, eps=1e-3)

    x = functional.relu6(layer(batch, "_conv_stem", "_bn0", 2))
    number = 0
    for repeats, first_stride, width in _STAGES:
        for repeat in range(repeats):
            name, stride, block_input = f"_blocks.{number}.", first_stride if repeat == 0 else 1, x
            if number:
                x = functional.relu6(layer(x, name + "_expand_conv", name + "_bn0"))
            x = functional.relu6(layer(x, name + "_depthwise_conv", name + "_bn1", stride, x.shape[1]))
            x = layer(x, name + "_project_conv", name + "_bn2")
            assert x.shape[1] == width
            x = x + block_input if stride == 1 and block_input.shape[1] == width else x
            number += 1
    return functional.relu6(layer(x, "_conv_head", "_bn1")).mean(dim=(2, 3))
