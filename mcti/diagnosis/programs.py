"""Programs outside Python, docker and kubectl, called with a time limit."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

from mcti.diagnosis.check import Check

SECONDS = 10
_LEAST_KUBECTL = (1, 27)  # `kubectl kustomize` reads the overlays of infra/kubernetes from this version on


@dataclass(frozen=True)
class Response:
    """Output of a program, or its error; absent: it is not on PATH."""

    text: str = ""
    error: str = ""
    absent: bool = False


def call(name: str, *arguments: str) -> Response:
    """Call a program for at most SECONDS; its stdin is closed, so that it cannot wait for a password."""
    program = shutil.which(name)
    if program is None:
        return Response(error=f"no {name} on PATH", absent=True)
    try:
        completed = subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Response(error=f"{name} did not answer within {SECONDS} s")
    except OSError as error:
        return Response(error=f"{name} cannot be started ({error.strerror})")
    if completed.returncode:
        lines = [line for line in (completed.stderr or completed.stdout).splitlines() if line.strip()]
        return Response(error=" ".join((lines or [f"exit code {completed.returncode}"])[-1].split())[:300])
    return Response(completed.stdout.strip())


def check_docker() -> Check:
    """The Docker engine: for images and `mcti pipeline run-local --runner docker`, never needed by others."""
    response = call("docker", "version", "--format", "{{.Client.Version}} {{.Server.Version}}")
    use = "it builds images and runs mcti pipeline run-local --runner docker"
    if response.absent:
        return Check(name="docker", state="not configured", detail=f"{response.error}; {use}")
    if response.error:
        hint = f"start the engine, or see whether you may use it (docker version); {use}"
        return Check(name="docker", state="warning", detail=response.error, hint=hint)
    client, _, engine = response.text.partition(" ")
    return Check(name="docker", state="OK", detail=f"client {client}, engine {engine}")


def check_kubectl() -> list[Check]:
    """The version of kubectl, and the API server of its context, if it has one."""
    response = call("kubectl", "version", "--client", "-o", "json")
    if response.absent:
        detail = f"{response.error}; with it, mcti pipeline status and doctor read pods and Secrets"
        return [Check(name="kubectl", state="not configured", detail=detail)]
    if response.error:
        return [Check(name="kubectl", state="warning", detail=response.error, hint="install it again")]
    checks = [_check_version(_json(response.text).get("clientVersion", {}))]
    context = call("kubectl", "config", "current-context")
    if not context.error and context.text:
        checks.append(_check_cluster(context.text))
    return checks


def _check_version(client: Any) -> Check:
    version = str(client.get("gitVersion", ""))
    match = re.match(r"v?(\d+)\.(\d+)", version)
    if match and (int(match[1]), int(match[2])) >= _LEAST_KUBECTL:
        return Check(name="kubectl", state="OK", detail=f"client {version}")
    least = ".".join(map(str, _LEAST_KUBECTL))
    return Check(
        name="kubectl", state="warning", detail=f"client {version or 'unknown'}", hint=f"install {least} or later"
    )


def _check_cluster(context: str) -> Check:
    name = f"cluster of context {context}"
    response = call("kubectl", "version", "-o", "json", f"--request-timeout={SECONDS - 2}s")
    if response.error:
        hint = "check kubectl config, the VPN and the login; without it only the API of Kubeflow Pipelines is used"
        return Check(name=name, state="warning", detail=response.error, hint=hint)
    version = _json(response.text).get("serverVersion", {}).get("gitVersion", "unknown")
    return Check(name=name, state="OK", detail=f"Kubernetes {version}")


def _json(text: str) -> dict[str, Any]:
    try:
        tree = json.loads(text)
    except ValueError:
        return {}
    return tree if isinstance(tree, dict) else {}
