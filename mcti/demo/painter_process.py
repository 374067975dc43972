"""A painter process: reads one job per line from stdin, writes `{}` or an error to stdout, ends at the end of input.

It is a new process and not a fork: a fork would inherit the locks of the demo and run the caller's script again.
"""

import json
import os
import sys
from pathlib import Path

from mcti.demo.painting import paint
from mcti.errors import MctiError


def main() -> None:
    """Paint the slides of all jobs."""
    for line in sys.stdin:
        job = json.loads(line)
        response = {}
        try:
            paint(Path(job["out"]), seed=job["seed"], grade=job["grade"], er_positive=job["er_positive"])
        except MctiError as error:
            response = {"what": error.what, "where": error.where, "hint": error.hint}
        try:
            sys.stdout.write(json.dumps(response) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            os._exit(1)  # the demo has ended: no process reads the answer


if __name__ == "__main__":
    main()
