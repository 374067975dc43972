"""Checks of this machine: Python, disk, memory, GPU with its driver, ports, permissions."""

import json
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

from mcti.diagnosis.check import Check
from mcti.diagnosis.programs import call
from mcti.local import servers, stack
from mcti.params import Settings

GIB = 1 << 30
LEAST_DISK, ENOUGH_DISK = 1 * GIB, 10 * GIB
"""Bytes below which a run fails, and below which a project with slides soon does: features of one slide are ~10 MB."""
LEAST_MEMORY, ENOUGH_MEMORY = 1 * GIB, 4 * GIB
"""Bytes: loading PyTorch takes about 1 GiB; 4 GiB is the request of most tasks (cluster.steps)."""
_GPU_PROGRAM = """import json, torch
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda, "gpus": names}))"""
_GPU_SECONDS = 90.0  # the import of PyTorch from a slow disk


def check_python() -> Check:
    """Whether this version of Python is one for which the package is built."""
    required = metadata.metadata("mcti")["Requires-Python"]
    version = platform.python_version()
    detail = f"{version} on {platform.system()} {platform.machine()}"
    if SpecifierSet(required).contains(version, prereleases=True):
        return Check(name="Python", state="OK", detail=detail)
    hint = f"create an environment with Python {required} and install mcti there"
    return Check(name="Python", state="failed", detail=f"{detail}; mcti requires {required}", hint=hint)


