"""Writes a picture as a pyramidal TIFF that the slide readers open."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TILE = 256
"""Edge of a tile in pixels."""
_QUALITY = 75  # of JPEG


def write_pyramid(out: Path, picture: NDArray[np.uint8], mpp: float = 0.5, levels: int = 3) -> None:
    """Write `picture` (height, width, 3) as a tiled JPEG pyramid with metadata in Aperio's form.

    mpp     resolution of the finest level in µm/px
    levels  each level has half the width and height of the level before
    The file holds no date and no name, so equal arguments give equal bytes.
    """
    import cv2
    import tifffile

    height, width = picture.shape[:2]
    power = 10.0 / mpp
    description = (
        f"Aperio Image Library (painted)\r\n{width}x{height} ({TILE}x{TILE}) JPEG/RGB Q={_QUALITY}"
        f"|AppMag = {power:g}|MPP = {mpp:g}"
    )
    options: dict[str, Any] = {
        "tile": (TILE, TILE),
        "photometric": "rgb",
        "compression": "jpeg",
        "compressionargs": {"level": _QUALITY},
        "metadata": None,
        "software": False,
        "maxworkers": 1,
    }
    with tifffile.TiffWriter(out) as writer:
        for level in range(levels):
            scale = 10_000.0 / mpp / 2**level  # pixels per centimetre
            writer.write(
                picture,
                description=description,
                resolution=(scale, scale),
                resolutionunit="CENTIMETER",
                subfiletype=1 if level else 0,
                **options,
            )
            picture = cv2.resize(picture, (picture.shape[1] // 2, picture.shape[0] // 2), interpolation=cv2.INTER_AREA)
