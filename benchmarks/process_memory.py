"""A command with the peak of its memory and its processor time, optionally in a control group with a limit (root)."""

import os
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_CONTROL_GROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Usage:
    """peak_gib: memory of all processes that the system cannot reclaim; cpu and wall in seconds, with all workers."""

    peak_gib: float
    cpu: float
    wall: float


def run(command: Sequence[str], folder: Path, limit_gib: float = 0.0) -> Usage:
    """Run a command in `folder`. The peak is sampled: `Anonymous` of /proc/PID/smaps_rollup, twice a second.

    limit_gib  of the memory of all processes, files included; 0: none

    Raises SystemExit when the command fails
    """
    group = _limited_group(limit_gib) if limit_gib else None
    begin, used, peak = time.monotonic(), _cpu_seconds(), 0.0
    process = subprocess.Popen(command, cwd=folder, preexec_fn=None if group is None else lambda: _enter(group))
    while process.poll() is None:
        peak = max(peak, sum(map(_anonymous, _tree(process.pid))) / 2**30)
        time.sleep(0.5)
    if group is not None:
        group.rmdir()
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:2])} ended with {process.returncode}")
    return Usage(peak, _cpu_seconds() - used, time.monotonic() - begin)


def _cpu_seconds() -> float:
    """User and system time of the processes that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _limited_group(gib: float) -> Path:
    """A control group of version 1 or 2 with this limit of memory."""
    first_version = (_CONTROL_GROUPS / "memory").exists()
    if not first_version:
        (_CONTROL_GROUPS / "cgroup.subtree_control").write_text("+memory")
    group = (_CONTROL_GROUPS / "memory" if first_version else _CONTROL_GROUPS) / f"mcti-{os.getpid()}"
    group.mkdir()
    limit = group / ("memory.limit_in_bytes" if first_version else "memory.max")
    limit.write_text(str(int(gib * 2**30)))
    return group


def _enter(group: Path) -> None:
    (group / "cgroup.procs").write_text(str(os.getpid()))


def _tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has ended
        return []
    return [pid, *(one for child in children for one in _tree(int(child)))]


def _anonymous(pid: int) -> int:
    """Bytes of a process that are not pages of a file."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))
