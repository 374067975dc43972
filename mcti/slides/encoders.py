"""Creates a tile encoder by name: `hed44`, `lite0`, `onnx:FILE`, `timm:NAME`, `timm:NAME@FILE`. Never downloads."""

from pathlib import Path

from mcti.errors import UsageError, did_you_mean
from mcti.slides.encoder_protocol import Encoder
from mcti.slides.hed44 import Hed44Encoder
from mcti.slides.lite0 import Lite0Encoder
from mcti.slides.onnx_encoder import OnnxFileEncoder
from mcti.slides.timm_encoder import TimmEncoder

_FORMS = ("hed44", "lite0", "onnx:FILE", "timm:NAME", "timm:NAME@FILE")


def make(name: str, resolution: float, accepted_licences: tuple[str, ...] = ()) -> Encoder:
    """The encoder called `name` for tiles at `resolution` µm/px.

    accepted_licences   names of the encoders with a restricted licence that the user has accepted
    Raises UsageError for an unknown name, an unsuitable resolution, a licence not accepted or weights of another width.
    Raises OperationalError when a package is not installed.
    Raises DataError when the weights file is missing or broken.
    """
    library, _, argument = name.partition(":")
    if name == "hed44":
        return Hed44Encoder()
    if name == "lite0":
        return Lite0Encoder()
    if library == "onnx" and argument:
        return OnnxFileEncoder(Path(argument), resolution)
    if library == "timm" and argument:
        return TimmEncoder(argument, resolution, accepted_licences)
    raise UsageError(f"unknown encoder {name!r}", "extract.encoder", did_you_mean(name, _FORMS))
