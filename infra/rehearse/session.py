"""What the steps share: the options, the folder of this rehearsal, what earlier steps made, and our own commands."""

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

from infra.rehearse.shell import Cluster, Differs, run, wait_until

MODEL = "mcti-rehearsal"  # model, cohort, pipelines and experiment of the rehearsal; nothing else has this name
REMOTE = f"s3://mcti-data/{MODEL}"
SERVICES = ("statefulset/s3", "statefulset/postgresql", "deployment/mlflow")
ENDED = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}


@dataclass(frozen=True)
class Options:
    """The command line (docs/rehearsal.md)."""

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
    """One rehearsal; `facts` outlive the process, so that it can be resumed."""

    options: Options
    root: Path
    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def cluster(self) -> Cluster:
        """kubectl for the namespace of our services."""
        return Cluster(self.options.context, self.options.namespace, self.options.patience)

    @property
    def work(self) -> Path:
        """Where our own commands run: settings, data."""
        return self.folder / "work"

    @property
    def site(self) -> Path:
        """The overlay that is applied."""
        return self.folder / "site"

    def mcti(self, *words: str, limit: float = 300, **environment: str) -> Any:
        """What one of our own commands prints under --json.

        Raises
            Differs: it ended with an error. Exit code 4 with a result is none: status and doctor name what is missing.
        """
        command, seconds = ["mcti", *words, "--json"], limit * self.options.patience
        text = run(command, seconds, folder=self.work, environment={**self._kubeconfig(), **environment}, codes=(0, 4))
        try:
            result = json.loads(text)
        except ValueError as error:
            raise Differs(f"`mcti {' '.join(words[:2])}` printed no JSON document") from error
        error = result.get("error") if isinstance(result, dict) else None
        if isinstance(error, dict):
            raise Differs(f"`mcti {' '.join(words[:2])}`: {error.get('message')} in {error.get('where')}")
        return result

    def _kubeconfig(self) -> dict[str, str]:
        """Our commands ask kubectl's current context: a first file that names the one of the rehearsal, and no key."""
        if not self.options.context:
            return {}
        path = self.folder / "context.yaml"
        tree = {"apiVersion": "v1", "kind": "Config", "current-context": self.options.context}
        path.write_text(json.dumps(tree), encoding="utf-8")
        others = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube/config")
        return {"KUBECONFIG": os.pathsep.join([str(path), others])}

    def pipeline(self, *words: str, namespaced: bool = True, limit: float = 300) -> Any:
        """A command of the group `mcti pipeline` against the API server."""
        where = ["--namespace", self.options.runs_namespace] if namespaced else []
        return self.mcti("pipeline", *words, "--host", self.options.host, *where, limit=limit)

    def submit(self, pipeline: str, *words: str) -> str:
        """Start a run; its id."""
        result = self.pipeline("submit", "--kind", pipeline, *words, namespaced=self.options.multi_user)
        return str(result["run"])

    def ended(self, run_id: str, limit: float) -> dict[str, Any]:
        """The status of a run that has ended.

        Raises
            Differs: it did not end in time, or five questions in a row had no answer; one may get lost on a busy node.
        """
        lost: list[Differs] = []

        def status() -> Any:
            try:
                result = self.pipeline("status", run_id)
            except Differs as error:
                lost.append(error)
                if len(lost) == 5:
                    raise
                return None
            lost.clear()
            return result if result["state"] in ENDED else None

        return dict(wait_until(f"the end of run {run_id}", status, limit * self.options.patience, every=20))

    def succeeded(self, run_id: str, limit: float) -> dict[str, Any]:
        """The same; Differs when it did not succeed, with the tasks that failed and why."""
        result = self.ended(run_id, limit)
        if result["state"] != "SUCCEEDED":
            failed = [f"{task['name']} ({task['reason']})" for task in result["tasks"] if task["state"] == "FAILED"]
            raise Differs(f"run {run_id} ended {result['state']}: {'; '.join(failed) or result.get('error') or ''}")
        return result

    def secret(self, name: str) -> dict[str, str]:
        """The values of a Secret."""
        data = self.cluster.read("secret", name).get("data", {})
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    @contextlib.contextmanager
    def outside(self, *services: str) -> Iterator[dict[str, str]]:
        """The environment in which our commands reach S3 and MLflow from here, by port-forwards."""
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
        words = [*self.cluster.words(), "port-forward", f"service/{service}", f"{port}:{target}"]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(f"a port-forward to {service}", lambda: _answers(port), 60 * self.options.patience, every=0.5)
            yield port
        finally:
            process.terminate()
            process.wait(30)


def saved(session: Session) -> Path:
    """Where the facts of a rehearsal lie."""
    return session.folder / "facts.json"


def save(session: Session) -> None:
    """Write the facts, whole or not at all."""
    draft = saved(session).with_suffix(".draft")
    draft.write_text(json.dumps(session.facts, indent=2), encoding="utf-8")
    draft.replace(saved(session))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
