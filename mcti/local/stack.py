"""The one-machine stack: SeaweedFS as S3 and MLflow on SQLite, both on loopback, in `<root>/.stack` (docs/stack.md).

`up` can be called in any state: it starts the servers that are not running. `down` stops the processes that `up`
started, and no others.
"""

import contextlib
import fcntl
import json
import os
import shlex
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mcti import s3, storage
from mcti.errors import OperationalError, UsageError
from mcti.local import dvc_program, servers, settings
from mcti.local.servers import Server
from mcti.waiting import log_while_waiting

FOLDER = ".stack"
LEDGER = "mcti-ledger"
BUCKETS = ("mcti-data", "mcti-mlflow", LEDGER)
_ANCHOR_DAYS = 3650
_DATABASE = "mlflow.db"
_READY_SECONDS = 900.0  # 8 s on two idle cores; with thirty processes per core thirty times as long, or more
Announce = Callable[[str], None]
"""Shows one line of status to the user."""


class Stack(BaseModel):
    """State of the stack.

    already     whether all servers were already running before `up`, or stopped before `down`
    s3, mlflow  addresses;  folder: the stack folder
    servers     the running servers
    stopped     "name pid" of each process that `down` stopped
    """

    model_config = ConfigDict(frozen=True)
    running: bool
    already: bool
    s3: str
    mlflow: str
    folder: str
    servers: tuple[Server, ...] = ()
    stopped: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """One or two lines for the terminal."""
        pids = ", ".join(f"{server.name} {server.pid}" for server in self.servers)
        if self.stopped:
            return [f"stopped {', '.join(self.stopped)} of {self.folder}; the data are kept"]
        if not self.running and self.servers:
            return [f"only {pids} of {self.folder} is running, or a server does not answer: run `mcti stack up`"]
        if not self.running:
            return [f"no server of {self.folder} is running"]
        state = "is already running" if self.already else "is running"
        return [
            f"the stack {state}: S3 {self.s3}, MLflow {self.mlflow} (pids {pids})",
            f"for a shell: . {shlex.quote(str(Path(self.folder) / settings.ENV))}    to stop: mcti stack down",
        ]


class State(BaseModel):
    """`.stack/state.json`: the ports, which are kept, and the started processes.

    joined  folder of another checkout whose stack this one uses
    """

    model_config = ConfigDict(frozen=True)
    ports: dict[str, int] = {}
    servers: tuple[Server, ...] = ()
    joined: str = ""


def up(root: Path, announce: Announce = lambda _: None) -> Stack:
    """Start S3 and MLflow of the project in `root`, create the buckets, configure DVC and this process for them.

    Raises OperationalError when a program is missing, a server does not start, or the folder cannot be written.
    """
    folder = _folder(root)
    with storage.translating_os_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(folder / "up.lock", "mcti stack up", timeout_seconds=_READY_SECONDS):
        state = _load(folder)
        already = bool(state.servers) and all(server.process() for server in state.servers)
        if not already:
            servers.stop(servers.marked_processes(folder))  # of a stack that was started or stopped in part
            # Stacks of one user start one after the other: a chosen port is free until its server has bound it.
            with locked(_cache() / "stack.lock", "mcti stack up", timeout_seconds=_READY_SECONDS):
                state = _start_all(root, folder, announce)
        settings.write(folder, state.ports)
        settings.activate(root, force=True)
        for bucket in BUCKETS:
            s3.ensure_bucket(bucket, versioned=bucket == LEDGER)
        s3.ensure_locked_bucket(settings.ANCHORS, _ANCHOR_DAYS)
        dvc_program.configure_remote(root, folder)
        return _describe(folder, state, running=True, already=already)


