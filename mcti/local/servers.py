"""Processes that outlive the command: started in a session of their own, found again, stopped with their children.

A server carries the mark MCTI_STACK=<its stack folder> in its environment, as do its children. So a server whose
starter was killed before it could write the pid down is still found, and nothing else is ever stopped.
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
_PATIENCE_SECONDS = 8.0  # SeaweedFS lingers 15 s after SIGTERM; its writes are with the kernel long before


class Server(BaseModel):
    """One started process; `created` (s since the epoch) tells it from a later one with the same pid."""

    model_config = ConfigDict(frozen=True)
    name: str
    pid: int
    created: float

    def process(self) -> psutil.Process | None:
        """The process, unless it has ended or another one has its pid."""
        try:
            found = psutil.Process(self.pid)
            same = abs(found.create_time() - self.created) < 1.0 and found.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return found if same else None


def start(name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Server:
    """Start `command` marked as part of the stack in `folder`, its output in folder/logs/<name>.log.

    Raises
        OperationalError: the program is missing or the log cannot be written.
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


def marked_processes(folder: Path, mark: str = MARKER) -> list[psutil.Process]:
    """All processes of this user that carry the mark of `folder` in their environment, recorded or not."""
    me = os.getuid()
    found = []
    for process in psutil.process_iter():
        try:
            if process.uids().real == me and process.environ().get(mark) == str(folder):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return [process for process in found if process.pid != os.getpid()]


def stop(processes: Sequence[psutil.Process]) -> None:
    """Ask the processes and their children to end, then make them."""
    family = {p.pid: p for parent in processes for p in [parent, *_children(parent)]}
    for process in family.values():
        _send(process.terminate)
    _, left = psutil.wait_procs(list(family.values()), timeout=_PATIENCE_SECONDS)
    for process in left:
        _send(process.kill)
    psutil.wait_procs(left, timeout=_PATIENCE_SECONDS)


def remove_sockets(ports: Iterable[int]) -> None:
    """Remove the socket files that SeaweedFS leaves behind in /tmp when it is killed."""
    for port in ports:
        for path in Path(tempfile.gettempdir()).glob(f"seaweedfs-*-{port}.sock"):
            if path.stat().st_uid == os.getuid():
                path.unlink(missing_ok=True)


def wait_until(ready: Callable[[], bool], server: Server, seconds: float, log: Path) -> None:
    """Wait until `ready()`.

    Raises
        OperationalError: the server ended, or is not ready in time; the last line of its log is in the message.
    """
    limit = time.monotonic() + seconds
    with log_while_waiting(f"the {server.name} server to start ({log})", seconds):
        while not ready():
            if server.process() is None:
                raise OperationalError(f"the {server.name} server ended while starting", str(log), last_error_line(log))
            if time.monotonic() > limit:
                what = f"the {server.name} server is not ready after {seconds:.0f} s"
                raise OperationalError(what, str(log), "see it")
            time.sleep(0.1)


def last_error_line(log: Path) -> str:
    """What the log says last that sounds like a reason."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    reasons = [line for line in lines[-40:] if any(w in line.lower() for w in ("error", "fail", "fatal", "no space"))]
    return (reasons or lines or ["its log is empty"])[-1][:300]


def free_port(wanted: int, taken: set[int]) -> int:
    """`wanted` if it is free on loopback, else one that the system picks; added to `taken`."""
    port = wanted if wanted and wanted not in taken and is_free(wanted) else _any_port(taken)
    taken.add(port)
    return port


def is_free(port: int) -> bool:
    """Whether nobody listens on the port of 127.0.0.1, nor on all addresses."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def accepts_connections(port: int) -> bool:
    """Whether somebody accepts connections on the port of 127.0.0.1."""
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


def _send(action: Callable[[], object]) -> None:
    try:
        action()
    except psutil.NoSuchProcess:
        return  # it has just ended by itself: what we wanted
