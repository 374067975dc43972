"""Claims: the same mathematics costs less than the reference's way of computing it, and `compact` runs on a laptop.

Peer: benchmarks/peer_mcti.py, one patient at a time, one ot.emd a coupling, in the same run and with the same weights.
Times are medians of interleaved steps (forward and backward); memory is the peak of a process of its own. Both keep the
memory of freed tensors, as `mcti train` does (mcti/training/allocator.py).
Run:   python -m benchmarks.model_throughput [--rounds 5] [--threads 2] [--patches 4000] [--only float32,batching]
Small: python -m benchmarks.model_throughput --rounds 2 --width 64 --critical 32 --task 32 --patches 500
"""

import argparse
import contextlib
import json
import signal
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.peer_mcti import PeerMCTI
from mcti.model import reference
from mcti.model.network import MCTI
from mcti.model.presets import preset
from mcti.training import bf16_adafactor
from mcti.training.allocator import kept_memory

Row = tuple[str, str, str, str]  # what, measured, goal, gap or note


def peer(options: argparse.Namespace) -> PeerMCTI:
    torch.manual_seed(0)
    warnings.filterwarnings("ignore", message=".*reg_type.*")
    sizes = {"features": options.features, "genes": options.genes, "classes": 2, "bins": 4, "width": options.width}
    other = PeerMCTI(**sizes, query=128, critical=options.critical, tokens=8, task=options.task)
    return other.eval()  # no dropout: both must give the same answer


def published(options: argparse.Namespace) -> PeerMCTI:
    """The peer with the convolution that the published classifier holds and never runs: 4.3 GB at its size."""
    other = peer(options)
    other.b_classifier.fcc = torch.nn.Conv1d(options.features, options.width, options.features)
    return other


def paper(other: PeerMCTI) -> MCTI:
    """mcti with the peer's weights."""
    converted = reference.translate(other.state_dict())
    net = MCTI(converted.config).eval()
    net.load_state_dict(converted.weights, assign=True)
    return net.requires_grad_()


def compact(options: argparse.Namespace) -> MCTI:
    torch.manual_seed(0)
    names = [f"G{number}" for number in range(options.genes)]
    return MCTI(preset("compact", features=options.features, genes=names, classes=("a", "b"), bins=4))


def bags(options: argparse.Namespace, count: int, patches: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(count, patches or options.patches, options.features, generator=generator)
    genes = torch.randn(count, options.genes, generator=generator)
    return rows, torch.ones(rows.shape[:2], dtype=torch.bool), genes


def step(net: MCTI, inputs: tuple[Tensor, Tensor, Tensor], *, half: bool = False) -> Tensor:
    """Forward and backward; the logits."""
    net.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext():
        output = net(*inputs)
    (output.hazard_logits.sum() + output.subtype_logits.sum() + output.instance_logits.sum()).backward()
    return torch.cat([output.subtype_logits, output.hazard_logits], 1).detach()


def peer_step(net: PeerMCTI, inputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    net.zero_grad(set_to_none=True)
    subtype, hazard = net(inputs[0][0], inputs[2][0])
    (subtype.sum() + hazard.sum()).backward()
    return torch.cat([subtype, hazard])[None].detach()


def medians(works: dict[str, Callable[[], Tensor]], rounds: int) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Median seconds of each, A B C A B C …: all meet the same noise; and what each answered."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    answers = {name: work() for name, work in works.items()}
    for _ in range(rounds):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}, answers


def against(options: argparse.Namespace, name: str, goal: float) -> list[Row]:
    """One mcti model against the peer's step, both of one patient."""
    other, inputs = peer(options), bags(options, 1)
    mcti = compact(options) if name == "compact" else paper(other)
    works = {"peer": lambda: peer_step(other, inputs), name: lambda: step(mcti, inputs, half=name == "paper, bf16")}
    times, answers = medians(works, options.rounds)
    gap = "another model" if name == "compact" else f"gap {float((answers[name] - answers['peer']).abs().max()):.1e}"
    note = f"peer {times['peer']:.2f} s, mcti {times[name]:.2f} s, {gap}"
    return [(f"{name}: faster than the peer", f"{times['peer'] / times[name]:.1f}x", f">= {goal}x", note)]


def compact_training(options: argparse.Namespace) -> list[Row]:
    """Patients a second with the optimizer, in training mode."""
    net, inputs = compact(options).train(), bags(options, 4)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)

    def work() -> Tensor:
        output = step(net, inputs)
        optimizer.step()
        return output

    times, _ = medians({"train": work}, options.rounds)
    return [("compact, training", f"{4 / times['train']:.1f} patients/s", ">= 4", f"N = {options.patches}")]


