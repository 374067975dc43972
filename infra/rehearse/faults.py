"""Pods that are killed while a training runs: each service comes back by itself, and the run ends well."""

from typing import Any

from infra.rehearse.session import ENDED, Session
from infra.rehearse.shell import Differs, Missing, wait_until

# KFP's template of a task that may be tried again. `validate` and `promote` may not: their verdict would not change,
# and a run whose only attempt at them is lost has failed.
RETRIED = "retry-system-container-impl"


def killed_task(session: Session) -> str:
    """Delete by force the pod of a task that runs and may be tried again, as a node does that goes away."""
    run, cluster, namespace = session.facts["training"], session.cluster, session.options.runs_namespace
    if session.pipeline("status", run)["state"] in ENDED:
        raise Differs(f"run {run} had ended before a task could be killed")

    def working() -> Any:
        pods = cluster.read("pods", "-l", f"pipeline/runid={run}", namespace=namespace).get("items", ())
        names = [pod["metadata"]["name"] for pod in pods if pod.get("status", {}).get("phase") == "Running"]
        return next((name for name in names if RETRIED in name), None)

    pod = wait_until(f"a pod of run {run} that works and has retries", working, 900 * session.options.patience, every=3)
    cluster.call("delete", "pod", pod, "--grace-period=0", "--force", namespace=namespace)
    return f"pod {pod} deleted by force"


def killed(service: str) -> Any:
    """An action that kills the pod of a service (mlflow, postgresql, s3) and waits until another one is ready."""

    def action(session: Session) -> str:
        cluster, resource = session.cluster, "deployment" if service == "mlflow" else "statefulset"
        label = f"app.kubernetes.io/name={service}"
        existing = cluster.read("pods", "-l", label).get("items", ())
        if not existing:
            raise Missing(f"no pod of {service} in {session.options.namespace}: run the step `install`")
        old = {pod["metadata"]["uid"] for pod in existing}
        names = [pod["metadata"]["name"] for pod in existing]
        cluster.call("delete", "pod", *names, "--grace-period=0", "--force", limit=120)

        def replaced() -> bool:
            pods = cluster.read("pods", "-l", label).get("items", ())
            return bool(pods) and not old & {pod["metadata"]["uid"] for pod in pods}

        wait_until(f"another pod of {service}", replaced, 300 * session.options.patience)
        cluster.rolled_out(f"{resource}/{service}")
        return f"{', '.join(names)} deleted by force; another one is ready"

    return action
