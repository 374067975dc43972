"""One line per task from all nodes that KFP reports; logs by the name of the pod."""

import json

import pytest
import yaml

from mcti.cli.app import app
from mcti.cli.command_context import run_app
from mcti.errors import DataError, OperationalError
from mcti.params import load
from mcti.pipelines import logs, nodes, status, submit, task_log
from mcti.pipelines.text import MAX_CHARACTERS
from tests.pipelines.conftest import DATA, OVERRIDES
from tests.pipelines.recorded import Recording

LOOPS = {"shards": 3, "folds": 2}
TASKS = [
    "cache-keys", "ingest", "validate", "extract:0", "extract:1", "extract:2", "merge-features", "split", "search",
    "validate-features", "train:0", "train:1", "merge-models", "evaluate", "visualize", "register", "promote",
    "publish-features", "publish-models", "publish-evaluation", "conclude", "outcome",
]  # fmt: skip
# The lines of launcher and executor: https://github.com/kubeflow/pipelines/issues/11252
ARGO_LINES = (
    'time="2026-11-24T12:00:05Z" level=info msg="sub-process exited" argo=true error="<nil>"\nError: exit status 1\n'
)
ERROR = (
    "2026-11-24T12:00:04Z ERROR train: no such file or folder in s3://mcti-data/cohort: check the path (exit code 3)"
)
LOG = f"""I1124 12:00:00.000000      17 launcher.go:100] input ComponentSpec
2026-11-24T12:00:01Z INFO train: task started, pipeline run run-0, mcti 0.1.0
{ERROR}
F1124 12:00:05.000000      17 main.go:57] failed to execute component: exit status 3
{ARGO_LINES}"""


def compiled(pipeline, tmp_path_factory):
    path = tmp_path_factory.mktemp("package") / f"{pipeline}.yaml"
    submit.compile_to(load(None, list(OVERRIDES)), DATA, path, pipeline)
    return next(yaml.safe_load_all(path.read_text(encoding="utf-8")))


@pytest.fixture
def training(ir):
    return ir[0]


def by_name(report):
    return {task.name: task for task in report.tasks}


def test_an_id_is_the_hash_of_a_name():
    """The published vectors of FNV-1a, and a node of a real run of KFP 2.16."""
    assert [nodes.fnv1a(text) for text in ("", "a", "foobar")] == [0x811C9DC5, 0xE40C292C, 0xBF9CF968]
    assert nodes.fnv1a("general-cpu-rnggt.root.workspace-name.executor(0)") == 1467617326


@pytest.mark.parametrize("shipped", [True, False], ids=["retry strategy in every template", "plain"])
def test_a_run_is_one_line_per_task(server, training, shipped):
    address, state = server
    run = Recording(training, LOOPS, cached=("ingest",), shipped=shipped)
    state.runs["run-0"] = run.build()
    assert len(run.details) > 90, "about the number of nodes of a real run"
    report = status.status("run-0", address)
    tasks = by_name(report)
    assert sorted(tasks) == sorted(TASKS)
    assert {task.state for task in report.tasks} == {"SUCCEEDED"}
    assert (tasks["ingest"].attempts, tasks["ingest"].reason) == (0, "from the cache")
    assert (tasks["train:1"].attempts, tasks["train:1"].seconds) == (1, 125.0)
    assert report.exit_code == 0
    lines = report.lines()
    assert len(lines) == 1 + len(TASKS)
    (line,) = [line for line in lines if line.split()[0] == "train:1"]
    assert line.split() == ["train:1", "SUCCEEDED", "1", "attempt", "2", "min", "5", "s"]
    assert lines[0] == "run run-0 · mcti-training 0123 · SUCCEEDED"


@pytest.mark.parametrize("shipped", [True, False], ids=["retry strategy in every template", "plain"])
def test_a_failed_task_has_its_attempts_last_line_and_exit_code(server, training, shipped):
    address, state = server
    run = Recording(training, LOOPS, fail={"train:1": 3}, shipped=shipped)
    state.runs["run-0"] = run.build()
    last = max((pod for pod, text in run.logs.items() if text == "attempt 2 of train:1\n"), default="")
    state.logs = {last: LOG}
    tasks = by_name(status.status("run-0", address))
    assert (tasks["train:1"].state, tasks["train:1"].attempts, tasks["train:1"].reason) == ("FAILED", 3, ERROR)
    assert (tasks["train:0"].state, tasks["train:0"].reason) == ("SUCCEEDED", "")
    assert task_log.task_log("run-0", "train:1", address) == LOG


