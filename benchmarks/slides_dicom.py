"""Claim: 256 px tiles of a DICOM slide read at least twice as fast per core as through OpenSlide, with the same pixels.

Run: python benchmarks/slides_dicom.py FOLDER [--rounds 9]; FOLDER holds one series, e.g. as wsidicomizer writes it.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openslide

from mcti.slides import probe, slide_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    path = Path(slide_files.resolve(options.folder))
    largest = max(
        np.abs(a.astype(int) - b).max() for a, b in zip(tiles(path, "dicom"), tiles(path, "openslide"), strict=True)
    )
    ratios = [seconds(path, "openslide") / seconds(path, "dicom") for _ in range(options.rounds)]
    spread = f"{statistics.median(ratios):.1f}x ({min(ratios):.1f}-{max(ratios):.1f})"
    print(f"DICOM, 256 px: {spread} of OpenSlide {openslide.__library_version__}, CPU seconds, largest gap {largest}")


def seconds(path: Path, reader: str) -> float:
    start = time.process_time()
    for _ in tiles(path, reader):
        pass
    return time.process_time() - start


def tiles(path: Path, reader: str) -> Iterator[np.ndarray]:
    with probe.open_reader(path, reader) as slide:
        level = slide.levels[0]
        for y in range(0, level.height, 256):
            for x in range(0, level.width, 256):
                yield slide.read(0, x, y, 256, 256)


if __name__ == "__main__":
    main()
