"""Claim: 256 px tiles of an Aperio SVS read at least 6 times as fast as through OpenSlide, 512 to 256 px 8 times, at no
less than 0.9 of the bare decoder, with the same pixels.
Run: python -m benchmarks.slides_read [SLIDE.svs] [--rounds 7]; without a slide it paints one of 24,576² px.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import openslide
from PIL import Image

from benchmarks.slides_memory import write_slide
from mcti.slides import probe, tiff
from mcti.slides.tiles import Grid, TileSource


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slide", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tiles", type=int, default=2000, help="largest number of tiles per round")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        slide = options.slide or Path(folder, "painted.svs")
        if not options.slide:
            write_slide(slide, 24_576, aperio=True)
        for size in (256, 512):
            compare(slide, size, options.rounds, options.tiles)
        bare(slide, options.rounds, options.tiles)


def compare(path: Path, size: int, rounds: int, limit: int) -> None:
    """Direct reader against OpenSlide (with Pillow's LANCZOS where the tile is made smaller)."""
    info = probe.examine(path, mpp=0.5)
    corners = [(x, y) for y in range(0, info.height - size, size) for x in range(0, info.width - size, size)]
    corners = corners[:limit]
    grid = Grid(info.width, info.height, 256, (size, size), (size, size))
    buffer = np.empty((256, 256, 3), np.uint8)  # extraction uses the memory of its batches again, too

    def direct() -> Iterator[np.ndarray]:
        with probe.open_reader(path, "tiff") as reader:
            source = TileSource(reader, grid)
            for x, y in corners:
                yield source.read(x, y, buffer)

    def peer() -> Iterator[np.ndarray]:
        with openslide.OpenSlide(path) as slide:
            for corner in corners:
                picture = slide.read_region(corner, 0, (size, size)).convert("RGB")
                yield np.asarray(picture if size == 256 else picture.resize((256, 256), Image.Resampling.LANCZOS))

    gap = max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(direct(), peer(), strict=True))
    name = f"{size} to 256 px, {len(corners)} tiles, OpenSlide {openslide.__library_version__}"
    report(name, lambda: consume(direct()), lambda: consume(peer()), rounds, gap)


def consume(tiles: Iterator[np.ndarray]) -> None:
    """Read one tile after the other and keep none: memory allocation is not part of the measurement."""
    for _ in tiles:
        pass


def bare(path: Path, rounds: int, limit: int) -> None:
    """Direct reader on whole native tiles against imagecodecs on their bytes."""
    data = path.read_bytes()
    page = tiff.directories(lambda offset, count: data[offset : offset + count], len(data))[0]
    if page.compression != 7:
        print("bare decode: only for JPEG slides")
        return
    chunks = [data[int(o) : int(o + c)] for o, c in zip(page.offsets[:limit], page.counts[:limit], strict=True)]
    across, down = page.tile
    buffer = np.empty((down, across, 3), np.uint8)
    space = 3 if page.photometric == 6 else 2

    def direct() -> None:
        with probe.open_reader(path, "tiff") as reader:
            for i in range(len(chunks)):
                row, column = divmod(i, page.grid[0])
                reader.read(0, column * across, row * down, across, down, buffer=buffer)

    def peer() -> None:
        for chunk in chunks:
            imagecodecs.jpeg8_decode(chunk, tables=page.jpeg_tables, colorspace=space, outcolorspace=2, out=buffer)

    report(f"native tiles, imagecodecs {imagecodecs.__version__}", direct, peer, rounds, 0)


def report(name: str, direct: Callable[[], object], peer: Callable[[], object], rounds: int, gap: int) -> None:
    """Print median and range of the ratio of CPU times; A B A B …, so that both have the same noise."""
    ratios = []
    for _ in range(rounds):
        took = []
        for run in (direct, peer):
            start = time.process_time()
            run()
            took.append(time.process_time() - start)
        ratios.append(took[1] / took[0])
    middle = statistics.median(ratios)
    print(
        f"{name}: {middle:.2f}x ({min(ratios):.2f}-{max(ratios):.2f}), largest gap {gap}, load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
