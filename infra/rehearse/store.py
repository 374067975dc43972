"""Objects of the overlay's S3 through a port-forward, read by a subprocess: only it receives the keys."""

import os
import subprocess
import sys
from collections.abc import Mapping

from infra.rehearse.shell import UnexpectedResult, run

_LIST = "import sys; from mcti import storage; print(*storage.addresses(sys.argv[1]), sep='\\n')"
_FETCH = "import sys; from mcti import s3; sys.stdout.buffer.write(s3.get(sys.argv[1])[0])"


def list_addresses(prefix: str, environment: Mapping[str, str]) -> list[str]:
    """The addresses of the objects below a prefix."""
    return run([sys.executable, "-c", _LIST, prefix], 120, environment=environment).split()


def read_object(address: str, environment: Mapping[str, str]) -> bytes:
    """The bytes of one object.

    Raises UnexpectedResult when it cannot be read.
    """
    command = [sys.executable, "-c", _FETCH, address]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, timeout=600, check=False)
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["(no output)"])[-1]
        raise UnexpectedResult(f"{address} cannot be read: {last}")
    return done.stdout
