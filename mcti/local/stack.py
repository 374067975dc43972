"""The one-machine stack: SeaweedFS as S3 and MLflow on SQLite, both on loopback, in `<root>/.stack` (docs/stack.md).

`up` may be called at any time and in any state: it starts what is missing and says what was running. `down` stops
the processes it started and no other.
"""

import contextlib
import fcntl
import json
import os
import shlex
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
_READY_SECONDS = 240.0  # 8 s on two idle cores; a loaded machine may take ten times as long
Say = Callable[[str], None]


class Stack(BaseModel):
    """What runs where; `already` is true when `up` had nothing to start.

    servers  those that run
    stopped  "name pid" of each process that `down` ended
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
        """For people."""
        pids = ", ".join(f"{server.name} {server.pid}" for server in self.servers)
        if self.stopped:
            return [f"stopped {', '.join(self.stopped)} of {self.folder}; its data stay"]
        if not self.running and self.servers:
            return [f"only {pids} of {self.folder} runs, or does not answer: `mcti stack up` makes it whole"]
        if not self.running:
            return [f"no server of {self.folder} runs"]
        state = "runs already" if self.already else "runs now"
        return [
            f"the stack {state}: S3 {self.s3}, MLflow {self.mlflow} (pids {pids})",
            f"for a shell: . {shlex.quote(str(Path(self.folder) / settings.ENV))}    to stop: make stop",
        ]


class State(BaseModel):
    """`.stack/state.json`: the ports chosen once and kept, and the processes started."""

    model_config = ConfigDict(frozen=True)
    ports: dict[str, int] = {}
    servers: tuple[Server, ...] = ()
    joined: str = ""  # the folder of another clone whose stack this one uses


def up(root: Path, say: Say = lambda _: None) -> Stack:
    """Start S3 and MLflow of the project in `root`, make the buckets, point DVC and this process at them.

    Raises
        OperationalError: a program is missing, a server does not come up, the folder cannot be written.
    """
    folder = _folder(root)
    with storage.translating_os_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(folder / "up.lock", "mcti stack up", timeout_seconds=_READY_SECONDS):
        state = _load(folder)
        already = bool(state.servers) and all(server.process() for server in state.servers)
        if not already:
            servers.stop(servers.marked_processes(folder))  # a half-started or half-killed stack
            # One stack of this user after the other: a port stays free until its server has bound it.
            with locked(_cache() / "stack.lock", "mcti stack up", timeout_seconds=_READY_SECONDS):
                state = _start_all(root, folder, say)
        settings.write(folder, state.ports)
        settings.activate(root, force=True)
        for bucket in BUCKETS:
            s3.ensure_bucket(bucket, versioned=bucket == LEDGER)
        dvc_program.configure_remote(root, folder)
        return _stack(folder, state, running=True, already=already)


def down(root: Path) -> Stack:
    """Stop the servers of `root` and their children, and nothing else; the data stay."""
    folder = _folder(root)
    state = _load(folder)
    found = [(server.name, process) for server in state.servers if (process := server.process())]
    found += [("process", process) for process in servers.marked_processes(folder)]
    alive = {process.pid: (name, process) for name, process in reversed(found)}  # reversed: a recorded name wins
    servers.stop([process for _, process in alive.values()])
    servers.remove_sockets(state.ports.values())
    if folder.is_dir():
        _save(folder, State(ports=state.ports))
    stopped = tuple(f"{name} {pid}" for pid, (name, _) in sorted(alive.items()))
    return _stack(folder, State(ports=state.ports), running=False, already=not alive, stopped=stopped)


def status(root: Path) -> Stack:
    """What of the stack of `root` runs now."""
    folder = _folder(root)
    state = _load(folder)
    if state.joined:
        return status(Path(state.joined))
    alive = tuple(server for server in state.servers if server.process())
    whole = bool(alive) and len(alive) == len(state.servers)
    healthy = whole and all(servers.accepts_connections(state.ports[name]) for name in ("s3", "mlflow"))
    return _stack(folder, State(ports=state.ports, servers=alive), running=healthy, already=healthy)


def join(root: Path, folder: Path) -> Stack:
    """Let the clone in `root` use the running stack of the project in `folder`.

    Raises
        UsageError: there is no stack in `folder`.
        OperationalError: it does not run.
    """
    theirs = _folder(folder)
    if not theirs.is_dir():
        raise UsageError("no stack", str(folder), "name a folder in which `mcti stack up` was run")
    found = status(folder)
    if not found.running:
        raise OperationalError("the stack does not run", str(folder), f"run `mcti stack up` in {folder}")
    ours = _folder(root)
    if ours != theirs:
        if _load(ours).servers:
            raise UsageError("this folder has a stack of its own", str(root), "run `mcti stack down` first")
        with storage.translating_os_errors(ours):
            ours.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.write(ours, _load(theirs).ports, credentials=theirs / settings.CREDENTIALS)
        _save(ours, State(joined=str(theirs.parent)))
        dvc_program.configure_remote(root, theirs)
        settings.activate(root, force=True)
    return found


@contextlib.contextmanager
def locked(path: Path, name: str, timeout_seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock file while the body runs; the kernel frees it when the holder dies, however it dies.

    Raises
        OperationalError: somebody else holds it; the message names the process.
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
                    f"another `{name}` is running (pid {holder})", str(path.parent), "wait for it, or stop it"
                ) from None
            time.sleep(0.2)
        else:
            return


def _start_all(root: Path, folder: Path, say: Say) -> State:
    ports = _choose_ports(_load(folder).ports)
    identities = settings.make_credentials(folder)
    settings.write(folder, ports)
    settings.activate(root, force=True)
    state = _save(folder, State(ports=ports))
    say(f"S3 (SeaweedFS) on 127.0.0.1:{ports['s3']}")
    s3 = servers.start("s3", _weed_command(folder, ports, identities), folder, _weed_environment(folder))
    state = _save(folder, State(ports=ports, servers=(s3,)))
    say(f"MLflow on 127.0.0.1:{ports['mlflow']}")
    mlflow = servers.start("mlflow", _mlflow_command(folder, ports), folder, settings.environment(folder, ports))
    state = _save(folder, State(ports=ports, servers=(s3, mlflow)))
    logs = folder / "logs"
    try:
        servers.wait_until(lambda: settings.s3_ready(ports), s3, _READY_SECONDS, logs / "s3.log")
        servers.wait_until(lambda: settings.mlflow_ready(ports), mlflow, _READY_SECONDS, logs / "mlflow.log")
    except BaseException:
        servers.stop(servers.marked_processes(folder))  # all of it or nothing
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


def _choose_ports(before: dict[str, int]) -> dict[str, int]:
    """The ports of last time where they are free (clients keep working), else the usual ones, else any."""
    taken: set[int] = set()
    return {name: servers.free_port(before.get(name, usual), taken) for name, usual in _USUAL_PORTS.items()}


def _weed_command(folder: Path, ports: dict[str, int], identities: Path) -> list[str]:
    data = folder / "s3"
    with storage.translating_os_errors(data):
        data.mkdir(mode=0o700, exist_ok=True)
    named = {"s3": "s3.port", "s3_grpc": "s3.port.grpc"} | {
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
        *(f"-{flag}={ports[name]}" for name, flag in named.items()),
        "-filer",
        "-filer.disableHttp",  # the filer's own door knows no password
        "-s3",
        f"-s3.config={identities}",
        "-s3.iam=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=1024",
        # Not 0 (as many as fit on the disk now): every bucket takes volumes of its own, and a small disk had too few.
        "-volume.max=10000",
        "-volume.preStopSeconds=0",
    ]


def _weed_environment(folder: Path) -> dict[str, str]:
    """The parts of SeaweedFS believe each other by these keys; nobody else can write to a volume directly."""
    keys = json.loads((folder / settings.SECRETS).read_text(encoding="utf-8"))
    growth = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}  # one volume a bucket at a time, not seven
    return {"PATH": os.environ.get("PATH", ""), "HOME": str(folder), **growth, **keys}


def _mlflow_command(folder: Path, ports: dict[str, int]) -> list[str]:
    return [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host=127.0.0.1",
        f"--port={ports['mlflow']}",
        f"--backend-store-uri=sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination=s3://mcti-mlflow/artifacts",
        "--workers=1",
    ]


def _program(name: str) -> Path:
    found = Path(sys.executable).with_name(name)
    if not found.exists():
        raise OperationalError(
            f"the program {name} is missing", str(found.parent), "install mcti[local] (make install)"
        )
    return found


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mcti"


def nearest_root(place: Path) -> Path:
    """The nearest folder that has a stack, as `mcti` finds its addresses from any folder below; else `place`."""
    place = place.resolve()
    return settings.nearest(place, FOLDER) or place


def _folder(root: Path) -> Path:
    return Path(root).resolve() / FOLDER


def _load(folder: Path) -> State:
    path = folder / "state.json"
    return State.model_validate(storage.read_json(path)) if path.exists() else State()


def _save(folder: Path, state: State) -> State:
    storage.write_json(folder / "state.json", state.model_dump(mode="json"))
    return state


def _stack(folder: Path, state: State, *, running: bool, already: bool, stopped: tuple[str, ...] = ()) -> Stack:
    ports = state.ports
    address = {name: f"http://127.0.0.1:{ports[name]}" if name in ports else "" for name in ("s3", "mlflow")}
    about = {"folder": str(folder), "servers": state.servers, "stopped": stopped}
    return Stack(running=running, already=already, **about, **address)