ARGO_4_LINE = 'time=2026-11-24T12:00:05.1Z level=INFO msg="sub-process exited" error="exit status 1"\n'  # Argo 4
PROGRESS = "2026-11-24T12:00:01Z INFO train: 40 of 400 steps"
FAILURES = {
    "killed": (f"{PROGRESS}\nF1124 12:00:05.0  17 main.go:57] failed to execute component: signal: killed\n", "137"),
    "a library after the error": (f"{ERROR}\nView run train at: http://mlflow/#/runs/1\n", "3"),
    "Argo 4": (
        f"{ERROR}\nF1124 12:00:05.0 17 main.go:57] failed to execute component: exit status 3\n{ARGO_4_LINE}",
        "3",
    ),
    "a script of another image": (
        "Traceback\nValueError: no column x\nF1124 12:00:05.0 17 main.go:57] exit status 1\n",
        "1",
    ),
}
REASONS = {
    "killed": f"{PROGRESS} (exit code 137)",
    "a library after the error": ERROR,
    "Argo 4": ERROR,
    "a script of another image": "ValueError: no column x (exit code 1)",
}


@pytest.mark.parametrize("case", FAILURES)
def test_the_reason_is_the_line_of_the_task_and_not_that_of_argo(server, training, case):
    """Argo ends the log of every failed pod with `Error: exit status 1`, independent of the exit code of the task."""
    address, state = server
    run = Recording(training, LOOPS, fail={"train:1": 1})
    state.runs["run-0"] = run.build()
    text, code = FAILURES[case]
    state.logs = dict.fromkeys(run.logs, text + ARGO_LINES)
    assert by_name(status.status("run-0", address))["train:1"].reason == REASONS[case]
    assert logs.exit_code(text + ARGO_LINES) == code


def test_a_failed_driver_is_the_reason_of_its_task(server, training):
    address, state = server
    run = Recording(training, LOOPS, stop=("split",))
    state.runs["run-0"] = run.build()
    tasks = by_name(status.status("run-0", address))
    assert (tasks["split"].state, tasks["split"].attempts, tasks["split"].reason) == ("FAILED", 0, "its driver failed")
    cause = 'input parameter "fold" type mismatch: expect NUMBER_INTEGER, got string'
    arguments = "component=" + "x" * MAX_CHARACTERS
    text = f"I1124 12:00:00.0 1 main.go:9] start\nF1124 12:00:01.0  1 main.go:79] driver({arguments}) failed: {cause}\n"
    state.logs = dict.fromkeys(tasks["split"].pods, text + ARGO_LINES)
    (reason,) = [task.reason for task in status.status("run-0", address).tasks if task.name == "split"]
    assert reason.startswith("its driver failed: ")
    assert reason.endswith(f"failed: {cause}")


def test_a_failed_driver_of_a_loop_has_a_separate_line(server, training):
    """The loop has no task that could have the reason."""
    address, state = server
    response = Recording(training, LOOPS).build()
    (driver, *_) = [
        node for node in response["run_details"]["task_details"] if node["display_name"] == "iteration-driver"
    ]
    driver["state"] = response["state"] = "FAILED"
    state.runs["run-0"] = response
    digest = driver["child_tasks"][0]["pod_name"].rpartition("-")[2]
    text = "F1124 12:00:01.0  1 main.go:79] driver.DAG(x) failed: items are not a list\n"
    state.logs = {f"mcti-x7k2p-system-dag-driver-{digest}": text + ARGO_LINES}
    row = by_name(status.status("run-0", address))["iteration-driver"]
    assert (row.state, row.attempts) == ("FAILED", 1)
    assert row.reason == "driver.DAG(x) failed: items are not a list"


def test_tasks_that_have_not_started_are_pending(server, training):
    address, state = server
    run = Recording(training, LOOPS, waiting=("split",))
    response = run.build()
    state.runs["run-0"] = response
    assert by_name(status.status("run-0", address))["split"].state == "PENDING"
    response["run_details"] = {"task_details": []}
    assert {task.state for task in status.status("run-0", address).tasks} == {"PENDING"}


def test_a_terminated_run_is_marked(server, training):
    address, state = server
    response = Recording(training, LOOPS, fail={"train:0": 1}).build()
    response["state_history"].append({"state": "CANCELING"})
    state.runs["run-0"] = response
    assert status.status("run-0", address).lines()[0].endswith("FAILED (terminated)")
    response["state_history"] += [{"state": "FAILED"}, {"state": "RUNNING"}, {"state": "FAILED"}]
    assert status.status("run-0", address).lines()[0].endswith("FAILED"), "it was retried since"


