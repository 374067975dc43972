"""Reads plain pictures: PNG, JPEG, and TIFF in strips."""

from pathlib import Path
from typing import Any

import numpy as np

from mcti.slides import pyramid
from mcti.slides.decoding import Pixels
from mcti.slides.reader import ClosingReader, Level, cut, on_white, smaller
from mcti.slides.status import RegionError, SlideError, Status


class FlatReader(ClosingReader):
    """A PNG, JPEG or untiled TIFF picture, whole in memory."""

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
                        f"a flat picture of {picture.width}x{picture.height} px",
                        "convert it to a pyramidal TIFF, e.g. with vips tiffsave",
                    )
                pyramid.refuse_orientation(int(picture.getexif().get(274, 1)))
                if picture.mode not in ("RGB", "RGBA", "P"):
                    raise SlideError(Status.NOT_HE, f"a picture of mode {picture.mode}, not RGB")
                # By way of RGBA a large picture would take twice the memory.
                return np.asarray(picture) if picture.mode == "RGB" else on_white(np.asarray(picture.convert("RGBA")))
        except UnidentifiedImageError as error:
            raise SlideError(Status.UNSUPPORTED_FORMAT, "no reader knows this format") from error
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise SlideError(Status.READ_ERROR, f"the picture does not decode ({error})") from error

    def close(self) -> None:
        """Nothing is held open."""

    def read(self, level: int, x: int, y: int, width: int, height: int, shrink: int = 1) -> Pixels:
        """See Reader."""
        if level:
            raise RegionError(f"a flat picture has no level {level}")
        return smaller(cut(self._picture, x, y, width, height), shrink)


def to_largest_page(picture: Any) -> None:
    """Of a TIFF in strips of several pages, Pillow's picture turns to the largest: the first may be a thumbnail."""
    if picture.format != "TIFF" or getattr(picture, "n_frames", 1) == 1:
        return
    sizes = []
    for page in range(picture.n_frames):
        picture.seek(page)
        sizes.append(picture.width * picture.height)
    picture.seek(sizes.index(max(sizes)))
