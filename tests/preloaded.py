"""Commands of mcti and DVC and tasks of kfp.local that need not import their libraries: forks of a process that has.

Most of the processor time of a small `mcti validate`, `train` or `register` is the import of Great Expectations, torch
or MLflow. `programs` starts one process that imports them, and gives a folder of programs. Its `mcti`, `dvc` and
`python` send the words, the folder, the environment and the open streams to that process, which forks: each command is
a process of its own, with the state of a process that has run nothing.

What differs from a new process: the imports are done, and the group of processes and the session are new. A program
that is killed kills its command. Tests of imports, of signals and of the demo from end to end start real processes.

`python` forks for tasks of kfp.local only, and runs the real interpreter for all other words.
"""

import atexit
import contextlib
import gc
import importlib
import json
import multiprocessing.connection
import os
import pkgutil
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

TASK = ["-m", "kfp.dsl.executor_main"]
LIBRARIES = (
    "IPython", "dvc.commands.repro", "dvc.repo", "dvc_s3", "great_expectations.expectations", "kfp.compiler",
    "kfp.dsl.executor_main", "kfp.local", "lap", "lifelines", "matplotlib.backends.backend_svg", "mlflow.tracking",
    "optuna", "pyarrow.dataset", "s3fs", "scipy.stats", "sklearn.linear_model", "torch._dynamo",
)  # fmt: skip
"""Imported by commands inside functions."""
_HEADER = 8
"""Bytes of the length of a request."""
_end: list[Any] = []
"""The argument of `sys.exit` of the command that this process has run."""


@contextlib.contextmanager
def programs() -> Iterator[Path]:
    """The programs of this environment, in which `mcti`, `dvc` and `python` are preloaded; the folder above has its
    other files, so that `make` finds a complete environment and installs nothing."""
    with tempfile.TemporaryDirectory(prefix="mcti-preloaded-") as name:
        folder, real = Path(name) / "environment" / "bin", Path(sys.executable).parent
        folder.mkdir(parents=True)
        for source, target in ((real, folder), (real.parent, folder.parent)):
            for path in source.iterdir():
                if not (target / path.name).exists():
                    (target / path.name).symlink_to(path)
        address = str(Path(name) / "socket")
        for program in ("mcti", "dvc", "python"):
            words = [sys.executable, "-IS", __file__, address, program, sys.executable]
            (folder / program).unlink()
            (folder / program).write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', encoding="utf-8")
            (folder / program).chmod(0o700)
        # It ends with the pipe to its input: also when this process is killed.
        with subprocess.Popen(
            [sys.executable, "-P", __file__, address, str(folder / "python")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as server:  # fmt: skip
            assert server.stdin is not None
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            yield folder
            server.stdin.close()


def request(address: str, program: str, interpreter: str, words: list[str]) -> int:
    """Run a command as a fork of the process at `address`; its exit code."""
    if program == "python":
        if words[: len(TASK)] != TASK:
            os.execv(interpreter, [interpreter, *words])
        words = words[len(TASK) :]
    body = {"program": program, "words": words, "folder": str(Path.cwd()), "environment": dict(os.environ)}
    message = json.dumps(body).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        socket.send_fds(server, [len(message).to_bytes(_HEADER, "big")], [0, 1, 2])
        server.sendall(message)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: server.sendall(bytes([number])))
        reply = server.recv(1)
    return reply[0] if reply else 1


def serve(address: str, python: str) -> Callable[[], Any] | None:
    """Fork for each request until the input ends, then kill all commands. Returns None then, in a fork its command.

    python  becomes `sys.executable` of the commands
    """
    commands: dict[int, tuple[int, socket.socket]] = {}
    """File descriptor of the process -> its id, and the connection of its program."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(16)
        print("ready", flush=True)  # noqa: T201
        while True:
            connections = {connection: pid for pid, connection in commands.values()}
            for ready in multiprocessing.connection.wait([sys.stdin, listener, *commands, *connections]):
                if ready is sys.stdin:
                    for pid in connections.values():
                        _kill(pid, signal.SIGKILL)
                    return None
                if ready is listener:
                    connection, _ = listener.accept()
                    body, streams = _read(connection)
                    if not (pid := os.fork()):
                        return partial(_become, body, streams, python)
                    commands[os.pidfd_open(pid)] = pid, connection
                    for stream in streams:
                        os.close(stream)
                elif ready in commands:
                    _reply(ready, *commands.pop(ready))
                elif ready.fileno() != -1:  # a signal to pass on, or the end of the program; not replied to just now
                    number = ready.recv(1)
                    _kill(connections[ready], number[0] if number else signal.SIGKILL)


def _read(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    header, streams, _, _ = socket.recv_fds(connection, _HEADER, 3)
    length, message = int.from_bytes(header, "big"), b""
    while len(message) < length:
        message += connection.recv(length - len(message))
    return json.loads(message), streams


def _kill(pid: int, number: int) -> None:
    """Send a signal to a command and the processes that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _reply(ended: int, pid: int, connection: socket.socket) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(ended)
    with connection, contextlib.suppress(BrokenPipeError):
        connection.sendall(bytes([code if code >= 0 else 128 - code]))


def _become(body: dict[str, Any], streams: list[int], python: str) -> None:
    """Run the command of a request in this process, with the streams, folder and environment of the program."""
    from kfp.dsl import executor_main

    from mcti import task

    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(body["folder"])
    os.environ.clear()
    os.environ.update(body["environment"])
    sys.argv = [body["program"], *body["words"]]
    sys.executable = python
    try:
        if body["program"] == "python":
            task.begin(task.component(sys.argv))  # as at the import of mcti
            code = executor_main.executor_main()
        else:
            code = importlib.import_module(f"{body['program']}.cli").main()
    except SystemExit as end:
        _end.append(end.code)
        raise
    _end.append(code)


def _leave() -> None:
    """The last function at the exit of a command: end without freeing the imported modules, which takes a second."""
    if _end:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_end[0] or 0)


def _preload() -> None:
    import mcti

    for module in pkgutil.walk_packages(mcti.__path__, "mcti."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()  # a collection in a fork does not copy their pages


if __name__ == "__main__":
    if len(sys.argv) > 3:
        sys.exit(request(*sys.argv[1:4], sys.argv[4:]))
    atexit.register(_leave)  # first, so that it runs after all others
    _preload()
    if command := serve(*sys.argv[1:]):
        command()
