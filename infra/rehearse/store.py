"""Objects of the overlay's S3 from here, through a port-forward; in a process of its own, which gets the keys alone."""

import os
import subprocess
import sys
from collections.abc import Mapping

from infra.rehearse.shell import Differs, run

_LIST = "import sys; from mcti import storage; print(*storage.addresses(sys.argv[1]), sep='\\n')"
_FETCH = "import sys; from mcti import s3; sys.stdout.buffer.write(s3.get(sys.argv[1])[0])"


def listed(prefix: str, environment: Mapping[str, str]) -> list[str]:
    """The addresses below a prefix."""
    return run([sys.executable, "-c", _LIST, prefix], 120, environment=environment).split()


def fetch(address: str, environment: Mapping[str, str]) -> bytes:
    """The bytes of one object."""
    command = [sys.executable, "-c", _FETCH, address]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, timeout=600, check=False)
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["(it wrote nothing)"])[-1]
        raise Differs(f"{address} cannot be read: {last}")
    return done.stdout