def batching(options: argparse.Namespace) -> list[Row]:
    """Eight patients at once against one after the other, compact."""
    net, inputs = compact(options).eval(), bags(options, 8, 64)
    x, mask, genes = inputs
    single = [(x[row : row + 1], mask[row : row + 1], genes[row : row + 1]) for row in range(8)]
    works = {"together": lambda: step(net, inputs), "apart": lambda: torch.cat([step(net, one) for one in single])}
    times, answers = medians(works, options.rounds)
    gap = float((answers["together"] - answers["apart"]).abs().max())
    return [("batch of 8 against 8 steps", f"{times['apart'] / times['together']:.1f}x", ">= 1.3x", f"gap {gap:.1e}")]


def bag_branch(options: argparse.Namespace) -> list[Row]:
    """Memory above the bag itself and time against N, compact and paper."""
    rows = []
    for name in ("compact", "paper"):
        few, many = (_measured(options, f"bag-{name}", patches) for patches in (4000, 64000))
        added = (many["peak_mb"] - few["peak_mb"]) - (many["bag_mb"] - few["bag_mb"])
        per_patch = (many["seconds"] / 64000) / (few["seconds"] / 4000)
        note = f"time per patch x{per_patch:.2f}"
        rows.append((f"{name}: N = 64,000 over 4,000 adds, bag aside", f"{added:.0f} MB", "<= 120 MB", note))
    return rows


def memory(options: argparse.Namespace) -> list[Row]:
    """Peak of one step in a process of its own, above an idle one."""
    base = _measured(options, "idle", 1)["peak_mb"]
    peaks = {
        name: _measured(options, name, options.patches)["peak_mb"] - base
        for name in ("published", "peer", "paper-float32", "paper-bf16", "compact")
    }
    rows = [
        ("peer as published: peak of a step", f"{peaks['published']:.0f} MB", "-", "with the weights it never uses")
    ]
    for name, goal in (("paper-float32", 0.5), ("paper-bf16", 0.3)):
        rows.append((f"{name}: share of that", *_share(peaks[name], peaks["published"], peaks["peer"], goal)))
    rows.append(("compact: whole process, training", f"{peaks['compact'] + base:.0f} MB", "<= 700 MB", "optimizer too"))
    return rows


def optimizer(options: argparse.Namespace) -> list[Row]:
    """Peak of two steps with the optimizer: the peer with AdamW, mcti in bf16 with `bf16_adafactor`."""
    base = _measured(options, "idle", 1)["peak_mb"]
    published, peer, mcti = (
        _measured(options, name, options.patches)["peak_mb"] - base
        for name in ("published-adamw", "peer-adamw", "paper-bf16-adafactor")
    )
    return [("paper with bf16_adafactor: share of the peer's with AdamW", *_share(mcti, published, peer, 0.3))]


def _share(mcti: float, published: float, peer: float, goal: float) -> tuple[str, str, str]:
    note = f"{mcti:.0f} of {published:.0f} MB; {mcti / peer:.2f} of the {peer:.0f} MB without the unused weights"
    return f"{mcti / published:.2f}", f"<= {goal}", note