def test_names_are_used_where_no_hash_matches(server, training):
    """Another engine or a later version: entries name their parents, ids are not those of Argo."""
    address, state = server

    def task(number, name, parent, **more):
        times = {"start_time": "2026-11-24T12:00:00Z", "end_time": "2026-11-24T12:00:30Z"}
        entry = {"task_id": f"t{number}", "display_name": name, "parent_task_id": parent, "state": "SUCCEEDED"}
        return entry | times | more

    details = [
        task(1, "root", None), task(2, "root-driver", "t1"), task(3, "for-loop-4", "t1"), task(4, "iteration-0", "t3"),
        task(5, "train-driver", "t4"), task(6, "train", "t4", state="FAILED", child_tasks=[{"pod_name": "pod-a"}]),
        task(7, "train(0)", "t6", state="FAILED"), task(8, "train(1)", "t6", child_tasks=[{"pod_name": "pod-b"}]),
        task(9, "evaluate", "t1", error={"code": 1, "message": "out of memory"}),
    ]  # fmt: skip
    state.logs = {"pod-b": LOG}
    response = Recording(training, LOOPS).build() | {"run_details": {"task_details": details}}
    for run in (response, {name: value for name, value in response.items() if name != "pipeline_spec"}):
        state.runs["run-0"] = run
        tasks = by_name(status.status("run-0", address))
        assert {"train:0", "evaluate"} <= set(tasks)
        assert not [name for name in tasks if "driver" in name or "root" in name or "loop" in name]
        assert (tasks["train:0"].attempts, tasks["train:0"].state) == (2, "FAILED")
        assert tasks["train:0"].reason.endswith("check the path (exit code 3)")
        assert tasks["evaluate"].reason == "out of memory"


def test_a_deleted_log_is_one_clear_error(server, training):
    address, state = server
    state.runs["run-0"] = Recording(training, LOOPS, cached=("ingest",)).build()
    with pytest.raises(OperationalError, match=r"log of split cannot be read any more.*executor-logs.*archiveLogs"):
        task_log.task_log("run-0", "split", address)
    with pytest.raises(DataError, match=r"no task 'train:7'.*did you mean train:"):
        task_log.task_log("run-0", "train:7", address)
    with pytest.raises(DataError, match="task ingest has no log: from the cache"):
        task_log.task_log("run-0", "ingest", address)


@pytest.mark.slow
@pytest.mark.parametrize("pipeline", ["retraining", "inference"])
def test_retraining_and_inference_have_one_line_per_task(server, pipeline, tmp_path_factory):
    address, state = server
    loops = {"shards": 3, "folds": 2, "slides": 3}
    state.runs["run-0"] = Recording(compiled(pipeline, tmp_path_factory), loops).build()
    tasks = by_name(status.status("run-0", address))
    exit_task, loop_task = {"retraining": ("release-lease", "train:1"), "inference": ("outcome", "heatmaps:2")}[
        pipeline
    ]
    assert {exit_task, loop_task, "conclude"} <= set(tasks)
    assert {task.state for task in tasks.values()} == {"SUCCEEDED"}


def test_only_the_executed_one_of_the_last_tasks_of_all_branches_is_shown():
    def rows(*pairs):
        return [nodes.TaskStatus(name=name, state=state, attempts=0, seconds=None) for name, state in pairs]

    branches = rows(("conclude", "SKIPPED"), ("conclude", "SUCCEEDED"), ("conclude", "SKIPPED"), ("train", "SKIPPED"))
    assert status.one_of_each_branch(branches) == [branches[1], branches[3]]
    waiting = rows(("conclude", "PENDING"), ("conclude", "PENDING"))
    assert status.one_of_each_branch(waiting) == waiting[:1]
    both = rows(("score", "SUCCEEDED"), ("score", "FAILED"))
    assert status.one_of_each_branch(both) == both


def test_the_command_prints_the_lines_or_one_json_document(server, training, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    address, state = server
    state.runs["run-0"] = Recording(training, LOOPS).build()
    assert run_app(app, ["pipeline", "status", "run-0", "--host", address]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(TASKS)
    assert run_app(app, ["pipeline", "status", "run-0", "--host", address, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tasks"][0]["name"] == "cache-keys"
