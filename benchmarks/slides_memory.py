"""Claim: the memory of an extraction hardly depends on the slide size: a slide of 98,304² px peaks at most 1.3 times as
high as one of 24,576² px, below 1.5 GiB with lite0.
Run: python benchmarks/slides_memory.py [--encoder lite0] [--small 24576] [--large 98304]
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from mcti.demo import painting
from mcti.slides import probe

_RUN = """
import resource, sys
from pathlib import Path
from mcti.params import ExtractParams
from mcti.steps.extract import extract
result = extract(sys.argv[1], ExtractParams(encoder=sys.argv[3], workers=2), Path(sys.argv[2]))
print(result.tiles, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="lite0")
    parser.add_argument("--small", type=int, default=24_576)
    parser.add_argument("--large", type=int, default=98_304)
    options = parser.parse_args()
    peaks = [peak(edge, options.encoder) for edge in (options.small, options.large)]
    print(f"{options.encoder}: {options.large}² over {options.small}²: {peaks[1] / peaks[0]:.2f}x, {peaks[1]:.2f} GiB")


def peak(edge: int, encoder: str) -> float:
    """Peak resident memory of one extraction, GiB, in a separate process."""
    with tempfile.TemporaryDirectory() as folder:
        slides = Path(folder, "slides")
        slides.mkdir()
        write_slide(slides / "S.tif", edge)
        command = [sys.executable, "-c", _RUN, str(slides), str(Path(folder, "out")), encoder]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        print(f"{edge}²: {output[0]} tiles, {int(output[1]) / 2**20:.2f} GiB")
        return int(output[1]) / 2**20


def write_slide(path: Path, edge: int, *, aperio: bool = False) -> None:
    """A slide of `edge`² px at 0.25 µm/px from the repeated tiles of one painted slide; two levels with factor 4.

    aperio  with the description of an SVS, else generic TIFF
    """
    description = f"Aperio Image Library (painted)\r\n{edge}x{edge} (256x256) JPEG/RGB Q=80|AppMag = 40|MPP = 0.25"
    encoded = painted_tiles(path.with_name("painted.tmp"))
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for level, size in enumerate((edge, edge // 4)):
            writer.write(
                repeat_tiles(encoded, size),
                shape=(size, size, 3),
                dtype=np.uint8,
                subfiletype=level,
                description=description if aperio else None,
                **options(level),
            )


def options(level: int) -> dict[str, Any]:
    return {
        "tile": (256, 256),
        "photometric": "rgb",
        "compression": "jpeg",
        "resolution": (40_000 / 4**level, 40_000 / 4**level),
        "resolutionunit": "CENTIMETER",
        "metadata": None,
        "maxworkers": 1,
    }


def painted_tiles(draft: Path) -> list[list[bytes]]:
    """Eight rows of eight encoded tiles, encoded once for any slide size."""
    painting.paint(draft, seed=0, grade=2, er_positive=True)
    with probe.open_reader(draft, "tiff") as reader:
        block = reader.read(0, 0, 0, 2048, 2048)
    tifffile.imwrite(draft, block, **options(0))
    data = draft.read_bytes()
    with tifffile.TiffFile(draft) as file:
        page = file.pages[0]
        tiles = [data[o : o + c] for o, c in zip(page.dataoffsets, page.databytecounts, strict=True)]
    draft.unlink()
    return [tiles[i : i + 8] for i in range(0, 64, 8)]


def repeat_tiles(encoded: list[list[bytes]], size: int) -> Iterator[bytes]:
    for row in range(size // 256):
        for column in range(size // 256):
            yield encoded[row % 8][column % 8]


if __name__ == "__main__":
    main()
