"""Server processes that continue after the command ends: start, identify and stop them with their children.

A server and its children have MCTI_STACK=<stack folder> in their environment. This marker identifies a server even if
its parent was killed before it recorded the pid. No other process is ever stopped.
"""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

from mcti.errors import OperationalError
from mcti.storage import translating_os_errors
from mcti.waiting import log_while_waiting

MARKER = "MCTI_STACK"
_STOP_SECONDS = 8.0
_SEAWEEDFS_SECONDS = 1.0  # it waits 15 s for a connection of its own; its writes are in the kernel at once


class Server(BaseModel):
    """A started process; `created` (s since the epoch) distinguishes it from a later process with the same pid."""

    model_config = ConfigDict(frozen=True)
    name: str
    pid: int
    created: float

    def process(self) -> psutil.Process | None:
        """The process; None when it has ended, or another process has its pid."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if same else None


def start(name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Server:
    """Start `command` with the marker of the stack in `folder`; its output goes to folder/logs/<name>.log.

    Raises OperationalError when the program is missing, or the log cannot be written.
    """
    log = folder / "logs" / f"{name}.log"
    with translating_os_errors(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            process = subprocess.Popen(
                list(command),
                cwd=folder,
                env={**environment, MARKER: str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    return Server(name=name, pid=process.pid, created=psutil.Process(process.pid).create_time())


def marked_processes(folder: Path, marker: str = MARKER) -> list[psutil.Process]:
    """All processes of this user with `marker` = `folder` in their environment, except this process."""
    user = os.getuid()
    marked = []
    for process in psutil.process_iter():
        try:
            if process.uids().real == user and process.environ().get(marker) == str(folder):
                marked.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return [process for process in marked if process.pid != os.getpid()]


def stop(processes: Sequence[psutil.Process]) -> None:
    """Terminate the processes and their children; kill those that have not ended after some seconds."""
    family = {p.pid: p for parent in processes for p in [parent, *_children(parent)]}
    seaweedfs = [process for process in family.values() if _has_name(process, "weed")]
    for process in family.values():
        _send(process.terminate)
    _, others = psutil.wait_procs([p for p in family.values() if p not in seaweedfs], timeout=_STOP_SECONDS)
    _, waiting = psutil.wait_procs(seaweedfs, timeout=_SEAWEEDFS_SECONDS)
    for process in (*others, *waiting):
        _send(process.kill)
    psutil.wait_procs([*others, *waiting], timeout=_STOP_SECONDS)


def remove_sockets(ports: Iterable[int]) -> None:
    """Remove the socket files that a killed SeaweedFS leaves in /tmp."""
    for port in ports:
        for path in Path(tempfile.gettempdir()).glob(f"seaweedfs-*-{port}.sock"):
            if path.stat().st_uid == os.getuid():
                path.unlink(missing_ok=True)


def wait_until(ready: Callable[[], bool], server: Server, seconds: float, log: Path) -> None:
    """Wait until `ready()`.

    Raises OperationalError when the server ends or is not ready in `seconds`, with the last error of its log.
    """
    limit = time.monotonic() + seconds
    with log_while_waiting(f"the {server.name} server to start ({log})", seconds):
        while not ready():
            if server.process() is None:
                raise OperationalError(f"the {server.name} server ended while starting", str(log), last_error_line(log))
            if time.monotonic() > limit:
                what = f"the {server.name} server is not ready after {seconds:.0f} s"
                raise OperationalError(what, str(log), "check this log")
            time.sleep(0.1)


def last_error_line(log: Path) -> str:
    """The last line of a log that reports an error, else its last line."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    reasons = [line for line in lines[-40:] if any(w in line.lower() for w in ("error", "fail", "fatal", "no space"))]
    return (reasons or lines or ["the log is empty"])[-1][:300]


def free_port(preferred: int, taken: set[int]) -> int:
    """`preferred` if it is free on 127.0.0.1, else a port chosen by the system; added to `taken`."""
    port = preferred if preferred and preferred not in taken and is_free(preferred) else _any_port(taken)
    taken.add(port)
    return port


def is_free(port: int) -> bool:
    """Whether no process listens on the port of 127.0.0.1 or of all addresses."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def accepts_connections(port: int) -> bool:
    """Whether a process accepts connections on the port of 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _any_port(taken: set[int]) -> int:
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _has_name(process: psutil.Process, name: str) -> bool:
    try:
        return bool(process.name() == name)
    except psutil.NoSuchProcess:
        return False


def _send(action: Callable[[], object]) -> None:
    try:
        action()
    except psutil.NoSuchProcess:
        return  # it has already ended
