"""Cancels a local run whose own process was killed outright: SIGKILL leaves it no moment to end its tasks itself."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping

from mcti.params import Settings, from_json


@contextlib.contextmanager
def over(settings: Settings, environment: Mapping[str, str], kind: str, runner: str, run: str) -> Iterator[None]:
    """Inside, another process waits for the end of this one, which closes its standard input.

    environment     what tells that process, when it comes to that, which run it speaks of
    """
    words = [settings.model_dump_json(by_alias=True), dict(environment), kind, runner, run]
    # -P: a folder `pipelines` that happens to lie here is not ours. A session of its own: Ctrl-C is not for it.
    command = [sys.executable, "-P", "-m", "pipelines.guard"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
    ) as guard:
        guard.stdin.write(json.dumps(words) + "\n")  # type: ignore[union-attr]
        guard.stdin.flush()  # type: ignore[union-attr]
        try:
            yield
        finally:
            guard.communicate("all is well\n")


def main() -> None:
    """Read what to guard, then wait: a second line means that all is well, the end of the input that nobody is left."""
    first = sys.stdin.readline()
    if not first or sys.stdin.readline():
        return
    from pipelines.local_run import cancel

    text, environment, kind, runner, run = json.loads(first)
    os.environ.update(environment)
    cancel(from_json(Settings, text, "what the guard was told"), kind, runner, run)


if __name__ == "__main__":
    main()
