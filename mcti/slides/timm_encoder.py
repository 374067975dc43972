"""Encoders from timm: any of its networks, and published pathology encoders with a local weights file."""

import hashlib
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mcti.errors import DataError, OperationalError, UsageError, did_you_mean
from mcti.slides import encoder_registry
from mcti.slides.decoding import Pixels
from mcti.slides.encoder_protocol import EncoderIdentity, file_sha256, to_batch
from mcti.slides.encoder_registry import EncoderSpec


class TimmEncoder:
    """`NAME` or `NAME@FILE`: a network of timm or a pathology encoder of encoder_registry.py.

    Always offline: the weights come from FILE, or from the cache that timm filled in an earlier download.
    """

    def __init__(self, spec: str, resolution: float, accepted_licences: tuple[str, ...]) -> None:
        name, _, file = spec.partition("@")
        self._file = Path(file) if file else None
        self._name = encoder_registry.canonical_name(name)
        self._spec = encoder_registry.ENCODERS.get(self._name)
        if self._spec is not None:
            encoder_registry.check(self._name, self._spec, resolution, accepted_licences)
            if not self._spec.architecture:
                hint = "export its image encoder to ONNX and use onnx:FILE"
                raise UsageError(f"timm does not have the network {self._name}", "extract.encoder", hint)
        self._timm = _timm()
        digest = file_sha256(self._file) if self._file else _weights_sha256(self._network)
        self.identity = EncoderIdentity(f"timm:{self._name}", digest, self._preprocessing)
        self._lock = threading.Lock()
        if self._spec is not None:
            encoder_registry.check_width(self._name, self._spec, self.width)

    @cached_property
    def _settings(self) -> EncoderSpec:
        if self._spec is not None:
            return self._spec
        if not self._name.startswith(("hf-hub:", "hf_hub:")) and not self._timm.is_model(self._name):
            hint = did_you_mean(self._name.partition(".")[0], self._timm.list_models())
            raise UsageError(f"timm does not have the network {self._name!r}", "extract.encoder", hint)
        try:
            data = self._timm.get_pretrained_cfg(self._name)
        except RuntimeError:  # a network of the hub, or an unlisted tag
            data = None
        size = data.input_size[-1] if data else 224
        scaling = (tuple(data.mean), tuple(data.std)) if data else EncoderSpec("", 0).scaling
        return EncoderSpec(self._name, 0, size=size, scaling=scaling)

    @property
    def _preprocessing(self) -> str:
        spec = self._settings
        return f"area-{spec.size} mean {spec.scaling[0]} std {spec.scaling[1]} {spec.pooling}"

    @cached_property
    def _network(self) -> Any:
        import torch

        spec = self._settings
        network = self._build(spec)
        if self._file is not None:
            _load(network, self._file)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return network.eval().to(device)

    def _build(self, spec: EncoderSpec) -> Any:
        options = {name: value for name, value in spec.options.items() if name != "truncated"}
        if spec.swiglu:
            from torch import nn

            options |= {"mlp_layer": self._timm.layers.SwiGLUPacked, "act_layer": nn.SiLU}
        try:
            network = self._timm.create_model(
                spec.architecture if self._file or not spec.hub else spec.hub,
                pretrained=self._file is None,
                num_classes=0,
                **options,
            )
        except Exception as error:  # timm passes on the exceptions of its hub client
            raise OperationalError(
                f"timm could not build {self._name} offline ({type(error).__name__}: {error})",
                "extract.encoder",
                "add the weights file: timm:NAME@FILE",
            ) from error
        return _TruncatedResNet(network) if "truncated" in spec.options else network

    @cached_property
    def width(self) -> int:
        """Number of features per tile, measured on one black tile."""
        return int(self.encode([np.zeros((32, 32, 3), np.uint8)]).shape[1])

    def encode(self, tiles: Sequence[Pixels]) -> Any:
        """Features (n, width) float32, computed on a GPU in the precision of the encoder.

        The calling threads decode and resize. Bytes are copied to the device from pinned memory while another batch is
        computed, a quarter of the size of floats, and are scaled there.
        """
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        batch = torch.from_numpy(to_batch(tiles, self._settings.size).astype(np.uint8))
        if device == "cuda":
            batch = batch.pin_memory().to(device, non_blocking=True)
        with self._lock, torch.inference_mode():  # one batch at a time: parallel batches would share the device
            return self._compute(batch, device).cpu().numpy()

    def _compute(self, batch: Any, device: str) -> Any:
        """Features (n, width) float32 of bytes (n, 3, size, size), both on the device."""
        import torch

        spec = self._settings
        half = spec.precision != "float32" and device == "cuda"
        mean, std = (torch.tensor(v, device=device)[:, None, None] for v in spec.scaling)
        with torch.autocast(device, dtype=getattr(torch, spec.precision), enabled=half):
            return self._pool(self._network, (batch / 255.0 - mean) / std, spec).float()

    def _pool(self, network: Any, batch: Any, spec: EncoderSpec) -> Any:
        import torch

        if spec.pooling == "class":
            return network(batch)
        tokens = network.forward_features(batch)
        first = network.num_prefix_tokens
        return torch.cat([tokens[:, 0], tokens[:, first:].mean(dim=1)], dim=-1)


