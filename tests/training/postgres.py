"""A PostgreSQL server of the tests: started on a free port in a temporary folder, stopped by its process id."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest


def binaries() -> Path | None:
    """The folder of initdb and postgres; Debian keeps them out of PATH."""
    initdb = shutil.which("initdb")
    homes = [Path(initdb).resolve().parent] if initdb else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((home for home in reversed(homes) if (home / "postgres").exists()), None)


class Server:
    """One server; `url` for clients. A context manager that stops it and deletes its folder."""

    def __init__(self) -> None:
        home = binaries()
        if home is None:
            pytest.skip("no PostgreSQL here (Debian: apt-get install postgresql)")
        # Not below pytest's folder: that is closed to the user whom the server runs as.
        folder = Path(tempfile.mkdtemp(prefix="mcti-postgres-"))
        self.home, self.folder, self.data, self.port = home, folder, folder / "data", _free_port()
        self.url = f"postgresql://mcti@127.0.0.1:{self.port}/postgres"
        # The server refuses to run as root; a runner's own user is used as it is.
        self.user = pwd.getpwnam("postgres" if _known("postgres") else "nobody") if os.geteuid() == 0 else None
        if self.user is not None:
            os.chown(folder, self.user.pw_uid, self.user.pw_gid)
        arguments = ["-D", str(self.data), "-U", "mcti", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"]
        subprocess.run([home / "initdb", *arguments], check=True, capture_output=True, cwd=folder, **self._as())
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def start(self) -> None:
        """Start it, and return when it responds."""
        options = ["-D", str(self.data), "-p", str(self.port), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        options += ["-c", f"unix_socket_directories={self.data}"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([self.home / "postgres", *options], cwd=self.data, **quiet, **self._as())
        for _ in range(6000):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0 and self._ready():
                    return
            time.sleep(0.1)
        raise AssertionError("PostgreSQL did not start")

    def stop(self) -> None:
        """Stop it immediately; to its clients this equals a crash."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)  # fast shutdown: connections are cut
            self.process.wait(600)
            self.process = None

    def _ready(self) -> bool:
        import psycopg

        try:
            with psycopg.connect(self.url, connect_timeout=30):
                return True
        except psycopg.OperationalError:
            return False

    def _as(self) -> dict[str, object]:
        if self.user is None:
            return {}
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}


def _known(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
