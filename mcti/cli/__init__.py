"""The command line: one command per step, with the same name as the step (docs/cli.md).

Exit codes: 0 success, 1 defect in mcti, 2 usage, 3 bad data, 4 operational error, 10 rejected, 11 not enough
evidence, 130 interrupted. With `--json` stdout is exactly one JSON document; all other output goes to stderr.
"""

import atexit
import gc
import sys

from mcti.cli.app import app
from mcti.cli.command_context import run_app
from mcti.errors import format_own_warnings


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with its exit code."""
    atexit.register(gc.freeze)  # the interpreter then does not search all objects for cycles at its end
    format_own_warnings()
    sys.exit(run_app(app, sys.argv[1:] if arguments is None else arguments))
