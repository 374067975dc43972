"""Reads plain pictures: PNG, JPEG, and TIFF in strips."""

from pathlib import Path
from typing import Any

import numpy as np

from mcti.slides import pyramid
from mcti.slides.decoding import Pixels
from mcti.slides.reader import ClosingReader, Level, cut, on_white, smaller
from mcti.slides.status import RegionError, SlideError, Status


class FlatReader(ClosingReader):
    """Reads a PNG, JPEG or untiled TIFF picture completely into memory."""

    name = "flat"
    _MAX_PIXELS = 170_000_000

    def __init__(self, path: Path) -> None:
        self._picture = self._load(path)
        height, width = self._picture.shape[:2]
        self.levels = [Level(width, height, (1.0, 1.0), (512, 512))]

    def _load(self, path: Path) -> Pixels:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(path) as picture:
                to_largest_page(picture)
                if picture.width * picture.height > self._MAX_PIXELS:
                    raise SlideError(
                        Status.UNSUPPORTED_FORMAT,
                        f"a plain picture of {picture.width}x{picture.height} px",
                        "convert it to a pyramidal TIFF, e.g. with vips tiffsave",
                    )
                pyramid.refuse_orientation(int(picture.getexif().get(274, 1)))
                if picture.mode not in ("RGB", "RGBA", "P"):
                    raise SlideError(Status.NOT_HE, f"a picture of mode {picture.mode}, not RGB")
                # Converting a large RGB picture to RGBA would take twice the memory.
                return np.asarray(picture) if picture.mode == "RGB" else on_white(np.asarray(picture.convert("RGBA")))
        except UnidentifiedImageError as error:
            raise SlideError(Status.UNSUPPORTED_FORMAT, "no reader supports this format") from error
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise SlideError(Status.READ_ERROR, f"the picture does not decode ({error})") from error

    def close(self) -> None:
        """Do nothing: the file is not open."""

    def read(
        self,
        level: int,
        x: int,
        y: int,
        width: int,
        height: int,
        shrink: int = 1,
        *,
        keep: bool = False,  # noqa: ARG002 (the whole picture is in memory)
        buffer: Pixels | None = None,  # noqa: ARG002
    ) -> Pixels:
        """See Reader.

        Raises RegionError when `level` is not 0.
        """
        if level:
            raise RegionError(f"a plain picture has no level {level}")
        return smaller(cut(self._picture, x, y, width, height), shrink)


def to_largest_page(picture: Any) -> None:
    """Select the largest page of a TIFF with several pages: the first may be a thumbnail."""
    if picture.format != "TIFF" or getattr(picture, "n_frames", 1) == 1:
        return
    sizes = []
    for page in range(picture.n_frames):
        picture.seek(page)
        sizes.append(picture.width * picture.height)
    picture.seek(sizes.index(max(sizes)))
