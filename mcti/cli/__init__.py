"""The command line: one command a step, the same word everywhere (docs/cli.md).

Exit codes: 0 done, 1 a defect of ours, 2 usage, 3 bad data, 4 environment or a service, 10 rejected, 11 not enough
evidence, 130 interrupted. With `--json` stdout carries exactly one JSON document; everything else goes to stderr.
"""

import sys

from mcti.cli.app import app
from mcti.cli.command_context import run_app
from mcti.errors import format_own_warnings


def main(arguments: list[str] | None = None) -> None:
    """Run one command and leave with its exit code."""
    format_own_warnings()
    sys.exit(run_app(app, sys.argv[1:] if arguments is None else arguments))
