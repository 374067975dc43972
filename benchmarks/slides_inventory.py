"""Claim: the inventory checks at least 200 slides/s, and a re-run of 1,000 unchanged slides takes at most 2 s.
Run: python benchmarks/slides_inventory.py [--slides 1000] [--rounds 5]
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mcti.demo import painting
from mcti.params import ExtractParams, TissueParams
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
        for i in range(1, options.slides):  # a trailing number, so that no two files are equal
            (slides / f"S{i:04d}.tif").write_bytes(data + str(i).encode())
        times = [wall_and_cpu(lambda: inventory(slides, Path(folder, "i.csv"))) for _ in range(options.rounds)]
        for name, taken in zip(("s", "CPU second"), zip(*times, strict=True), strict=True):
            rates = [options.slides / seconds for seconds in taken]
            summary = f"{statistics.median(rates):.0f} slides per {name} ({min(rates):.0f}-{max(rates):.0f})"
            print(f"inventory: {summary}, {load()}")
        # Few tiles per slide: the benchmark does not measure the extraction itself.
        params = ExtractParams(resolution=2.0, tile=512, tissue=TissueParams(min_sharpness=0))
        extract(slides, params, out)
        times = [wall_and_cpu(lambda: extract(slides, params, out)) for _ in range(options.rounds)]
        for name, taken in zip(("wall", "CPU"), zip(*times, strict=True), strict=True):
            summary = f"{statistics.median(taken):.2f} s {name} ({min(taken):.2f}-{max(taken):.2f})"
            print(f"unchanged re-run of {options.slides}: {summary}, {load()}")


def wall_and_cpu(run: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds: the waiting time of a user, and the time on an idle machine."""
    start, used = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - start, time.process_time() - used


def load() -> str:
    return f"load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
