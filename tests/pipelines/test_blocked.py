"""Reasons why pods of a run cannot start or could not start, with a fake server and a fake kubectl."""

from datetime import UTC, datetime, timedelta

import pytest

from mcti.cli.app import app
from mcti.cli.command_context import run_app
from mcti.pipelines import status
from tests.pipelines import fake_kubectl
from tests.pipelines.recorded import Recording

PODS = ("get pods", "-l pipeline/runid=run-0")
FLOWS = ("get workflows.argoproj.io", "-l pipeline/runid=run-0")
IN_NAMESPACE = tuple(" ".join(words) for words in (PODS, FLOWS))
EVERYWHERE = tuple(" -A ".join(words) for words in (PODS, FLOWS))
ACCOUNT = 'pods "mcti-x" is forbidden: error looking up service account kubeflow/pipeline-runner: not found'


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A function that sets the responses of kubectl."""
    empty = {"items": []}
    return fake_kubectl.install(tmp_path, monkeypatch, dict.fromkeys(EVERYWHERE, empty))


def running(state):
    state.runs["run-0"] = {"run_id": "run-0", "display_name": "mcti-training", "state": "RUNNING"}


def workflow(name, phase, message, node="mcti-x7k2p-1"):
    report = {"displayName": name, "type": "Pod", "phase": phase, "message": message}
    return {"items": [{"status": {"nodes": {node: report, "mcti-x7k2p-2": {"phase": "Succeeded"}}}}]}


def waiting(reason="", message="", condition="", seconds=90):
    """A pod of a run that cannot start."""
    state = {"waiting": {"reason": reason, "message": message}}
    container = {"name": "main", "image": "registry.example/mcti@sha256:0", "state": state}
    since = (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    failing = {"type": "PodScheduled", "reason": "Unschedulable", "message": condition, "lastTransitionTime": since}
    unschedulable = [failing] if condition else []
    status = {"phase": "Pending", "conditions": unschedulable, "containerStatuses": [container] if reason else []}
    return {"metadata": {"name": "pod-a", "namespace": "kubeflow"}, "status": status}


ABSENT = 'secret "mcti-s3" not found'
BLOCKED_PODS = {
    "image": (waiting("ImagePullBackOff", "Back-off"), "image registry.example/mcti@sha256:0 cannot be pulled"),
    "secret": (waiting("CreateContainerConfigError", ABSENT), f"{ABSENT}): create it"),
    "claim": (waiting(condition='persistentvolumeclaim "scratch" not found'), "a claim does not bind"),
    "unbound": (waiting(condition="pod has unbound immediate PersistentVolumeClaims"), "a claim does not bind"),
    "resources": (
        waiting(condition="0/1 nodes are available: 1 Insufficient cpu."),
        "no node can run a pod (0/1 nodes",
    ),
}


@pytest.mark.parametrize("cause", [*BLOCKED_PODS, "quota", "quota without any pod"])
def test_status_reports_why_pods_cannot_start_and_exits_with_4(server, cluster, capsys, cause, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    address, state = server
    state.runs["run-0"] = {"run_id": "run-0", "display_name": "mcti-training", "state": "RUNNING"}
    pod, words = BLOCKED_PODS.get(cause, (waiting(), "the quota is used up"))
    message = 'pods "mcti-x" is forbidden: exceeded quota: all, requested: requests.cpu=4'
    node = {"phase": "Pending", "message": message if "quota" in cause else "ContainerCreating"}
    pods = [] if cause == "quota without any pod" else [pod, pod]
    cluster(
        {
            f"{PODS[0]} -A {PODS[1]}": {"items": pods},
            f"{FLOWS[0]} -A {FLOWS[1]}": {"items": [{"status": {"nodes": {"a": node}}}]},
        }
    )
    assert run_app(app, ["pipeline", "status", "run-0", "--host", address]) == 4
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("error: ")]
    assert words in line
    state.runs["run-0"]["state"] = "SUCCEEDED"
    assert run_app(app, ["pipeline", "status", "run-0", "--host", address]) == 0


def test_a_pod_that_has_waited_for_seconds_only_is_a_note(server, cluster):
    """The scheduler marks every pod as Unschedulable that it cannot place immediately."""
    address, state = server
    running(state)
    full = "0/1 nodes are available: 1 Insufficient cpu."
    cluster({EVERYWHERE[0]: {"items": [waiting(condition=full, seconds=20)]}})
    report = status.status("run-0", address)
    assert (report.problems, report.exit_code) == ((), 0)
    assert report.lines()[-1] == f"note: a pod has waited for a node for less than 60 s ({full})"
    cluster({EVERYWHERE[0]: {"items": [waiting(condition=full, seconds=120)]}})
    report = status.status("run-0", address)
    assert (report.notes, report.exit_code) == ((), 4)


REFUSED = "Error from server (Forbidden): pods is forbidden: cannot list at the cluster scope"


def test_without_rights_for_all_namespaces_that_of_the_context_is_read(server, cluster):
    address, state = server
    running(state)
    refused = dict.fromkeys(EVERYWHERE, REFUSED)
    pods = {"items": [waiting("ImagePullBackOff", "Back-off")]}
    cluster({**refused, IN_NAMESPACE[0]: pods, IN_NAMESPACE[1]: {"items": []}})
    report = status.status("run-0", address)
    assert (len(report.problems), report.unknown, report.exit_code) == (1, (), 4)
    cluster({**refused, **{command: {"items": []} for command in IN_NAMESPACE}})
    (line,) = status.status("run-0", address).unknown
    assert REFUSED in line
    assert "set --namespace" in line


def test_without_rights_for_the_namespace_the_cause_is_unknown(server, cluster):
    address, state = server
    running(state)
    listing = REFUSED.replace("at the cluster scope", "in the namespace alice")
    cluster(dict.fromkeys(EVERYWHERE, REFUSED) | dict.fromkeys(IN_NAMESPACE, listing))
    report = status.status("run-0", address)
    assert report.exit_code == 0
    assert report.lines()[-1].startswith(
        f"unknown: why pods of the run do not start: kubectl cannot read them ({listing})"
    )
    cluster({word.replace(" -l", " -n bob -l"): listing for word in IN_NAMESPACE})
    assert len(status.status("run-0", address, "bob").unknown) == 1


@pytest.mark.parametrize("shipped", [True, False], ids=["retry strategy in every template", "plain"])
def test_a_task_whose_pod_was_forbidden_has_argo_s_message_as_its_reason(server, cluster, ir, shipped):
    """It has no log, since no pod was created (account, PodSecurity, quota)."""
    address, state = server
    run = Recording(ir[0], {"shards": 3, "folds": 2}, fail={"search": 1}, shipped=shipped)
    state.runs["run-0"] = run.build()
    row = next(task for task in status.status("run-0", address).tasks if task.name == "search")
    node = "mcti-x7k2p-" + row.pods[0].rpartition("-")[2]
    cluster({EVERYWHERE[1]: workflow("executor(0)", "Error", ACCOUNT + "\n", node)})
    (reason,) = [task.reason for task in status.status("run-0", address).tasks if task.state == "FAILED"]
    assert reason == ACCOUNT
    state.logs = dict.fromkeys(row.pods, "ValueError: no column x\n")
    (reason,) = [task.reason for task in status.status("run-0", address).tasks if task.state == "FAILED"]
    assert reason == "ValueError: no column x"


def test_a_first_driver_that_was_forbidden_has_the_message_as_its_reason(server, cluster, ir):
    address, state = server
    run = Recording(ir[0], {"shards": 3, "folds": 2}, fail={"search": 1}).build()
    (first,) = [node for node in run["run_details"]["task_details"] if node["display_name"] == "root-driver"]
    first["state"] = "FAILED"
    run["run_details"]["task_details"] = [run["run_details"]["task_details"][0], first]
    state.runs["run-0"] = run
    cluster({EVERYWHERE[1]: workflow("root-driver(0)", "Error", ACCOUNT)})
    (row,) = [task for task in status.status("run-0", address).tasks if task.state == "FAILED"]
    assert (row.name, row.reason) == ("root-driver", ACCOUNT)


def test_a_run_that_failed_before_any_task_has_the_message_as_its_error(server, cluster):
    address, state = server
    running(state)
    state.runs["run-0"]["state"] = "FAILED"
    cluster({EVERYWHERE[1]: workflow("root-driver", "Error", ACCOUNT)})
    assert status.status("run-0", address).lines() == [f"run run-0 · mcti-training · FAILED · {ACCOUNT}"]
