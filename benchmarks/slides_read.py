"""Claim: 256 px tiles of an Aperio SVS read at least 5 times as fast as through OpenSlide, 512 to 256 px 8 times, at no
less than 0.85 of the bare decoder, with the same pixels. Run: python benchmarks/slides_read.py SLIDE.svs [--rounds 7]
"""

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import openslide
from PIL import Image

from mcti.slides import probe, tiff
from mcti.slides.tiles import Grid, TileSource


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slide", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    import cv2

    cv2.setNumThreads(1)
    for size in (256, 512):
        compare(options.slide, size, options.rounds)
    bare(options.slide, options.rounds)


def compare(path: Path, size: int, rounds: int) -> None:
    """Direct reader against OpenSlide (with Pillow's LANCZOS where the tile is made smaller)."""
    facts = probe.examine(path, mpp=0.5)
    corners = [(x, y) for y in range(0, facts.height - size, size) for x in range(0, facts.width - size, size)]
    grid = Grid(facts.width, facts.height, 256, (size, size), (size, size))

    def ours() -> Iterator[np.ndarray]:
        with probe.open_reader(path, "tiff") as reader:
            source = TileSource(reader, grid)
            for x, y in corners:
                yield source.read(x, y)

    def theirs() -> Iterator[np.ndarray]:
        with openslide.OpenSlide(path) as slide:
            for corner in corners:
                picture = slide.read_region(corner, 0, (size, size)).convert("RGB")
                yield np.asarray(picture if size == 256 else picture.resize((256, 256), Image.Resampling.LANCZOS))

    gap = max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(ours(), theirs(), strict=True))
    name = f"{size} to 256 px, {len(corners)} tiles, OpenSlide {openslide.__library_version__}"
    report(name, lambda: used(ours()), lambda: used(theirs()), rounds, gap)


def used(tiles: Iterator[np.ndarray]) -> None:
    """One tile after the other, none kept: the kernel's time for fresh pages is nobody's reading."""
    for _ in tiles:
        pass


def bare(path: Path, rounds: int) -> None:
    """Direct reader on whole native tiles against imagecodecs on their bytes alone."""
    data = path.read_bytes()
    page = tiff.directories(lambda offset, count: data[offset : offset + count], len(data))[0]
    if page.compression != 7:
        print("bare decode: only for JPEG slides")
        return
    chunks = [data[int(o) : int(o + c)] for o, c in zip(page.offsets, page.counts, strict=True)]
    across, down = page.tile
    columns, rows = page.grid
    space = 3 if page.photometric == 6 else 2

    def ours() -> None:
        with probe.open_reader(path, "tiff") as reader:
            for row in range(rows):
                for column in range(columns):
                    reader.read(0, column * across, row * down, across, down)

    def theirs() -> None:
        for chunk in chunks:
            imagecodecs.jpeg8_decode(chunk, tables=page.jpeg_tables, colorspace=space, outcolorspace=2)

    report(f"native tiles, imagecodecs {imagecodecs.__version__}", ours, theirs, rounds, 0)


def report(name: str, ours, peer, rounds: int, gap: int) -> None:
    """A B A B …, so that both meet the same noise; the ratio of each pair, its median and range. CPU time of a core."""
    ratios = []
    for _ in range(rounds):
        took = []
        for run in (ours, peer):
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
