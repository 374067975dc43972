"""Calls of programs with a time limit, waits with a time limit, and kubectl."""

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

# Reasons of a waiting container that need an action of the administrator: an image or a Secret is missing.
BLOCKING_REASONS = {
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
}


class MissingRequirement(Exception):
    """A requirement of the rehearsal is missing; one line names it and how to provide it (exit code 4)."""


class UnexpectedResult(Exception):
    """The result of a step is not the expected one; the text is the observed result."""


def require_program(program: str, hint: str) -> None:
    """Check that a program is on PATH.

    Raises MissingRequirement when it is not.
    """
    if shutil.which(program) is None:
        raise MissingRequirement(f"no {program} on PATH: {hint}")


def run(
    command: list[str],
    limit: float,
    *,
    stdin: str | None = None,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    codes: tuple[int, ...] = (0,),
) -> str:
    """The standard output of a program that ends within `limit` seconds with one of the exit codes `codes`.

    Raises UnexpectedResult when it has another exit code or does not end; the text has its last line of output.
    Raises MissingRequirement when the program does not exist.
    """
    try:
        done = subprocess.run(
            command,
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
        raise MissingRequirement(f"{command[0]} cannot be started ({error.strerror}): is it on PATH?") from error
    except subprocess.TimeoutExpired as error:
        raise UnexpectedResult(f"`{_short(command)}` did not end within {limit:.0f} s") from error
    if done.returncode not in codes:
        raise UnexpectedResult(
            f"`{_short(command)}` ended with {done.returncode}: {_last_line(done.stderr or done.stdout)}"
        )
    return done.stdout


def wait_until(event: str, check: Callable[[], Any], limit: float, every: float = 5) -> Any:
    """Call `check` every `every` seconds and return its first true result; print a line per minute of waiting.

    Raises UnexpectedResult when there is none within `limit` seconds.
    """
    begun = reported = time.monotonic()
    until = begun + limit
    while True:
        if result := check():
            return result
        now = time.monotonic()
        if now >= until:
            raise UnexpectedResult(f"{event}: not within {limit:.0f} s")
        if now - reported >= 60:
            reported = now
            print(f"      waiting: {event}, {now - begun:.0f} s of at most {limit:.0f} s", flush=True)  # noqa: T201
        time.sleep(min(every, max(until - time.monotonic(), 0)))


@dataclass(frozen=True)
class Cluster:
    """kubectl with one context; `namespace` is that of the services, `patience` a factor on all limits."""

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
        """The standard output of `kubectl WORDS`."""
        return run([*self.prefix(namespace), *words], limit * self.patience, stdin=stdin, codes=codes)

    def prefix(self, namespace: str | None = None) -> list[str]:
        """The first arguments of every command."""
        return ["kubectl", "--context", self.context, "-n", namespace or self.namespace]

    def read(self, *words: str, namespace: str | None = None) -> Any:
        """The output of `kubectl get WORDS -o json`."""
        return json.loads(self.call("get", *words, "-o", "json", namespace=namespace) or "{}")

    def exists(self, *words: str, namespace: str | None = None) -> bool:
        """Whether an object exists."""
        return bool(self.call("get", *words, "--ignore-not-found", "-o", "name", namespace=namespace).strip())

    def job_condition(self, job: str) -> Any:
        """The condition (Complete or Failed) of a Job that has ended; None while it runs."""
        conditions = self.read("job", job).get("status", {}).get("conditions", ())
        return next((c for c in conditions if c["status"] == "True" and c["type"] in ("Complete", "Failed")), None)

    def job_log(self, job: str) -> str:
        """The last three lines of a Job's log, joined, at most 300 characters."""
        return " ".join(self.call("logs", f"job/{job}", "--all-containers", "--tail=3").split())[-300:]

    def wait_for_rollout(self, *names: str, limit: float = 600) -> None:
        """Wait until every Deployment or StatefulSet of `names` is ready.

        Raises UnexpectedResult when one is not ready in time; the text names the state of its pods.
        Raises MissingRequirement when a pod waits for more than a minute for a missing image or Secret.
        """
        for name in names:
            blocked: list[str] = []
            try:
                wait_until(f"{name} ready", partial(self._ready, name, blocked), limit * self.patience)
            except UnexpectedResult as error:
                raise UnexpectedResult(f"{error}; {self._diagnosis(name)}") from error

    def _ready(self, name: str, blocked: list[str]) -> bool:
        """Wait for 20 s. `blocked` collects the missing object of each consecutive check."""
        try:
            self.call("rollout", "status", name, "--timeout=20s", limit=60)
        except UnexpectedResult as error:
            if "NotFound" in str(error):
                raise
            missing = self._missing_object(name)
            blocked[:] = [*blocked, missing] if missing else []
            if len(blocked) > 3:
                raise MissingRequirement(missing) from error
            return False
        return True

    def _pods(self, name: str) -> list[Any]:
        label = f"app.kubernetes.io/name={name.partition('/')[2]}"
        return list(self.read("pods", "-l", label).get("items", ()))

    def _missing_object(self, name: str) -> str:
        """The message for the first pod of `name` without its image or Secret; "" when every pod has both."""
        for pod in self._pods(name):
            for state in _waiting(pod):
                if state.get("reason") in BLOCKING_REASONS:
                    text = f"{state['reason']}: {state.get('message', '')}"
                    hint = "load the image into the node or set another image (SERVICES_IMAGE, POSTGRES_IMAGE, "
                    hint += "SEAWEEDFS_IMAGE); create the Secret (infra/runbook.md, Install)"
                    return f"pod {pod['metadata']['name']} waits, {' '.join(text.split())[:200]}: {hint}"
        return ""

    def _diagnosis(self, name: str) -> str:
        """The states of the pods of `name`, and the latest warning of the namespace."""
        pods = [f"pod {pod['metadata']['name']} {_state(pod)}" for pod in self._pods(name)] or ["no pod"]
        events = self.read("events", "--field-selector", "type=Warning").get("items", ())
        newest = sorted(events, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))[-1:]
        warning = [f"last warning: {event.get('message', '')}"[:200] for event in newest]
        return "; ".join([*pods, *warning])


def _waiting(pod: Any) -> list[Any]:
    """The `waiting` states of the containers of a pod."""
    parts = ("initContainerStatuses", "containerStatuses")
    states = [status.get("state", {}) for part in parts for status in pod.get("status", {}).get(part, ())]
    return [state["waiting"] for state in states if "waiting" in state]


def _state(pod: Any) -> str:
    status = pod.get("status", {})
    conditions = [c.get("message", "") for c in status.get("conditions", ()) if c.get("status") == "False"]
    text = [state.get("reason", "") for state in _waiting(pod)] + conditions
    return f"is {status.get('phase', 'unknown')} ({'; '.join(dict.fromkeys(filter(None, text)))[:200]})"


def _short(command: list[str]) -> str:
    line = " ".join(" ".join(command).split())
    return line if len(line) <= 120 else f"{line[:117]}..."


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "(no output)"