def check_disk(folder: Path) -> Iterator[Check]:
    """Free space of the working folder and of the folder for temporary files."""
    for name, path in (("working folder", folder), ("temporary files", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(path).free
        detail = f"{free / GIB:.1f} GiB free in {path}"
        move = "use another folder" if path == folder else "set TMPDIR to another folder"
        yield _by_amount(f"disk, {name}", free, (LEAST_DISK, ENOUGH_DISK), detail, f"delete files, or {move}")


def check_memory() -> Check:
    """Available memory; the limit of the container counts, if there is one."""
    import psutil

    available, total = int(psutil.virtual_memory().available), int(psutil.virtual_memory().total)
    limit = _container_limit()
    if limit is not None:
        available, total = min(available, limit[0]), min(total, limit[1])
    detail = f"{available / GIB:.1f} of {total / GIB:.1f} GiB available"
    hint = "end other programs, raise the limit of the container, or reduce train.workers and train.batch_size"
    return _by_amount("memory", available, (LEAST_MEMORY, ENOUGH_MEMORY), detail, hint)


def _container_limit(root: Path = Path("/sys/fs/cgroup")) -> tuple[int, int] | None:
    """Available and total bytes of the container (cgroup v2); None without a limit."""
    try:
        text = (root / "memory.max").read_text(encoding="ascii").strip()
        used = int((root / "memory.current").read_text(encoding="ascii"))
    except OSError:
        return None
    return None if text == "max" else (max(int(text) - used, 0), int(text))


def _by_amount(name: str, amount: int, limits: tuple[int, int], detail: str, hint: str) -> Check:
    least, enough = limits
    if amount < least:
        return Check(name=name, state="failed", detail=f"{detail}, below {least / GIB:g} GiB", hint=hint)
    if amount < enough:
        return Check(name=name, state="warning", detail=f"{detail}, below {enough / GIB:g} GiB", hint=hint)
    return Check(name=name, state="OK", detail=detail)


def check_gpu(device: str) -> Check:
    """GPUs that PyTorch can use, and the driver; needed where train.device is cuda.

    PyTorch is loaded in a separate process: a faulty driver may block it.
    """
    driver = _driver()
    report = _torch_report()
    if isinstance(report, str):
        return Check(name="GPU", state="failed", detail=report, hint="install PyTorch again: see the last line")
    built = f"PyTorch {report['torch']}"
    if report["gpus"]:
        return Check(name="GPU", state="OK", detail=f"{', '.join(report['gpus'])}; {driver}; {built}")
    reason = f"{built} is a CPU build" if report["cuda"] is None else f"{built} finds no GPU"
    if device == "cuda":
        hint = "install a CUDA build of PyTorch and the driver of NVIDIA, or set train.device to auto"
        return Check(name="GPU", state="failed", detail=f"train.device is cuda, but {reason}; {driver}", hint=hint)
    if driver != _NO_DRIVER:
        hint = "install the CUDA build of PyTorch that fits the driver, or set train.device to cpu"
        return Check(name="GPU", state="warning", detail=f"{driver}, but {reason}", hint=hint)
    return Check(name="GPU", state="not configured", detail=f"none; training runs on the CPU ({reason})")


_NO_DRIVER = "no driver of NVIDIA"


def _driver() -> str:
    """The GPUs and the driver as nvidia-smi reports them."""
    response = call("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
    if response.absent:
        return _NO_DRIVER
    if response.error:
        return f"nvidia-smi: {response.error}"
    rows = [[field.strip() for field in line.split(",")] for line in response.text.splitlines() if line.strip()]
    return "; ".join(f"driver {row[1]} with {row[0]}, {row[2]}" for row in rows if len(row) == 3) or _NO_DRIVER


def _torch_report() -> dict[str, Any] | str:
    try:
        completed = subprocess.run(
            [sys.executable, "-c", _GPU_PROGRAM],
            capture_output=True, text=True, timeout=_GPU_SECONDS, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"PyTorch did not load within {_GPU_SECONDS:g} s"
    if completed.returncode:
        last = (completed.stderr.strip() or f"exit code {completed.returncode}").splitlines()[-1]
        return f"PyTorch cannot be loaded ({last})"
    return dict(json.loads(completed.stdout.splitlines()[-1]))


def check_ports(folder: Path, settings: Settings) -> Iterator[Check]:
    """The ports of the one-machine stack of this folder and of `mcti serve`; others are chosen where one is in use."""
    root = stack.nearest_root(folder)
    if (root / stack.FOLDER).is_dir():
        yield _check_stack(stack.status(root))
    port = settings.serve.port
    if port and not servers.is_free(port):
        hint = "run mcti serve with --port N, or end the program: the port is needed by mcti serve only"
        yield Check(name=f"port {port}", state="warning", detail="in use", hint=hint)
    elif port:
        yield Check(name=f"port {port}", state="OK", detail="free for mcti serve")


def _check_stack(state: stack.Stack) -> Check:
    if state.running:
        return Check(name="stack", state="OK", detail=f"S3 {state.s3}, MLflow {state.mlflow}")
    if state.servers:
        names = ", ".join(server.name for server in state.servers)
        detail, hint = f"only {names} is running, or a server does not answer", "run mcti stack up; logs: .stack/logs"
        return Check(name="stack", state="failed", detail=detail, hint=hint)
    return Check(name="stack", state="warning", detail=f"{state.folder} is not running", hint="run mcti stack up")


def check_permissions(folder: Path) -> Iterator[Check]:
    """Whether the folders can be written, and whether files with keys are closed to other users."""
    names = [folder, Path(tempfile.gettempdir()), *(folder / name for name in ("data", "models", "reports"))]
    for path in dict.fromkeys(path for path in names if path.is_dir()):
        yield _check_writable(path)
    yield from _check_key_files(folder)


def _check_writable(path: Path) -> Check:
    """A temporary file is created and deleted: a read-only mount, a quota or an access list shows in no file mode."""
    name = f"write to {path}"
    try:
        with tempfile.TemporaryFile(dir=path) as stream:
            stream.write(b"mcti")
    except OSError as error:
        hint = "check the owner and mode of the folder, and whether it is mounted read-only; or use another folder"
        return Check(name=name, state="failed", detail=error.strerror or str(error), hint=hint)
    return Check(name=name, state="OK")


def _check_key_files(folder: Path) -> Iterator[Check]:
    root = stack.nearest_root(folder)
    named = os.environ.get("AWS_SHARED_CREDENTIALS_FILE")
    files = [*((root / stack.FOLDER).glob("credentials*")), *((Path(named),) if named else ())]
    for path in dict.fromkeys(files):
        name = f"keys {path}"
        if not os.access(path, os.R_OK):
            hint = "check AWS_SHARED_CREDENTIALS_FILE and the owner of the file"
            yield Check(name=name, state="failed", detail="the file cannot be read", hint=hint)
        elif path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            mode = stat.S_IMODE(path.stat().st_mode)
            yield Check(name=name, state="warning", detail=f"other users may read it ({mode:o})", hint="chmod 600")
        else:
            yield Check(name=name, state="OK", detail="readable for this user only")