def down(root: Path) -> Stack:
    """Stop the servers of `root` and their children, and no other process; the data are kept."""
    folder = _folder(root)
    state = _load(folder)
    named = [(server.name, process) for server in state.servers if (process := server.process())]
    named += [("process", process) for process in servers.marked_processes(folder)]
    running = {process.pid: (name, process) for name, process in reversed(named)}  # a recorded name takes precedence
    servers.stop([process for _, process in running.values()])
    servers.remove_sockets(state.ports.values())
    if folder.is_dir():
        _save(folder, State(ports=state.ports))
    stopped = tuple(f"{name} {pid}" for pid, (name, _) in sorted(running.items()))
    return _describe(folder, State(ports=state.ports), running=False, already=not running, stopped=stopped)


def status(root: Path) -> Stack:
    """The running servers of the stack of `root`."""
    folder = _folder(root)
    state = _load(folder)
    if state.joined:
        return status(Path(state.joined))
    alive = tuple(server for server in state.servers if server.process())
    complete = bool(alive) and len(alive) == len(state.servers)
    healthy = complete and all(servers.accepts_connections(state.ports[name]) for name in ("s3", "mlflow"))
    return _describe(folder, State(ports=state.ports, servers=alive), running=healthy, already=healthy)


def join(root: Path, folder: Path) -> Stack:
    """Configure the checkout in `root` for the running stack of the checkout in `folder`.

    Raises
        UsageError when there is no stack in `folder`, or `root` has a running stack.
        OperationalError when the stack in `folder` is not running.
    """
    shared = _folder(folder)
    if not shared.is_dir():
        raise UsageError("no stack", str(folder), "use a folder in which `mcti stack up` was run")
    state = status(folder)
    if not state.running:
        raise OperationalError("the stack is not running", str(folder), f"run `mcti stack up` in {folder}")
    joining = _folder(root)
    if joining != shared:
        if _load(joining).servers:
            raise UsageError("this folder has its own stack", str(root), "run `mcti stack down` first")
        with storage.translating_os_errors(joining):
            joining.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.write(joining, _load(shared).ports, credentials=shared / settings.CREDENTIALS)
        _save(joining, State(joined=str(shared.parent)))
        dvc_program.configure_remote(root, shared)
        settings.activate(root, force=True)
    return state


