"""Claim: the inventory checks at least 200 slides/s, and a re-run of 1,000 unchanged slides takes at most 2 s.
Run: python benchmarks/slides_inventory.py [--slides 1000] [--rounds 5]
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from mcti.demo import painting
from mcti.params import ExtractParams
from mcti.steps.extract import extract
from mcti.steps.inventory import inventory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slides", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        slides, out = Path(folder, "slides"), Path(folder, "out")
        slides.mkdir()
        painting.paint(slides / "S0000.tif", seed=0, grade=2, er_positive=True)
        data = (slides / "S0000.tif").read_bytes()
        for i in range(1, options.slides):  # a trailing number, so that no two are the same
            (slides / f"S{i:04d}.tif").write_bytes(data + str(i).encode())
        times = [both(lambda: inventory(slides, Path(folder, "i.csv"))) for _ in range(options.rounds)]
        for name, taken in zip(("s", "CPU second"), zip(*times, strict=True), strict=True):
            rates = [options.slides / seconds for seconds in taken]
            told = f"{statistics.median(rates):.0f} slides a {name} ({min(rates):.0f}-{max(rates):.0f})"
            print(f"inventory: {told}, {load()}")
        # One tile a slide: the extraction itself is not what is measured.
        params = ExtractParams(resolution=2.0, tile=512, tissue={"min_sharpness": 0})
        extract(slides, params, out)
        times = [both(lambda: extract(slides, params, out)) for _ in range(options.rounds)]
        for name, taken in zip(("wall", "CPU"), zip(*times, strict=True), strict=True):
            told = f"{statistics.median(taken):.2f} s {name} ({min(taken):.2f}-{max(taken):.2f})"
            print(f"unchanged re-run of {options.slides}: {told}, {load()}")


def both(run) -> tuple[float, float]:
    """Wall and CPU seconds: the first is what a user waits, the second what it is when nobody else computes."""
    start, used = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - start, time.process_time() - used


def load() -> str:
    return f"load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
