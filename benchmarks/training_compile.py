"""Question: does torch.compile make training on the CPU faster? Prints the ratio, and what compiling costs first.

Run    python -m benchmarks.training_compile [--presets compact paper] [--steps 12] [--patches 300] [--spread 0.5]
Prints for each preset: seconds until the first compiled step ends, seconds per step plain and compiled (A B A B …,
so that both have the same noise) with the interval of the ratio, the largest gap between the losses of the two, and the
number of steps after which the time of the compilation is recovered.
With `--spread 0` all bags have one length, the kindest case; 0.5: half to one and a half times `--patches`, as bags
come. Peers: the same network, data and loop, with and without `net.compile()` (inductor, shapes marked dynamic).
Preset `paper` is taken smaller (width 64), or two cores would take hours.
"""

import argparse
import os
import statistics
import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch._inductor.config

from mcti.dataset.bags import Dataset, PatientBag
from mcti.params import TrainParams
from mcti.training import folds as folding
from mcti.training.loop import reproducible
from mcti.training.run import Run, Task

FEATURES, GENES, PATIENTS, BATCH = 192, 400, 64, 16
SMALL_PAPER = {"width": 64, "query": 32, "gene_width": 64}


@dataclass
class Side:
    """One of the two: its run, seconds of each step, losses."""

    run: Run
    seconds: list[float]
    losses: list[float]

    def step(self) -> None:
        """One step of training, timed."""
        start = time.perf_counter()
        self.run.advance("none")
        self.seconds.append(time.perf_counter() - start)
        self.losses.append(self.run.state.last_loss)


def cohort(patches: int, spread: float) -> Dataset:
    """Bags of `patches` more or less."""
    random, bags = np.random.default_rng(0), {}
    for i in range(PATIENTS):
        rows = torch.from_numpy(
            random.normal(size=(int(patches * random.uniform(1 - spread, 1 + spread)), FEATURES)).astype("f4")
        )
        genes = torch.from_numpy(random.normal(size=GENES).astype("f4"))
        bags[f"P{i}"] = PatientBag(f"P{i}", rows, genes, float(random.exponential(30)) + 0.1, bool(i % 3), i % 2)
    return Dataset(bags, tuple(f"g{i}" for i in range(GENES)), ("A", "B"))


def task(data: Dataset, preset: str, steps: int) -> Task:
    """A training of this number of steps."""
    architecture = SMALL_PAPER if preset == "paper" else {}
    epochs = -(-steps * BATCH // PATIENTS) + 1
    settings = {"preset": preset, "architecture": architecture, "epochs": epochs, "batch_patients": BATCH}
    params = TrainParams.model_validate({**settings, "device": "cpu", "threads": 1})
    return folding.prepare(data, list(data.bags.values()), params, ("compile",), preset)


def measure(data: Dataset, preset: str, steps: int) -> str:
    """The line of one preset."""
    plain, compiled = (Side(Run(task(data, preset, steps), torch.device("cpu")), [], []) for _ in range(2))
    torch._dynamo.config.specialize_float = True  # else the dropout rate becomes a symbol, which has no power of -0.5
    torch._inductor.config.fallback_random = True  # or inductor draws dropout masks of its own
    compiled.run.state.net.compile(dynamic=True)
    plain.step()
    compiled.step()
    first = compiled.seconds[0] - plain.seconds[0]
    for _ in range(steps - 1):
        plain.step()
        compiled.step()
    # The second step may compile once more, for a shape that turned out to vary.
    ratios = np.array(plain.seconds[2:]) / np.array(compiled.seconds[2:])
    drawn = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    a, b = (statistics.median(side.seconds[2:]) for side in (plain, compiled))
    gap = max(abs(x - y) for x, y in zip(plain.losses, compiled.losses, strict=True))
    won = f"won back after {first / (a - b):.0f} steps" if a > b else "never won back"
    return (
        f"{preset:8} compiling {first:.0f} s; a step {a:.2f} s plain, {b:.2f} s compiled: {np.median(ratios):.2f} "
        f"[{low:.2f}, {high:.2f}] times as fast; {won}; losses differ by {gap:.1e}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["compact", "paper"])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--patches", type=int, default=300)
    parser.add_argument("--spread", type=float, default=0.5)
    args = parser.parse_args()
    data = cohort(args.patches, args.spread)
    data_text = f"{BATCH} patients of {args.patches} patches ± {args.spread:.0%}"
    print(f"torch {torch.__version__}, {os.cpu_count()} cores, one thread, {data_text}")
    with reproducible(1):
        for preset in args.presets:
            print(measure(data, preset, args.steps), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
