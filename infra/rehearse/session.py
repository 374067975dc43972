"""The state that the steps share: options, folder, facts of earlier steps, kubectl and the mcti commands."""

import base64
import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.rehearse.shell import Cluster, UnexpectedResult, run, wait_until

MODEL = "mcti-rehearsal"  # name of model, cohort, pipelines and experiment; only the rehearsal uses it
REMOTE = f"s3://mcti-data/{MODEL}"
SERVICES = ("statefulset/s3", "statefulset/postgresql", "deployment/mlflow")
END_STATES = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}


@dataclass(frozen=True)
class Options:
    """The options of the command line (docs/rehearsal.md)."""

    host: str
    context: str
    namespace: str
    runs_namespace: str
    multi_user: bool
    image: str
    services_image: str
    postgres_image: str
    seaweedfs_image: str
    patience: float


@dataclass
class Session:
    """One rehearsal; `facts` are stored in its folder, so that it can be resumed."""

    options: Options
    root: Path
    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def cluster(self) -> Cluster:
        """kubectl for the namespace of the services."""
        return Cluster(self.options.context, self.options.namespace, self.options.patience)

    @property
    def work(self) -> Path:
        """The working folder of the mcti commands: settings and data."""
        return self.folder / "work"

    @property
    def overlay(self) -> Path:
        """The folder of the overlay that is applied."""
        return self.folder / "overlay"

    def mcti(self, *words: str, limit: float = 300, **environment: str) -> Any:
        """The output of an mcti command with --json.

        Raises UnexpectedResult when it ends with an error. Exit code 4 with a result is accepted: `status` and `doctor`
        end with it when they report a missing object.
        """
        command, seconds = ["mcti", *words, "--json"], limit * self.options.patience
        text = run(command, seconds, folder=self.work, environment={**self._kubeconfig(), **environment}, codes=(0, 4))
        try:
            result = json.loads(text)
        except ValueError as error:
            raise UnexpectedResult(f"`mcti {' '.join(words[:2])}` printed no JSON document") from error
        error = result.get("error") if isinstance(result, dict) else None
        if isinstance(error, dict):
            raise UnexpectedResult(f"`mcti {' '.join(words[:2])}`: {error.get('message')} in {error.get('where')}")
        return result

    def _kubeconfig(self) -> dict[str, str]:
        """KUBECONFIG with a first file that sets the current context, which the mcti commands use. It has no key."""
        if not self.options.context:
            return {}
        path = self.folder / "context.yaml"
        tree = {"apiVersion": "v1", "kind": "Config", "current-context": self.options.context}
        path.write_text(json.dumps(tree), encoding="utf-8")
        others = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube/config")
        return {"KUBECONFIG": os.pathsep.join([str(path), others])}

    def pipeline(self, *words: str, namespaced: bool = True, limit: float = 300) -> Any:
        """The output of a command of the group `mcti pipeline` with the address of the API server."""
        namespace = ["--namespace", self.options.runs_namespace] if namespaced else []
        return self.mcti("pipeline", *words, "--host", self.options.host, *namespace, limit=limit)

    def submit(self, pipeline: str, *words: str) -> str:
        """Submit a run. Returns its id."""
        result = self.pipeline("submit", "--kind", pipeline, *words, namespaced=self.options.multi_user)
        return str(result["run"])

    def wait_for_end(self, run_id: str, limit: float) -> dict[str, Any]:
        """Wait for the end of a run, at most `limit` seconds times the patience factor. Returns its status.

        Raises UnexpectedResult when it does not end in time, or when five requests in a row fail (a busy node may lose
        one).
        """
        failures: list[UnexpectedResult] = []

        def status() -> Any:
            try:
                result = self.pipeline("status", run_id)
            except UnexpectedResult as error:
                failures.append(error)
                if len(failures) == 5:
                    raise
                return None
            failures.clear()
            return result if result["state"] in END_STATES else None

        return dict(wait_until(f"the end of run {run_id}", status, limit * self.options.patience, every=20))

    def wait_for_success(self, run_id: str, limit: float) -> dict[str, Any]:
        """Wait for the end of a run. Returns its status.

        Raises UnexpectedResult when it did not succeed, with the failed tasks and their reasons.
        """
        result = self.wait_for_end(run_id, limit)
        if result["state"] != "SUCCEEDED":
            failed = [f"{task['name']} ({task['reason']})" for task in result["tasks"] if task["state"] == "FAILED"]
            raise UnexpectedResult(
                f"run {run_id} ended {result['state']}: {'; '.join(failed) or result.get('error') or ''}"
            )
        return result

    def secret(self, name: str) -> dict[str, str]:
        """The values of a Secret."""
        data = self.cluster.read("secret", name).get("data", {})
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    @contextlib.contextmanager
    def port_forwards(self, *services: str) -> Iterator[dict[str, str]]:
        """Forward ports of `services` (default: s3, mlflow). Yields the environment with their addresses and keys."""
        keys = self.secret("mcti-s3")
        with contextlib.ExitStack() as stack:
            ports = {name: stack.enter_context(self._forward(name)) for name in services or ("s3", "mlflow")}
            yield {
                "AWS_ENDPOINT_URL_S3": f"http://localhost:{ports.get('s3', 1)}",
                "MLFLOW_TRACKING_URI": f"http://localhost:{ports.get('mlflow', 1)}",
                "AWS_ACCESS_KEY_ID": keys["access_key"],
                "AWS_SECRET_ACCESS_KEY": keys["secret_key"],
                "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
                "MCTI_PATIENCE_SECONDS": "60",
            }

    @contextlib.contextmanager
    def _forward(self, service: str) -> Iterator[int]:
        target = {"s3": 8333, "mlflow": 5000}[service]
        port = _free_port()
        command = [*self.cluster.prefix(), "port-forward", f"service/{service}", f"{port}:{target}"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(
                f"a port-forward to {service}",
                lambda: _accepts_connections(port),
                60 * self.options.patience,
                every=0.5,
            )
            yield port
        finally:
            process.terminate()
            process.wait(30)


def facts_path(session: Session) -> Path:
    """The file of the facts."""
    return session.folder / "facts.json"


def save_facts(session: Session) -> None:
    """Write the facts atomically."""
    draft = facts_path(session).with_suffix(".draft")
    draft.write_text(json.dumps(session.facts, indent=2), encoding="utf-8")
    draft.replace(facts_path(session))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _accepts_connections(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