class _TruncatedResNet:
    """ResNet-50 up to its third stage, averaged: the 1,024 features that CLAM uses."""

    def __init__(self, network: Any) -> None:
        self._network = network

    def __call__(self, batch: Any) -> Any:
        n = self._network
        x = n.maxpool(n.act1(n.bn1(n.conv1(batch))))
        return n.layer3(n.layer2(n.layer1(x))).mean(dim=(2, 3))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def eval(self) -> "_TruncatedResNet":
        self._network.eval()
        return self

    def to(self, device: str) -> "_TruncatedResNet":
        self._network.to(device)
        return self


def _timm() -> Any:
    import os

    os.environ["HF_HUB_OFFLINE"] = "1"  # before the import: the hub client reads it only once
    try:
        import timm
    except ImportError as error:
        raise OperationalError(
            "encoders timm:NAME need the package timm", "extract.encoder", "pip install 'mcti[timm]'"
        ) from error
    except RuntimeError as error:  # torchvision was built for another version of torch
        what = f"timm cannot be imported: {str(error).splitlines()[0]}"
        hint = "install the torchvision that was built for this torch: same package index, matching release"
        raise OperationalError(what, "extract.encoder", hint) from error
    return timm


def _load(network: Any, file: Path) -> None:
    """Load weights from a safetensors or torch file; names and shapes must match the network."""
    import torch
    from safetensors.torch import load_file

    state: Any
    try:
        state = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise several exception classes for a broken file
        what = f"not a weights file ({type(error).__name__})"
        raise DataError(what, str(file), "use safetensors or a torch state dict") from error
    state = state.get("state_dict", state.get("model", state))
    state = _as_timm(state) if "embeddings.cls_token" in state else state
    target = getattr(network, "_network", network)
    state = {name: value for name, value in state.items() if not name.startswith(("head.", "fc."))}
    try:
        missing, unexpected = target.load_state_dict(state, strict=False)
    except RuntimeError as error:  # tensors of another shape
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise DataError(f"the weights do not fit: {first}", str(file), "check the encoder's name") from error
    if missing or unexpected:
        names = [*missing, *unexpected]
        what = f"the weights do not fit: {len(names)} tensors, first {names[0]}"
        raise DataError(what, str(file), "check the encoder's name")


def _weights_sha256(network: Any) -> str:
    """SHA-256 over the names and values of a network's tensors: the cache may hold other weights of the same name."""
    digest = hashlib.sha256()
    for name, value in sorted(getattr(network, "_network", network).state_dict().items()):
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


_DINOV2 = {
    "embeddings.cls_token": "cls_token",  # nosec B105  (name of a tensor)
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "encoder.layer": "blocks",
    "attention.output.dense": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
    "layernorm": "norm",
}


def _as_timm(state: dict[str, Any]) -> dict[str, Any]:
    """A DINOv2 state dict with the names of transformers (as of Phikon-v2), renamed to those of timm."""
    import torch

    renamed: dict[str, Any] = {}
    for name, value in state.items():
        if name == "embeddings.mask_token":  # only used in pretraining
            continue
        timm_name = name
        for transformers_part, timm_part in _DINOV2.items():
            timm_name = timm_name.replace(transformers_part, timm_part)
        renamed[timm_name] = value
    for name in [n for n in renamed if ".attention.attention.query." in n]:
        projections = [renamed.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        renamed[name.replace("attention.attention.query", "attn.qkv")] = torch.cat(projections)
    return renamed
