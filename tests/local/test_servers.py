"""Server processes: identified by marker and start time, stopped with their children."""

import os
import signal
import socket
import sys
import time
from pathlib import Path

import psutil
import pytest

from mcti.errors import OperationalError
from mcti.local import servers
from mcti.local.servers import Server

SLEEP = [sys.executable, "-c", "import time; time.sleep(300)"]
FAMILY = [sys.executable, "-c", f"import subprocess; subprocess.run({SLEEP!r})"]


def until(condition, seconds=600):
    limit = time.monotonic() + seconds
    while not condition() and time.monotonic() < limit:
        time.sleep(0.05)
    assert condition()


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    servers.stop(servers.marked_processes(tmp_path))


def test_a_server_is_identified_by_its_marker_and_stopped_with_its_children(folder):
    server = servers.start("x", FAMILY, folder, dict(os.environ))
    until(lambda: len(servers.marked_processes(folder)) == 2)
    servers.stop([psutil.Process(server.pid)])
    assert servers.marked_processes(folder) == []
    assert server.process() is None


def test_a_server_ends_its_work_when_seaweedfs_is_stopped_with_it(folder):
    """The short wait for SeaweedFS is not that of the other servers."""
    work = (
        "import pathlib, signal, sys, time\n"
        "def end(*_):\n    time.sleep(2)\n    pathlib.Path(sys.argv[1]).write_text('complete')\n    sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "pathlib.Path(sys.argv[1]).write_text('started')\ntime.sleep(300)"
    )
    (folder / "weed").symlink_to(Path(sys.executable).resolve())
    for program, name in ((sys.executable, "mlflow"), (folder / "weed", "weed")):
        servers.start(name, [str(program), "-c", work, str(folder / f"{name}.work")], folder, dict(os.environ))
    results = [folder / f"{name}.work" for name in ("mlflow", "weed")]
    until(lambda: all(path.exists() and path.read_text() == "started" for path in results))
    servers.stop(servers.marked_processes(folder))
    assert servers.marked_processes(folder) == []
    assert results[0].read_text() == "complete"


def test_another_process_with_the_same_pid_is_not_the_server(folder):
    server = servers.start("x", SLEEP, folder, dict(os.environ))
    assert server.process() is not None
    assert server.model_copy(update={"created": server.created - 60}).process() is None


def test_a_process_of_another_stack_is_not_stopped(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    server = servers.start("x", SLEEP, other, dict(os.environ))
    try:
        servers.stop(servers.marked_processes(folder))
        assert server.process() is not None
    finally:
        servers.stop(servers.marked_processes(other))


def test_a_server_that_ends_while_starting_is_reported_with_its_last_error(folder):
    command = [sys.executable, "-c", "print('starting'); print('Error: no such table'); raise SystemExit(3)"]
    server = servers.start("x", command, folder, dict(os.environ))
    with pytest.raises(OperationalError, match=r"x server ended.*x\.log.*Error: no such table"):
        servers.wait_until(lambda: False, server, 30, folder / "logs" / "x.log")


def test_a_server_that_is_never_ready_is_an_error(folder):
    server = servers.start("x", SLEEP, folder, dict(os.environ))
    with pytest.raises(OperationalError, match="not ready after"):
        servers.wait_until(lambda: False, server, 0.3, folder / "logs" / "x.log")


def test_a_taken_port_is_replaced_by_a_free_one():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        chosen: set[int] = set()
        assert servers.free_port(port, chosen) != port
        assert len(chosen) == 1
    assert servers.free_port(port, set()) == port


def test_two_servers_never_get_one_port():
    chosen: set[int] = set()
    assert len({servers.free_port(0, chosen) for _ in range(20)}) == 20


def test_a_process_that_has_ended_is_no_server(folder):
    server = servers.start("x", SLEEP, folder, dict(os.environ))
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: server.process() is None)
    assert Server(name="x", pid=2**22 - 1, created=0.0).process() is None
