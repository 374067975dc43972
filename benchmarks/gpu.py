"""Claim: one GPU computes the training step, the encoder and the couplings faster than this machine's CPU, with the
same numbers to 1e-3.

Run    python -m benchmarks.gpu [--slide SLIDE.svs] [--seconds 480] [--small]
Parts  steps      forward and backward of `paper` and `compact`, against the peer (benchmarks/peer_mcti.py), whose
                  couplings are solved on the CPU, and against the same code on the CPU; the logits of `paper` are
                  compared with both, those of `compact`, another model, with its own on the CPU
       busy       share of the time of a step in which the GPU computes (torch.profiler)
       encoder    tiles/s of a vision transformer of the size of ViT-L/14 with random weights (bfloat16, channels-last,
                  compiled), fed by the reader of mcti from a slide; without --slide a painted one
       sinkhorn   a batch of entropic couplings against POT's batched solver on the same device
Without a GPU, and with --small, the sizes are small and the device is the CPU: every part still runs. A part that would
begin after --seconds is listed as not measured. Exit status 1 when numbers differ by more than 1e-3.
"""

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import ot
import torch
from torch import Tensor, nn

from benchmarks import model_throughput, slides_memory
from benchmarks.model_transport import tokens_cost
from benchmarks.peer_mcti import PeerMCTI
from mcti.model.network import MCTI
from mcti.model.transport import sinkhorn
from mcti.slides import probe
from mcti.slides.tiles import Grid, TileSource

