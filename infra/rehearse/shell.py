"""Programs that the rehearsal calls, each with a limit of time, and waiting that ends."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

# Reasons for which a container waits until somebody brings what is absent.
ABSENT = {
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
}


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
        Missing: there is no such program.
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
    except OSError as error:
        raise Missing(f"{words[0]} cannot be started ({error.strerror}): is it on PATH?") from error
    except subprocess.TimeoutExpired as error:
        raise Differs(f"`{_short(words)}` did not end within {limit:.0f} s") from error
    if done.returncode not in codes:
        raise Differs(f"`{_short(words)}` ended with {done.returncode}: {_last_line(done.stderr or done.stdout)}")
    return done.stdout


def wait_until(what: str, check: Callable[[], Any], limit: float, every: float = 5) -> Any:
    """The first true answer of `check`, asked every so many seconds; a line each minute says that it still waits.

    Raises
        Differs: there was none within `limit` seconds.
    """
    begun = reported = time.monotonic()
    until = begun + limit
    while True:
        if answer := check():
            return answer
        now = time.monotonic()
        if now >= until:
            raise Differs(f"{what}: not within {limit:.0f} s")
        if now - reported >= 60:
            reported = now
            print(f"      waiting: {what}, {now - begun:.0f} s of at most {limit:.0f} s", flush=True)  # noqa: T201
        time.sleep(min(every, max(until - time.monotonic(), 0)))


@dataclass(frozen=True)
class Cluster:
    """kubectl with one context; `namespace` is that of our services, `patience` a factor on all limits."""

    context: str
    namespace: str
    patience: float = 1.0

    def call(
        self,
        *words: str,
        limit: float = 60,
        stdin: str | None = None,
        namespace: str | None = None,
        codes: tuple[int, ...] = (0,),
    ) -> str:
        """Standard output of `kubectl words`."""
        return run([*self.words(namespace), *words], limit * self.patience, stdin=stdin, codes=codes)

    def words(self, namespace: str | None = None) -> list[str]:
        """The beginning of every command."""
        return ["kubectl", "--context", self.context, "-n", namespace or self.namespace]

    def read(self, *words: str, namespace: str | None = None) -> Any:
        """What `kubectl get words -o json` prints."""
        return json.loads(self.call("get", *words, "-o", "json", namespace=namespace) or "{}")

    def exists(self, *words: str, namespace: str | None = None) -> bool:
        """Whether an object exists."""
        return bool(self.call("get", *words, "--ignore-not-found", "-o", "name", namespace=namespace).strip())

    def job_end(self, job: str) -> Any:
        """The condition (Complete or Failed) with which a Job has ended; None while it works."""
        conditions = self.read("job", job).get("status", {}).get("conditions", ())
        return next((c for c in conditions if c["status"] == "True" and c["type"] in ("Complete", "Failed")), None)

    def log_of(self, job: str) -> str:
        """The last lines of a Job's log as one."""
        return " ".join(self.call("logs", f"job/{job}", "--all-containers", "--tail=3").split())[-300:]

    def rolled_out(self, *names: str, limit: float = 600) -> None:
        """Wait until every Deployment or StatefulSet of `names` is ready.

        Raises
            Differs: not in time; the text says what the pods wait for.
            Missing: a pod waits for more than a minute for an image or a Secret that is not there.
        """
        for name in names:
            blocked: list[str] = []
            try:
                wait_until(f"{name} ready", partial(self._ready, name, blocked), limit * self.patience)
            except Differs as error:
                raise Differs(f"{error}; {self._told(name)}") from error

    def _ready(self, name: str, blocked: list[str]) -> bool:
        """Ask for 20 s. `blocked` gathers what was absent at each question in a row."""
        try:
            self.call("rollout", "status", name, "--timeout=20s", limit=60)
        except Differs as error:
            if "NotFound" in str(error):
                raise
            absent = self._absent(name)
            blocked[:] = [*blocked, absent] if absent else []
            if len(blocked) > 3:
                raise Missing(absent) from error
            return False
        return True

    def _pods(self, name: str) -> list[Any]:
        label = f"app.kubernetes.io/name={name.partition('/')[2]}"
        return list(self.read("pods", "-l", label).get("items", ()))

    def _absent(self, name: str) -> str:
        """The image or Secret that a pod of `name` lacks; "" where none does."""
        for pod in self._pods(name):
            for state in _waiting(pod):
                if state.get("reason") in ABSENT:
                    text = f"{state['reason']}: {state.get('message', '')}"
                    hint = "load the image into the node or name another (SERVICES_IMAGE, POSTGRES_IMAGE, "
                    hint += "SEAWEEDFS_IMAGE); make the Secret (infra/runbook.md, Install)"
                    return f"pod {pod['metadata']['name']} waits, {' '.join(text.split())[:200]}: {hint}"
        return ""

    def _told(self, name: str) -> str:
        """What the pods of `name` wait for, and the newest warning of the namespace."""
        pods = [f"pod {pod['metadata']['name']} {_state(pod)}" for pod in self._pods(name)] or ["no pod"]
        events = self.read("events", "--field-selector", "type=Warning").get("items", ())
        newest = sorted(events, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))[-1:]
        warning = [f"last warning: {event.get('message', '')}"[:200] for event in newest]
        return "; ".join([*pods, *warning])


def _waiting(pod: Any) -> list[Any]:
    """The `waiting` states of the containers of a pod."""
    parts = ("initContainerStatuses", "containerStatuses")
    each = [status.get("state", {}) for part in parts for status in pod.get("status", {}).get(part, ())]
    return [state["waiting"] for state in each if "waiting" in state]


def _state(pod: Any) -> str:
    status = pod.get("status", {})
    conditions = [c.get("message", "") for c in status.get("conditions", ()) if c.get("status") == "False"]
    text = [state.get("reason", "") for state in _waiting(pod)] + conditions
    return f"is {status.get('phase', 'unknown')} ({'; '.join(dict.fromkeys(filter(None, text)))[:200]})"


def _short(words: list[str]) -> str:
    line = " ".join(" ".join(words).split())
    return line if len(line) <= 120 else f"{line[:117]}..."


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "(it wrote nothing)"
