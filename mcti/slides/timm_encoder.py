"""Encoders through timm: any of its networks, and the known pathology encoders with a local weights file."""

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
    """`NAME` or `NAME@FILE`: a network of timm or a known pathology encoder, its weights from FILE or a filled cache.

    Offline always: without FILE the weights must lie in the cache that timm itself filled before.
    """

    def __init__(self, spec: str, resolution: float, accepted: tuple[str, ...]) -> None:
        name, _, file = spec.partition("@")
        self._file = Path(file) if file else None
        self._name = encoder_registry.known_name(name)
        self._card = encoder_registry.ENCODERS.get(self._name)
        if self._card is not None:
            encoder_registry.check(self._name, self._card, resolution, accepted)
            if not self._card.architecture:
                hint = "export its picture tower to ONNX and take onnx:FILE"
                raise UsageError(f"{self._name} is no network of timm", "extract.encoder", hint)
        self._timm = _timm()
        digest = file_sha256(self._file) if self._file else _digest(self._network)
        self.identity = EncoderIdentity(f"timm:{self._name}", digest, self._preprocessing)
        self._lock = threading.Lock()
        if self._card is not None:
            encoder_registry.check_width(self._name, self._card, self.width)

    @cached_property
    def _settings(self) -> EncoderSpec:
        if self._card is not None:
            return self._card
        if not self._name.startswith(("hf-hub:", "hf_hub:")) and not self._timm.is_model(self._name):
            hint = did_you_mean(self._name.partition(".")[0], self._timm.list_models())
            raise UsageError(f"timm knows no network {self._name!r}", "extract.encoder", hint)
        try:
            data = self._timm.get_pretrained_cfg(self._name)
        except RuntimeError:  # a network of the hub, or a tag that timm does not list
            data = None
        size = data.input_size[-1] if data else 224
        scaling = (tuple(data.mean), tuple(data.std)) if data else EncoderSpec("", 0).scaling
        return EncoderSpec(self._name, 0, size=size, scaling=scaling)

    @property
    def _preprocessing(self) -> str:
        card = self._settings
        return f"area-{card.size} mean {card.scaling[0]} std {card.scaling[1]} {card.pooling}"

    @cached_property
    def _network(self) -> Any:
        import torch

        card = self._settings
        network = self._built(card)
        if self._file is not None:
            _load(network, self._file)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return network.eval().to(device)

    def _built(self, card: EncoderSpec) -> Any:
        options = {name: value for name, value in card.options.items() if name != "truncated"}
        if card.swiglu:
            from torch import nn

            options |= {"mlp_layer": self._timm.layers.SwiGLUPacked, "act_layer": nn.SiLU}
        try:
            network = self._timm.create_model(
                card.architecture if self._file or not card.hub else card.hub,
                pretrained=self._file is None,
                num_classes=0,
                **options,
            )
        except Exception as error:  # timm raises whatever its hub client raises
            raise OperationalError(
                f"timm could not build {self._name} offline ({type(error).__name__}: {error})",
                "extract.encoder",
                "give its weights: timm:NAME@FILE",
            ) from error
        return _Truncated(network) if "truncated" in card.options else network

    @cached_property
    def width(self) -> int:
        """Numbers in one tile's features, by trying."""
        return int(self.encode([np.zeros((32, 32, 3), np.uint8)]).shape[1])

    def encode(self, tiles: Sequence[Pixels]) -> Any:
        """Features (n, width) float32, in the card's precision on a GPU.

        The callers' threads decode and resize; bytes go to the device from pinned memory while another batch is
        computed, a quarter of what floats would be, and are scaled there.
        """
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        batch = torch.from_numpy(to_batch(tiles, self._settings.size).astype(np.uint8))
        if device == "cuda":
            batch = batch.pin_memory().to(device, non_blocking=True)
        with self._lock, torch.inference_mode():  # one batch computes at a time: more would only share the device
            return self._computed(batch, device).cpu().numpy()

    def _computed(self, batch: Any, device: str) -> Any:
        """Features (n, width) float32 on the device, of bytes (n, 3, size, size) on it."""
        import torch

        card = self._settings
        half = card.precision != "float32" and device == "cuda"
        mean, std = (torch.tensor(v, device=device)[:, None, None] for v in card.scaling)
        with torch.autocast(device, dtype=getattr(torch, card.precision), enabled=half):
            return self._pooled(self._network, (batch / 255.0 - mean) / std, card).float()

    def _pooled(self, network: Any, batch: Any, card: EncoderSpec) -> Any:
        import torch

        if card.pooling == "class":
            return network(batch)
        tokens = network.forward_features(batch)
        first = network.num_prefix_tokens
        return torch.cat([tokens[:, 0], tokens[:, first:].mean(dim=1)], dim=-1)


class _Truncated:
    """ResNet-50 up to its third stage, averaged: the 1,024 numbers that CLAM made common."""

    def __init__(self, network: Any) -> None:
        self._network = network

    def __call__(self, batch: Any) -> Any:
        n = self._network
        x = n.maxpool(n.act1(n.bn1(n.conv1(batch))))
        return n.layer3(n.layer2(n.layer1(x))).mean(dim=(2, 3))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def eval(self) -> "_Truncated":
        self._network.eval()
        return self

    def to(self, device: str) -> "_Truncated":
        self._network.to(device)
        return self


def _timm() -> Any:
    import os

    os.environ["HF_HUB_OFFLINE"] = "1"  # before the import: the hub client reads it once
    try:
        import timm
    except ImportError as error:
        raise OperationalError(
            "encoders named timm:… need the package timm", "extract.encoder", "pip install 'mcti[timm]'"
        ) from error
    except RuntimeError as error:  # its torchvision was built for another torch
        what = f"timm cannot be used: {str(error).splitlines()[0]}"
        hint = "install the torchvision that was built for this torch: the same index, the release of the same time"
        raise OperationalError(what, "extract.encoder", hint) from error
    return timm


def _load(network: Any, file: Path) -> None:
    """Weights from a safetensors or a torch file; every one must find its place."""
    import torch
    from safetensors.torch import load_file

    state: Any
    try:
        state = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for a broken file
        what = f"not a weights file ({type(error).__name__})"
        raise DataError(what, str(file), "take safetensors or a state dict") from error
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


def _digest(network: Any) -> str:
    """SHA-256 over the names and values of a network's tensors: a cache may be filled anew under the same name."""
    digest = hashlib.sha256()
    for name, value in sorted(getattr(network, "_network", network).state_dict().items()):
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


_DINOV2 = {
    "embeddings.cls_token": "cls_token",  # nosec B105  (a tensor of the network)
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "encoder.layer": "blocks",
    "attention.output.dense": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
    "layernorm": "norm",
}


def _as_timm(state: dict[str, Any]) -> dict[str, Any]:
    """A DINOv2 state dict as transformers names it (Phikon-v2 comes so) under timm's names."""
    import torch

    renamed: dict[str, Any] = {}
    for name, value in state.items():
        if name == "embeddings.mask_token":  # of the pretraining alone
            continue
        known = name
        for theirs, ours in _DINOV2.items():
            known = known.replace(theirs, ours)
        renamed[known] = value
    for name in [n for n in renamed if ".attention.attention.query." in n]:
        parts = [renamed.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        renamed[name.replace("attention.attention.query", "attn.qkv")] = torch.cat(parts)
    return renamed