@contextlib.contextmanager
def locked(path: Path, name: str, timeout_seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock file while the body runs; the kernel releases it when the process ends in any way.

    name                command of the lock, for messages
    timeout_seconds     seconds to wait for another process

    Raises OperationalError when another process holds the lock, with its pid.
    """
    with storage.translating_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+", encoding="utf-8")
    with stream:
        with log_while_waiting(f"another `{name}`, which holds {path}", timeout_seconds):
            _acquire(stream.fileno(), path, name, timeout_seconds)
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def _acquire(descriptor: int, path: Path, name: str, timeout_seconds: float) -> None:
    limit = time.monotonic() + timeout_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= limit:
                holder = path.read_text(encoding="utf-8").strip() or "unknown"
                raise OperationalError(
                    f"another `{name}` is running (pid {holder})", str(path.parent), "wait until it ends, or stop it"
                ) from None
            time.sleep(0.2)
        else:
            return


def _start_all(root: Path, folder: Path, announce: Announce) -> State:
    ports = _choose_ports(_load(folder).ports)
    identities = settings.make_credentials(folder)
    settings.write(folder, ports)
    settings.activate(root, force=True)
    state = _save(folder, State(ports=ports))
    _create_database(folder / _DATABASE)
    announce(f"S3 (SeaweedFS) on 127.0.0.1:{ports['s3']}")
    s3 = servers.start("s3", _weed_command(folder, ports, identities), folder, _weed_environment(folder))
    state = _save(folder, State(ports=ports, servers=(s3,)))
    announce(f"MLflow on 127.0.0.1:{ports['mlflow']}")
    mlflow = servers.start("mlflow", _mlflow_command(folder, ports), folder, settings.environment(folder, ports))
    state = _save(folder, State(ports=ports, servers=(s3, mlflow)))
    logs = folder / "logs"
    try:
        servers.wait_until(lambda: settings.s3_ready(ports), s3, _READY_SECONDS, logs / "s3.log")
        servers.wait_until(lambda: settings.mlflow_ready(ports), mlflow, _READY_SECONDS, logs / "mlflow.log")
    except BaseException:
        servers.stop(servers.marked_processes(folder))  # both servers or none
        _save(folder, State(ports=ports))
        raise
    return state


_USUAL_PORTS = {
    "s3": 8333,
    "mlflow": 5000,
    "s3_grpc": 0,
    "master": 0,
    "master_grpc": 0,
    "volume": 0,
    "volume_grpc": 0,
    "filer": 0,
    "filer_grpc": 0,
}


def _choose_ports(previous: dict[str, int]) -> dict[str, int]:
    """The previous ports where they are free (so that clients keep working), else the usual ports, else any."""
    taken: set[int] = set()
    return {name: servers.free_port(previous.get(name, usual), taken) for name, usual in _USUAL_PORTS.items()}


def _weed_command(folder: Path, ports: dict[str, int], identities: Path) -> list[str]:
    data = folder / "s3"
    with storage.translating_os_errors(data):
        data.mkdir(mode=0o700, exist_ok=True)
    flags = {"s3": "s3.port", "s3_grpc": "s3.port.grpc"} | {
        part + end: f"{part}.port{dot}"
        for part in ("master", "volume", "filer")
        for end, dot in (("", ""), ("_grpc", ".grpc"))
    }
    return [
        str(_program("weed")),
        "server",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        *(f"-{flag}={ports[name]}" for name, flag in flags.items()),
        "-filer",
        "-filer.disableHttp",  # the HTTP server of the filer has no authentication
        "-s3",
        f"-s3.config={identities}",
        "-s3.iam=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=1024",
        # Not 0 (the number that fits on the disk): every bucket needs its own volumes, and a small disk has too few.
        "-volume.max=10000",
        "-volume.preStopSeconds=0",
    ]


def _weed_environment(folder: Path) -> dict[str, str]:
    """Keys with which the parts of SeaweedFS authenticate each other; without them no process can write to a volume."""
    keys = json.loads((folder / settings.SECRETS).read_text(encoding="utf-8"))
    growth = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}  # one volume per bucket at a time, not seven
    return {"PATH": os.environ.get("PATH", ""), "HOME": str(folder), **growth, **keys}


def _mlflow_command(folder: Path, ports: dict[str, int]) -> list[str]:
    return [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host=127.0.0.1",
        f"--port={ports['mlflow']}",
        f"--backend-store-uri=sqlite:///{folder / _DATABASE}",
        "--artifacts-destination=s3://mcti-mlflow/artifacts",
        "--workers=1",
    ]


def _create_database(path: Path) -> None:
    """A database with a write-ahead log, which it keeps: a commit waits for the disk once, not four times."""
    if path.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.Error as error:
        raise OperationalError(
            f"the database of MLflow cannot be created: {error}", str(path), "check its folder and the disk"
        ) from error


def _program(name: str) -> Path:
    program = Path(sys.executable).with_name(name)
    if not program.exists():
        raise OperationalError(
            f"the program {name} is missing", str(program.parent), "install mcti[local] (make install)"
        )
    return program


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mcti"


def nearest_root(start: Path) -> Path:
    """The nearest folder at or above `start` with a stack; `start` where there is none."""
    start = start.resolve()
    return settings.nearest(start, FOLDER) or start


def _folder(root: Path) -> Path:
    return Path(root).resolve() / FOLDER


def _load(folder: Path) -> State:
    path = folder / "state.json"
    return State.model_validate(storage.read_json(path)) if path.exists() else State()


def _save(folder: Path, state: State) -> State:
    storage.write_json(folder / "state.json", state.model_dump(mode="json"))
    return state


def _describe(folder: Path, state: State, *, running: bool, already: bool, stopped: tuple[str, ...] = ()) -> Stack:
    ports = state.ports
    address = {name: f"http://127.0.0.1:{ports[name]}" if name in ports else "" for name in ("s3", "mlflow")}
    fields = {"folder": str(folder), "servers": state.servers, "stopped": stopped}
    return Stack(running=running, already=already, **fields, **address)
