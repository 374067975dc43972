"""Pods are killed during a training: Kubernetes must replace each service, and the run must succeed."""

from typing import Any

from infra.rehearse.session import END_STATES, Session
from infra.rehearse.shell import MissingRequirement, UnexpectedResult, wait_until

# KFP's template of a task with retries. `validate` and `promote` have none, since their result would not change:
# a run that loses the only attempt of such a task fails.
RETRY_TEMPLATE = "retry-system-container-impl"


def kill_task(session: Session) -> str:
    """Delete the running pod of a task with retries by force, as after the loss of a node."""
    run, cluster, namespace = session.facts["training"], session.cluster, session.options.runs_namespace
    if session.pipeline("status", run)["state"] in END_STATES:
        raise UnexpectedResult(f"run {run} had ended before a task could be killed")

    def running_pod() -> Any:
        pods = cluster.read("pods", "-l", f"pipeline/runid={run}", namespace=namespace).get("items", ())
        names = [pod["metadata"]["name"] for pod in pods if pod.get("status", {}).get("phase") == "Running"]
        return next((name for name in names if RETRY_TEMPLATE in name), None)

    pod = wait_until(f"a running pod with retries of run {run}", running_pod, 900 * session.options.patience, every=3)
    cluster.call("delete", "pod", pod, "--grace-period=0", "--force", namespace=namespace)
    return f"pod {pod} deleted by force"


def kill_service(service: str) -> Any:
    """The action that kills the pod of a service (mlflow, postgresql, s3) and waits until another one is ready."""

    def action(session: Session) -> str:
        cluster, resource = session.cluster, "deployment" if service == "mlflow" else "statefulset"
        label = f"app.kubernetes.io/name={service}"
        existing = cluster.read("pods", "-l", label).get("items", ())
        if not existing:
            raise MissingRequirement(f"no pod of {service} in {session.options.namespace}: run the step `install`")
        old = {pod["metadata"]["uid"] for pod in existing}
        names = [pod["metadata"]["name"] for pod in existing]
        cluster.call("delete", "pod", *names, "--grace-period=0", "--force", limit=120)

        def replaced() -> bool:
            pods = cluster.read("pods", "-l", label).get("items", ())
            return bool(pods) and not old & {pod["metadata"]["uid"] for pod in pods}

        wait_until(f"another pod of {service}", replaced, 300 * session.options.patience)
        cluster.wait_for_rollout(f"{resource}/{service}")
        return f"{', '.join(names)} deleted by force; another one is ready"

    return action
