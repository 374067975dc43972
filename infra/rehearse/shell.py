"""Programs that the rehearsal calls, each with a limit of time, and waiting that ends."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Missing(Exception):
    """Something that the rehearsal needs is not there; one line that says what, and how to get it (exit code 4)."""


class Differs(Exception):
    """A step saw something else than it expected; the text is what it saw."""


def need(program: str, hint: str) -> None:
    """Raises Missing when `program` is not on PATH."""
    if shutil.which(program) is None:
        raise Missing(f"no {program} on PATH: {hint}")


def run(
    words: list[str],
    limit: float,
    *,
    stdin: str | None = None,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    codes: tuple[int, ...] = (0,),
) -> str:
    """Standard output of a program that ends within `limit` seconds with one of the exit codes `codes`.

    Raises
        Differs: another exit code, or it did not end; the text holds the last line that it wrote.
    """
    try:
        done = subprocess.run(
            words,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=limit,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Differs(f"`{_short(words)}` did not end within {limit:.0f} s") from error
    if done.returncode not in codes:
        raise Differs(f"`{_short(words)}` ended with {done.returncode}: {_last_line(done.stderr or done.stdout)}")
    return done.stdout


def wait_until(what: str, check: Callable[[], Any], limit: float, every: float = 5) -> Any:
    """The first true answer of `check`, asked every so many seconds.

    Raises
        Differs: there was none within `limit` seconds.
    """
    until = time.monotonic() + limit
    while True:
        if answer := check():
            return answer
        if time.monotonic() >= until:
            raise Differs(f"{what}: not within {limit:.0f} s")
        time.sleep(min(every, max(until - time.monotonic(), 0)))


@dataclass(frozen=True)
class Cluster:
    """kubectl with one context; `namespace` is that of our services, `patience` a factor on all limits."""

    context: str
    namespace: str
    patience: float = 1.0

    def call(self, *words: str, limit: float = 60, stdin: str | None = None, namespace: str | None = None) -> str:
        """Standard output of `kubectl words`."""
        return run([*self.words(namespace), *words], limit * self.patience, stdin=stdin)

    def words(self, namespace: str | None = None) -> list[str]:
        """The beginning of every command."""
        return ["kubectl", "--context", self.context, "-n", namespace or self.namespace]

    def read(self, *words: str, namespace: str | None = None) -> Any:
        """What `kubectl get words -o json` prints."""
        return json.loads(self.call("get", *words, "-o", "json", namespace=namespace) or "{}")

    def there(self, *words: str, namespace: str | None = None) -> bool:
        """Whether an object exists."""
        return bool(self.call("get", *words, "--ignore-not-found", "-o", "name", namespace=namespace).strip())

    def rolled_out(self, *names: str, limit: float = 600) -> None:
        """Wait until every Deployment or StatefulSet of `names` is ready."""
        for name in names:
            seconds = int(limit * self.patience)
            self.call("rollout", "status", name, f"--timeout={seconds}s", limit=limit + 30)


def _short(words: list[str]) -> str:
    line = " ".join(" ".join(words).split())
    return line if len(line) <= 120 else f"{line[:117]}..."


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "(it wrote nothing)"