def _measured(options: argparse.Namespace, what: str, patches: int) -> dict[str, float]:
    """One step in a fresh process: its peak, its time, the size of its bag."""
    command = [sys.executable, "-m", "benchmarks.model_throughput", "--measure", what, "--patches", str(patches)]
    for name in ("width", "critical", "task", "features", "genes", "threads"):
        command += [f"--{name}", str(getattr(options, name))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def measure(options: argparse.Namespace) -> dict[str, float]:
    """What the fresh process does."""
    inputs = bags(options, 1)
    seconds = _one(options, inputs)
    return {"peak_mb": peak_mb(), "seconds": seconds, "bag_mb": inputs[0].numel() * 4 / 2**20}


def peak_mb() -> float:
    """Largest resident size of this program so far. Not ru_maxrss: a child starts with that of its parent."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def _one(options: argparse.Namespace, inputs: tuple[Tensor, Tensor, Tensor]) -> float:
    what = options.measure
    work: Callable[[], object] | None = None
    if what in ("peer", "published"):
        other = peer(options) if what == "peer" else published(options)
        work = lambda: peer_step(other, inputs)  # noqa: E731
    elif what.endswith("-adamw"):
        other = peer(options) if what == "peer-adamw" else published(options)
        adam = torch.optim.AdamW(other.parameters())
        work = lambda: [(peer_step(other, inputs), adam.step()) for _ in range(2)]  # noqa: E731
    elif what == "paper-bf16-adafactor":
        net = _bare(options)
        bf16_adafactor.to_bf16_matrices(net)
        thin = bf16_adafactor.Bf16Adafactor(net.parameters(), lr=1e-4, seed=0)
        work = lambda: [(step(net, inputs, half=True), thin.step()) for _ in range(2)]  # noqa: E731
    elif what.startswith("bag-"):
        net = compact(options) if what == "bag-compact" else _bare(options)
        work = lambda: net.pathology(net.axes(inputs[0], inputs[2])[0], inputs[1]).tokens.sum().backward()  # noqa: E731
    elif what == "compact":
        net = compact(options).train()
        optimizer = torch.optim.AdamW(net.parameters())
        work = lambda: (step(net, inputs), optimizer.step())  # noqa: E731
    elif what.startswith("paper"):
        net = _bare(options)
        half = what == "paper-bf16"
        # As with `train.optimizer: bf16_adafactor`: bf16 weights under autocast, which casts the float32 parts.
        net = net.bfloat16() if half else net
        work = lambda: step(net, inputs, half=half)  # noqa: E731
    start = time.perf_counter()
    if work is not None:
        work()
    return time.perf_counter() - start


def _bare(options: argparse.Namespace) -> MCTI:
    """Preset paper with its own start: without a peer in memory."""
    torch.manual_seed(0)
    names = [f"G{number}" for number in range(options.genes)]
    sizes = {"width": options.width, "critical": options.critical, "task_tokens": options.task}
    sizes["gene_width"] = 8 * options.width
    return MCTI(preset("paper", features=options.features, genes=names, classes=("a", "b"), bins=4, **sizes)).eval()


PARTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "float32": lambda options: against(options, "paper, float32", 1.4),
    "bf16": lambda options: against(options, "paper, bf16", 2.5),
    "small": lambda options: against(options, "compact", 40),
    "compact": compact_training,
    "batching": batching,
    "bag": bag_branch,
    "memory": memory,
    "optimizer": optimizer,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rounds", 5), ("threads", 2), ("patches", 4000), ("features", 1024), ("genes", 1558)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("width", 1024), ("critical", 256), ("task", 240)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, comma-separated")
    parser.add_argument("--measure", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with kept_memory():
        if options.measure:
            print(json.dumps(measure(options)))
        else:
            report(options)


def report(options: argparse.Namespace) -> None:
    """Print the rows of the chosen parts."""
    print(f"torch {torch.__version__}, {options.threads} threads, CPU, width {options.width}, {options.rounds} rounds")
    print(f"{'what':<52}{'measured':>16}{'goal':>12}  note")
    for part in options.only.split(","):
        try:
            rows = PARTS[part](options)
        except subprocess.CalledProcessError as error:  # the parts after it still run
            reason = "killed, too little memory" if error.returncode == -signal.SIGKILL else error.stderr[-300:]
            rows = [(part, "not measured", "-", f"exit status {error.returncode}: {reason}")]
        for what, measured, goal, note in rows:
            print(f"{what:<52}{measured:>16}{goal:>12}  {note}", flush=True)


if __name__ == "__main__":
    main()
