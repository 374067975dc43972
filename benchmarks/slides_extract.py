"""Claim: hed44 encodes at least 250 tiles/s per core. An extraction with lite0 (tissue, tiles, features, preview,
files) of a slide of 1,024 tiles reaches at least 0.9 of the rate of the encoder alone, and at least 4 times the rate
of a plain loop of OpenSlide and torch in eager mode, with the same features. Run: python -m benchmarks.slides_extract
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import torch

from benchmarks.slides_memory import write_slide
from mcti.params import ExtractParams
from mcti.slides import encoder_protocol, encoders, features, probe
from mcti.steps.extract import extract
from tests.slides.torch_lite0 import torch_lite0

_TILE, _BATCH = 256, 64
_MPP = 0.25  # of the slide that slides_memory makes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--edge", type=int, default=8192, help="edge of the slide in px; a real one has five times that"
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        slide = Path(folder, "S.tif")
        write_slide(slide, options.edge)
        tiles = some_tiles(slide)
        hed44(tiles, options.rounds)
        lite0(slide, tiles, options.rounds)


def some_tiles(path: Path) -> list[np.ndarray]:
    with probe.open_reader(path, "tiff") as reader:
        return [reader.read(0, x, y, _TILE, _TILE) for y in range(0, 2048, _TILE) for x in range(0, 2048, _TILE)]


def hed44(tiles: list[np.ndarray], rounds: int) -> None:
    encoder = encoders.make("hed44", 0.5)
    rates = [len(tiles) / cpu(encoder.encode, tiles)[0] for _ in range(rounds)]
    print(f"hed44: {summary(rates, '.0f')} tiles/s per core, {load()}")


def lite0(slide: Path, tiles: list[np.ndarray], rounds: int) -> None:
    """Tiles per CPU second of the whole extraction, of its encoder alone and of a plain loop; one thread each."""
    encoder = encoders.make("lite0", _MPP)
    encoder.encode(tiles[:1])
    params = ExtractParams(encoder="lite0", resolution=_MPP, workers=1)
    over_encoder, over_plain, gaps = [], [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as out:
            took = cpu(extract, slide, params, Path(out))[0]
            numbers, corners = features.read(Path(out, "S.h5"))
        assert corners is not None, "extraction writes coordinates"
        rate = len(corners) / took
        over_encoder.append(rate / (len(tiles) / cpu(encoder.encode, tiles)[0]))
        took, plain = cpu(plain_loop, slide, corners[:_BATCH])
        over_plain.append(rate / (len(plain) / took))
        gaps.append(float(np.abs(plain - numbers[:_BATCH]).max()))
    print(f"lite0, {len(numbers)} tiles, extraction over the encoder alone: {summary(over_encoder)}, {load()}")
    peer = f"OpenSlide {openslide.__library_version__} + torch {torch.__version__} eager"
    print(f"lite0, extraction over {peer}: {summary(over_plain)}x, largest gap {max(gaps):.1e}, {load()}")


def plain_loop(slide: Path, corners: np.ndarray) -> np.ndarray:
    """Features (n, 1280) as a simple script computes them."""
    with openslide.OpenSlide(slide) as opened, torch.inference_mode():
        read = [opened.read_region(corner, 0, (_TILE, _TILE)).convert("RGB") for corner in corners.tolist()]
        batch = (encoder_protocol.to_batch([np.asarray(picture) for picture in read], 224) - 127) / 128
        return torch_lite0(torch.from_numpy(batch)).numpy()


def cpu(run: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """CPU seconds and the result; on a shared machine wall time would depend on other processes."""
    start = time.process_time()
    result = run(*arguments)
    return time.process_time() - start, result


def summary(values: list[float], number_format: str = ".2f") -> str:
    return f"{statistics.median(values):{number_format}} ({min(values):{number_format}}-{max(values):{number_format}})"


def load() -> str:
    return f"load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