TOLERANCE = 1e-3
"""Largest difference between the devices, and to POT, relative to the largest absolute value."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """width, critical, task, patches, features, genes: of the paper network and its bag (as model_throughput)

    depth, tokens_width  of the encoder; batch: tiles per forward pass; tiles: read in all; edge: px of a painted slide
    couplings, points    batch of the transport problem, tokens per side
    """

    width: int = 1024
    critical: int = 256
    task: int = 240
    patches: int = 4000
    features: int = 1024
    genes: int = 1558
    depth: int = 24
    tokens_width: int = 1024
    batch: int = 128
    tiles: int = 2048
    edge: int = 24_576
    couplings: int = 64
    points: int = 512


SMALL = Sizes(
    width=64, critical=32, task=32, patches=300, features=64, genes=60, depth=2, tokens_width=64, batch=8, tiles=16,
    edge=2048, couplings=8, points=32,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of the report; gap: relative difference of the numbers, None where nothing is compared."""

    name: str
    measured: str
    gap: float | None = None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slide", type=Path, help="a slide that mcti's own reader reads, as an SVS")
    parser.add_argument("--seconds", type=float, default=480)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*reg_type.*")
    on_gpu = torch.cuda.is_available()
    sizes = Sizes() if on_gpu and not options.small else SMALL
    device = torch.device("cuda" if on_gpu else "cpu")
    if not on_gpu:
        torch.set_num_threads(1)  # the small sizes cost less than the wait of the threads for each other
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name() if on_gpu else 'no GPU'}, {sizes}")
    lines = report(sizes, device, options.rounds, options.slide, time.monotonic() + options.seconds)
    wrong = [line.name for line in lines if line.gap is not None and not line.gap <= TOLERANCE]
    if wrong:
        print(f"different numbers: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


def report(sizes: Sizes, device: torch.device, rounds: int, slide: Path | None, end: float) -> list[Line]:
    """Run every part that can begin before `end` (s, time.monotonic) and print its lines."""
    parts: dict[str, Callable[[], list[Line]]] = {
        "steps of paper": lambda: steps(sizes, device, rounds, "paper"),
        "steps of compact": lambda: steps(sizes, device, rounds, "compact"),
        "busy": lambda: [busy(sizes, device)],
        "encoder": lambda: [encoder(sizes, device, slide)],
        "sinkhorn": lambda: [couplings(sizes, device, rounds)],
    }
    lines = []
    for name, part in parts.items():
        for line in part() if time.monotonic() < end else [Line(name, "not measured: no time left")]:
            gap = "" if line.gap is None else f"  difference {line.gap:.1e}"
            print(f"{line.name:34} {line.measured}{gap}", flush=True)
            lines.append(line)
    return lines


def steps(sizes: Sizes, device: torch.device, rounds: int, name: str) -> list[Line]:
    """Seconds of a step of one patient on the device, of the same code on the CPU, and of the peer on the device."""
    options = argparse.Namespace(**dataclasses.asdict(sizes))
    other, inputs = model_throughput.peer(options), model_throughput.bags(options, 1)
    net = model_throughput.paper(other) if name == "paper" else model_throughput.compact(options).eval()
    moved = tuple(value.to(device) for value in inputs)
    works = {"device": _step(net.to(device), moved), "peer": _peer_step(other.to(device), moved)}
    seconds = {key: median(work, rounds, device) for key, work in works.items()}
    logits = {key: work().cpu() for key, work in works.items()}
    work = _step(net.cpu(), inputs)
    seconds["cpu"], expected = median(work, max(rounds // 2, 1), torch.device("cpu")), work()
    gaps = [difference(logits[key], expected) for key in (("device", "peer") if name == "paper" else ("device",))]
    ratios = (f"{key} {seconds[key]:.3f} s ({seconds[key] / seconds['device']:.2f}x)" for key in ("peer", "cpu"))
    measured = f"{seconds['device']:.3f} s; {', '.join(ratios)}"
    return [Line(f"{name}, step on {device.type}", measured, max(gaps))]


def _step(net: MCTI, inputs: tuple[Tensor, ...]) -> Callable[[], Tensor]:
    return lambda: model_throughput.step(net, (inputs[0], inputs[1], inputs[2]))


def _peer_step(net: PeerMCTI, inputs: tuple[Tensor, ...]) -> Callable[[], Tensor]:
    return lambda: model_throughput.peer_step(net, (inputs[0], inputs[1], inputs[2]))


def busy(sizes: Sizes, device: torch.device) -> Line:
    """Share of three steps of `paper` in which the GPU computes; without a GPU the share of one core."""
    options = argparse.Namespace(**dataclasses.asdict(sizes))
    net = model_throughput.paper(model_throughput.peer(options)).to(device)
    work = _step(net, tuple(value.to(device) for value in model_throughput.bags(options, 1)))
    work()
    synchronise(device)
    started, used = time.perf_counter(), time.process_time()
    if device.type == "cpu":
        [work() for _ in range(3)]
        return Line("busy, core of the CPU", f"{(time.process_time() - used) / (time.perf_counter() - started):.0%}")
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        [work() for _ in range(3)]
        synchronise(device)
        wall = time.perf_counter() - started
    computed = sum(event.self_device_time_total for event in profiler.key_averages()) / 1e6
    return Line("busy, GPU", f"{computed / wall:.0%} of {wall:.3f} s")


class Encoder(nn.Module):
    """A vision transformer with patches of 14 px: pixels (b, 3, 224, 224) -> (b, width)."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 14, 14)
        self.positions = nn.Parameter(0.02 * torch.randn(257, width))
        layer = nn.TransformerEncoderLayer(
            width, max(width // 64, 1), 4 * width, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """(b, 3, 224, 224) -> (b, width) of the class token."""
        rows = self.patches(pixels).flatten(2).transpose(1, 2)
        rows = torch.cat((rows.new_zeros(len(rows), 1, rows.shape[2]), rows), 1) + self.positions
        out: Tensor = self.layers(rows)[:, 0]
        return out


@torch.inference_mode()
def encoder(sizes: Sizes, device: torch.device, slide: Path | None) -> Line:
    """Tiles/s from the slide to the vectors, after one batch for the compiler; also for reading alone."""
    torch.manual_seed(0)
    net = Encoder(sizes.tokens_width, sizes.depth).eval().to(device, torch.bfloat16)
    net.patches.weight.data = net.patches.weight.data.contiguous(memory_format=torch.channels_last)
    run = torch.compile(net) if device.type == "cuda" else net
    with tempfile.TemporaryDirectory() as folder:
        path = slide or Path(folder, "painted.svs")
        if slide is None:
            slides_memory.write_slide(path, sizes.edge, aperio=True)
        started = time.perf_counter()
        batches = read_batches(path, sizes)
        reading = sum(map(len, batches)) / (time.perf_counter() - started)
        encode(run, batches[0], device)
        synchronise(device)
        started, count = time.perf_counter(), 0
        for batch in read_batches(path, sizes):
            count += len(encode(run, batch, device))
        synchronise(device)
    rate = count / (time.perf_counter() - started)
    return Line(f"encoder on {device.type}", f"{rate:.1f} tiles/s from the slide; reading alone {reading:.1f} tiles/s")


def read_batches(path: Path, sizes: Sizes) -> list[np.ndarray]:
    """The first tiles of a slide in batches (b, 224, 224, 3) uint8, each of 224 px of the finest level."""
    info = probe.examine(path, mpp=0.5)
    corners = [(x, y) for y in range(0, info.height - 224, 224) for x in range(0, info.width - 224, 224)]
    corners = corners[: sizes.tiles]
    with probe.open_reader(path, "tiff") as reader:
        source = TileSource(reader, Grid(info.width, info.height, 224, (224, 224), (224, 224)))
        tiles = [source.read(x, y, np.empty((224, 224, 3), np.uint8)) for x, y in corners]
    return [np.stack(tiles[start : start + sizes.batch]) for start in range(0, len(tiles), sizes.batch)]


def encode(run: Callable[[Tensor], Tensor], batch: np.ndarray, device: torch.device) -> Tensor:
    """Vectors (b, width) of tiles (b, 224, 224, 3); the axes are permuted, which is the channels-last layout."""
    pixels = torch.from_numpy(batch).to(device, non_blocking=True).permute(0, 3, 1, 2)
    return run(pixels.to(torch.bfloat16).div_(255))


def couplings(sizes: Sizes, device: torch.device, rounds: int) -> Line:
    """Plans of mcti and of POT's `solve_batch` in the same dtype, on the same device."""
    cost = tokens_cost(sizes.couplings, sizes.points, 1.0).double().to(device)
    mass = torch.full(cost.shape[:2], 1 / cost.shape[1], dtype=torch.float64, device=device)
    works: dict[str, Callable[[], Tensor]] = {
        "mcti": lambda: sinkhorn(cost, entropy=0.1, tolerance=1e-6).coupling,
        "POT": lambda: _pot(cost, mass),
    }
    plans = {name: work() for name, work in works.items()}
    seconds = {name: median(work, rounds, device) for name, work in works.items()}
    ratio = f"{seconds['mcti']:.3f} s, POT {seconds['POT']:.3f} s ({seconds['POT'] / seconds['mcti']:.1f}x)"
    return Line(f"sinkhorn on {device.type}", ratio, difference(plans["mcti"], plans["POT"]))


def _pot(cost: Tensor, mass: Tensor) -> Tensor:
    plan: Tensor = ot.solve_batch(cost, 0.1, mass, mass, max_iter=1000, tol=1e-9, grad="detach").plan
    return plan


def median(work: Callable[[], Tensor], rounds: int, device: torch.device) -> float:
    """Median seconds of a piece of work, after one run for caches and kernels."""
    work()
    seconds = []
    for _ in range(rounds):
        synchronise(device)
        started = time.perf_counter()
        work()
        synchronise(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def synchronise(device: torch.device) -> None:
    """Wait until the device has computed everything."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def difference(one: Tensor, other: Tensor) -> float:
    """Largest difference, relative to the largest absolute value of `other`; shapes equal."""
    return float((one.double() - other.double()).abs().max() / other.double().abs().max().clamp_min(1e-300))


if __name__ == "__main__":
    sys.exit(main())
