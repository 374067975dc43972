"""Claim: hed44 encodes at least 250 tiles/s a core; extraction with lite0 runs at 0.9 or more of the encoder alone and
at least 4 times as fast as OpenSlide with torch in eager mode. Run: python benchmarks/slides_extract.py [--slides 8]
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import openslide

from mcti.params import ExtractParams
from mcti.slides import encoders, features, opening, painting
from mcti.steps.extract import extract


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slides", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        slides = Path(folder, "slides")
        slides.mkdir()
        for i in range(options.slides):
            painting.paint(slides / f"P{i}.tif", seed=i, grade=i % 3 + 1, er_positive=True)
        tiles = some_tiles(slides / "P0.tif")
        hed44(tiles, options.rounds)
        whole(slides, tiles, options.rounds)
        eager(slides / "P0.tif", tiles, options.rounds)


def some_tiles(path: Path) -> list[np.ndarray]:
    with opening.open_reader(path, "tiff") as reader:
        return [reader.read(0, x, y, 256, 256) for y in range(0, 2048, 256) for x in range(0, 2048, 256)]


def cpu(run) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def hed44(tiles: list[np.ndarray], rounds: int) -> None:
    encoder = encoders.make("hed44", 0.5)
    rates = [len(tiles) / cpu(lambda: encoder.encode(tiles)) for _ in range(rounds)]
    print(f"hed44: {statistics.median(rates):.0f} tiles/s a core ({min(rates):.0f}-{max(rates):.0f}), {load()}")


def whole(slides: Path, tiles: list[np.ndarray], rounds: int) -> None:
    """The whole extraction's tiles per CPU second over the encoder's own, one thread each."""
    encoder = encoders.make("lite0", 0.5)
    encoder.encode(tiles[:1])
    ratios = []
    for _ in range(rounds):
        alone = len(tiles) / cpu(lambda: encoder.encode(tiles))
        with tempfile.TemporaryDirectory() as out:
            took = cpu(lambda: extract(slides, ExtractParams(encoder="lite0", workers=1), Path(out)))
            count = sum(len(features.read(path)[0]) for path in Path(out).glob("*.h5"))
        ratios.append(count / took / alone)
    middle = statistics.median(ratios)
    print(f"lite0, whole over encoder alone: {middle:.2f} ({min(ratios):.2f}-{max(ratios):.2f}), {load()}")


def eager(path: Path, tiles: list[np.ndarray], rounds: int) -> None:
    """Reading and encoding one slide's tiles against OpenSlide and the same network in torch, eager mode."""
    import sys

    import torch

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.slides.test_encoders import torch_lite0

    torch.set_num_threads(1)
    encoder = encoders.make("lite0", 0.5)
    encoder.encode(tiles[:1])

    def ours() -> np.ndarray:
        return encoder.encode(some_tiles(path))

    def theirs() -> np.ndarray:
        with openslide.OpenSlide(path) as slide, torch.inference_mode():
            corners = [(x, y) for y in range(0, 2048, 256) for x in range(0, 2048, 256)]
            read = [np.asarray(slide.read_region(corner, 0, (256, 256)).convert("RGB")) for corner in corners]
            return torch_lite0(torch.from_numpy((encoders.to_batch(read, 224) - 127) / 128)).numpy()

    gap = float(np.abs(ours() - theirs()).max())
    ratios = [1 / (cpu(ours) / cpu(theirs)) for _ in range(rounds)]
    middle = statistics.median(ratios)
    print(f"read + lite0 against OpenSlide + torch {torch.__version__}: {middle:.2f}x, largest gap {gap:.1e}, {load()}")


def load() -> str:
    return f"load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
