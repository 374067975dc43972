"""A painter process: one job a line on stdin, `{}` or an error on stdout for each; ends when its input ends.

A process of its own, not a fork of the demo: it must hold none of the demo's locks, nor run the caller's script again.
"""

import json
import os
import sys
from pathlib import Path

from mcti.demo.painting import paint
from mcti.errors import MctiError


def main() -> None:
    """Paint until there is no job left."""
    for line in sys.stdin:
        job = json.loads(line)
        answer = {}
        try:
            paint(Path(job["out"]), seed=job["seed"], grade=job["grade"], er_positive=job["er_positive"])
        except MctiError as error:
            answer = {"what": error.what, "where": error.where, "hint": error.hint}
        try:
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            os._exit(1)  # the demo is gone, and nobody is left to be told


if __name__ == "__main__":
    main()
