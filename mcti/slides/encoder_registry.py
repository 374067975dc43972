"""The requirements of published tile encoders: tile size, resolution, colour scaling, width, licence.

Source: the web pages of the encoders. At another resolution than that of its training, an encoder returns features that
look plausible but are wrong; a mismatch is therefore an error.
"""

from dataclasses import dataclass, field
from typing import Any

from mcti.errors import UsageError

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_OPTIMUS = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
_OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_UNI2 = {
    "img_size": 224,
    "patch_size": 14,
    "depth": 24,
    "num_heads": 24,
    "init_values": 1e-5,
    "embed_dim": 1536,
    "mlp_ratio": 2.66667 * 2,
    "no_embed_class": True,
    "reg_tokens": 8,
    "dynamic_img_size": True,
}


@dataclass(frozen=True)
class EncoderSpec:
    """One encoder.

    architecture    name in timm; empty when timm does not have it, so that it must be used as `onnx:FILE`
    mpp             resolutions of its training in µm/px; empty: any resolution is accepted
    scaling         mean and standard deviation of the channels, in 0 to 1
    restricted      whether the user must accept the licence in extract.accept_licences
    """

    architecture: str
    width: int
    size: int = 224
    mpp: tuple[float, ...] = ()
    scaling: tuple[tuple[float, ...], tuple[float, ...]] = _IMAGENET
    precision: str = "float32"
    licence: str = "Apache-2.0"
    restricted: bool = False
    hub: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    swiglu: bool = False  # gated units with SiLU instead of a plain MLP
    pooling: str = "class"  # class: the class token; class+mean: class token, then mean of the patch tokens


ENCODERS = {
    "resnet50": EncoderSpec("resnet50", 1024, options={"truncated": 3}, licence="Apache-2.0"),
    "uni": EncoderSpec(
        "vit_large_patch16_224",
        1024,
        mpp=(0.5,),
        precision="float16",
        licence="CC-BY-NC-ND-4.0",
        restricted=True,
        hub="hf-hub:MahmoodLab/UNI",
        options={"init_values": 1e-5, "dynamic_img_size": True},
    ),
    "uni2-h": EncoderSpec(
        "vit_giant_patch14_224",
        1536,
        mpp=(0.5,),
        precision="bfloat16",
        licence="CC-BY-NC-ND-4.0",
        restricted=True,
        hub="hf-hub:MahmoodLab/UNI2-h",
        options=_UNI2,
        swiglu=True,
    ),
    "conch": EncoderSpec(
        "",  # timm does not have its pooling layer
        512,
        size=448,
        mpp=(0.5,),
        scaling=_OPENAI,
        precision="float32",
        licence="CC-BY-NC-ND-4.0",
        restricted=True,
        hub="hf-hub:MahmoodLab/CONCH",
    ),
    "virchow2": EncoderSpec(
        "vit_huge_patch14_224",
        2560,
        mpp=(0.25, 0.5, 1.0, 2.0),
        precision="float16",
        licence="CC-BY-NC-ND-4.0",
        restricted=True,
        hub="hf-hub:paige-ai/Virchow2",
        options={"img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.3375, "reg_tokens": 4, "dynamic_img_size": True},
        pooling="class+mean",
        swiglu=True,
    ),
    "phikon-v2": EncoderSpec(
        "vit_large_patch16_224",
        1024,
        mpp=(0.5,),
        precision="float32",
        licence="Owkin non-commercial",
        restricted=True,
        hub="hf-hub:owkin/phikon-v2",
        options={"init_values": 1.0},
    ),
    "h-optimus-0": EncoderSpec(
        "vit_giant_patch14_reg4_dinov2",
        1536,
        mpp=(0.5,),
        scaling=_OPTIMUS,
        precision="float16",
        licence="Apache-2.0",
        hub="hf-hub:bioptimus/H-optimus-0",
        options={"img_size": 224, "init_values": 1e-5, "dynamic_img_size": False},
    ),
    "h-optimus-1": EncoderSpec(
        "vit_giant_patch14_reg4_dinov2",
        1536,
        mpp=(0.5,),
        scaling=_OPTIMUS,
        precision="float16",
        licence="CC-BY-NC-ND-4.0",
        restricted=True,
        hub="hf-hub:bioptimus/H-optimus-1",
        options={"img_size": 224, "init_values": 1e-5, "dynamic_img_size": False},
    ),
    "gigapath": EncoderSpec(
        "vit_giant_patch14_dinov2",
        1536,
        mpp=(0.5,),
        precision="float16",
        licence="Prov-GigaPath research licence",
        restricted=True,
        hub="hf-hub:prov-gigapath/prov-gigapath",
        options={"img_size": 224, "patch_size": 16, "init_values": 1e-5},
    ),
}
"""Encoders by name, as in `timm:uni@weights.bin`."""


def canonical_name(name: str) -> str:
    """The name in ENCODERS of an encoder given by name or by its address on the hub; other names unchanged.

    The check of the licence thereby applies to the address as well.
    """
    plain = name.removeprefix("hf-hub:").removeprefix("hf_hub:").casefold()
    by_address = {spec.hub.removeprefix("hf-hub:").casefold(): key for key, spec in ENCODERS.items() if spec.hub}
    return by_address.get(plain, plain if plain in ENCODERS else name)


def check(name: str, spec: EncoderSpec, resolution: float, accepted: tuple[str, ...]) -> None:
    """Refuse a resolution (µm/px) that was not used in training, and a restricted licence that was not accepted.

    Raises UsageError.
    """
    if spec.mpp and not any(abs(resolution - mpp) <= 0.02 * mpp for mpp in spec.mpp):
        fits = ", ".join(f"{mpp:g}" for mpp in spec.mpp)
        what = f"{name} was trained at {fits} µm/px, not at {resolution:g}"
        raise UsageError(what, "extract.resolution", f"set extract.resolution={fits}")
    if spec.restricted and name not in accepted:
        raise UsageError(
            f"{name} is licensed under {spec.licence}",
            "extract.encoder",
            f"if you have accepted that licence, add --set extract.accept_licences=[{name}]",
        )


def check_width(name: str, spec: EncoderSpec, width: int) -> None:
    """Refuse weights whose features have another width than the encoder's.

    Raises UsageError.
    """
    if width != spec.width:
        raise UsageError(
            f"the width of {name} is {spec.width}, but these weights give {width} features",
            "extract.encoder",
            "check that the weights file belongs to this encoder",
        )
