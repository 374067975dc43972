"""`make rehearse` against programs that only write down how they are called: order, table, clean stops."""

import base64
import contextlib
import gzip
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from infra.rehearse import __main__ as rehearsal
from infra.rehearse import backup, retry, runs, shell, tracking, work
from infra.rehearse.install import _image, identities
from infra.rehearse.session import MODEL
from infra.rehearse.shell import Differs, run, wait_until
from infra.rehearse.steps import OFFLINE, STEPS
from mcti import params
from tests.infra.manifests import ROOT, kustomize, named

FAKES = Path(__file__).parent / "fakes"
CLUSTER = [step.name for step in STEPS if step.name not in OFFLINE]
HOST = ("--host", "http://localhost:8888")


class Clock:
    """A clock that a wait moves on at once."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += max(seconds, 0.5)
        time.sleep(0.1)  # a program that was started needs some time of ours


class Kfp:
    """What the rehearsal asks of the SDK: runs by the clock, and a run of one task."""

    def __init__(self):
        self.calls, self.runs = [], ["old"]

    def get_experiment(self, **_):
        return SimpleNamespace(experiment_id="e")

    def list_runs(self, **_):
        runs = [SimpleNamespace(run_id=run) for run in self.runs]
        self.runs = ["old", "by-the-clock"]
        return SimpleNamespace(runs=runs)

    def disable_recurring_run(self, schedule):
        self.calls.append(("disable", schedule))

    def delete_recurring_run(self, schedule):
        self.calls.append(("delete", schedule))

    def create_run_from_pipeline_package(self, package, **environment):
        self.calls.append(("run", Path(package).read_text(encoding="utf-8"), environment))
        return SimpleNamespace(run_id="fails-once")


def programs(folder):
    """The programs, run by this Python without its packages: they start in a few milliseconds."""
    folder.mkdir()
    for source in FAKES.iterdir():
        program = folder / source.name
        program.write_text(f"#!{sys.executable} -SE\n{source.read_text(encoding='utf-8')}", encoding="utf-8")
        program.chmod(0o755)
    return folder


def edge_in(tmp_path, monkeypatch):
    """The programs on PATH, Kubeflow's client, MLflow's answer; no painting, no waiting."""
    monkeypatch.setenv("PATH", f"{programs(tmp_path / 'bin')}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_STATE", str(tmp_path / "state.json"))
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    kfp = Kfp()
    monkeypatch.setattr(runs, "client_of", lambda session: kfp)
    monkeypatch.setattr(retry, "client_of", lambda session: kfp)
    monkeypatch.setattr(runs, "run_status", lambda *_: "FINISHED")
    monkeypatch.setattr(work, "write_cohort", lambda session, *_: session.work / "data/raw")
    monkeypatch.setattr(shell, "time", Clock())
    stored = iter(range(1000))
    monkeypatch.setattr(
        backup, "listed", lambda *_: [f"s3://mcti-backup/postgresql/{n}.sql.gz" for n in range(2 * next(stored))]
    )
    monkeypatch.setattr(backup, "fetch", lambda *_: gzip.compress(b"SELECT 1;"))
    return SimpleNamespace(folder=tmp_path, kfp=kfp)


@pytest.fixture
def edge(tmp_path, monkeypatch):
    return edge_in(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A rehearsal of every step that needs a cluster: its edge, exit code and what it printed."""
    with pytest.MonkeyPatch.context() as monkeypatch, contextlib.redirect_stdout(io.StringIO()) as printed:
        edge = edge_in(tmp_path_factory.mktemp("whole"), monkeypatch)
        code = rehearse(edge, *HOST, *only(*CLUSTER))
    return SimpleNamespace(edge=edge, code=code, printed=printed.getvalue())


def say(edge, **state):
    path = edge.folder / "state.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(known | state), encoding="utf-8")


def rehearse(edge, *words):
    return rehearsal.main([*words, "--folder", str(edge.folder / "rehearsal"), "--yes"])


def calls(edge):
    path = edge.folder / "log"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def as_if_done(edge, *names):
    """Facts and results of a rehearsal whose earlier steps went well."""
    assert rehearse(edge, *HOST, *only("look", "install")) == 0
    path = edge.folder / "rehearsal/facts.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    facts |= {"training": "training-1", "data": "0" * 32 + ".dir", "backup": "s3://mcti-backup/postgresql/1.sql.gz"}
    facts["results"] |= {name: {"seen": "before", "good": True, "seconds": 1} for name in names}
    path.write_text(json.dumps(facts), encoding="utf-8")
    (edge.folder / "log").unlink()


def first_at(edge, *words):
    """Number of the first call that holds these words."""
    return next(n for n, call in enumerate(calls(edge)) if all(word in call for word in words))


def only(*names):
    return [word for name in names for word in ("--only", name)]


def test_a_cluster_goes_through_every_step(whole):
    printed = whole.printed
    assert whole.code == 0, printed
    table = printed[printed.index("step ") :]
    assert "DIFFERS" not in table
    for name in CLUSTER:
        assert f"\n{name} " in table
    assert printed.index("context                rehearsal") < printed.index("[1/"), "first it says what and where"
    assert "replaces every database of PostgreSQL" in printed[: printed.index("[1/")]


def test_the_calls_come_in_the_order_of_the_runbook(whole):
    edge = whole.edge
    order = [
        first_at(edge, "kubectl", "version"),
        first_at(edge, "mcti", "doctor"),  # is it a Kubeflow? before anything is changed
        first_at(edge, "create", "namespace"),
        first_at(edge, "apply", "-f"),
        first_at(edge, "apply", "-k"),
        first_at(edge, "mcti", "publish"),
        first_at(edge, "mcti", "submit", "training"),
        first_at(edge, "delete", "pod", "--force"),
        first_at(edge, "mcti", "submit", "retraining"),
        first_at(edge, "mcti", "submit", "inference"),
        first_at(edge, "mcti", "schedule"),
        first_at(edge, "rollout", "restart", "statefulset/s3"),
        first_at(edge, "create", "job", "--from=cronjob/backup"),
        first_at(edge, "scale", "--replicas=0"),
        first_at(edge, "create", "job", "--from=cronjob/mlflow-migrate"),
    ]
    assert order == sorted(order)
    assert edge.kfp.calls[-2:] == [("disable", "recurring-1"), ("delete", "recurring-1")]
    for call in calls(edge):
        if call[0] == "kubectl" and call[1] != "config":
            assert call[1:3] == ["--context", "rehearsal"], "never the context that happens to be the current one"


def test_no_key_or_password_stands_on_a_command_line_or_in_a_file_of_the_rehearsal(whole):
    edge = whole.edge
    secrets = json.loads((edge.folder / "state.json").read_text(encoding="utf-8"))["secret"]
    values = [base64.b64decode(secrets[name]["data"][key]).decode() for name, key in
              (("mcti-s3", "secret_key"), ("mcti-postgresql", "password"))]  # fmt: skip
    texts = [(edge.folder / "log").read_text(encoding="utf-8")]
    texts += [path.read_text(encoding="utf-8") for path in (edge.folder / "rehearsal").rglob("*") if path.is_file()]
    assert all(len(value) >= 20 for value in values)
    assert not [value for value in values for text in texts if value in text]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"no-context": True}, "no current context"),
        ({"away": True}, "does not answer"),
        ({"no-right": "secrets"}, "no right to create secrets"),
        ({"no-right": "priorityclasses"}, "no right to create priorityclasses"),
        ({"not-ready": "ErrImageNeverPull"}, "pod a-pod waits, ErrImageNeverPull: as said: load the image"),
        ({"not-ready": "CreateContainerConfigError"}, "make the Secret"),
        ({"no-storage": True}, "no storage class"),
        ({"kubeflow_in": ["kubeflow"]}, "starts its runs there, not in mcti: RUNS_NAMESPACE=kubeflow"),
        (
            {"missing": [{"state": "missing", "name": "Secret mcti-s3", "detail": "in kubeflow", "hint": "make it"}]},
            "Secret mcti-s3 (in kubeflow: make it)",
        ),
    ],
)
def test_where_something_is_missing_it_stops_with_one_line(edge, capsys, state, words):
    say(edge, **state)
    assert rehearse(edge, *HOST, *only("look", "install", "doctor", "submit")) == 4
    printed = capsys.readouterr()
    error = printed.err.strip()
    assert words in error
    assert len(error.splitlines()) == 1
    if "no-context" not in state:
        assert "DIFFERS: missing: " in printed.out.rpartition("step ")[2], "the table shows where it stopped"
    assert not [call for call in calls(edge) if call[0] == "mcti" and "submit" in call]


def test_without_an_address_of_kubeflow_or_an_answer_nothing_is_asked_of_the_cluster(edge, capsys):
    assert rehearse(edge) == 4
    assert "no address of Kubeflow Pipelines" in capsys.readouterr().err
    assert rehearsal.main([*HOST, "--folder", str(edge.folder / "rehearsal")]) == 4, "nobody answers yes here"
    assert "nobody agreed" in capsys.readouterr().err
    assert {call[1] for call in calls(edge)} <= {"config"}


def test_a_host_that_is_no_kubeflow_is_seen_before_anything_is_changed(edge, capsys):
    message = {
        "state": "missing",
        "name": "server",
        "detail": "no Kubeflow in http://localhost:8888",
        "hint": "check --host",
    }
    say(edge, missing=[message])
    assert rehearse(edge, *HOST, *only("look", "install")) == 4
    assert "no Kubeflow in http://localhost:8888: check --host" in capsys.readouterr().err
    assert not [call for call in calls(edge) if {"apply", "create"} & set(call) and "can-i" not in call]


def test_a_service_that_does_not_become_ready_is_a_row_that_says_why(edge, capsys):
    say(edge, **{"not-ready": "ContainerCreating"}, warnings=["exceeded quota: mcti"])
    assert rehearse(edge, *HOST, *only("look", "install")) == 1
    row = capsys.readouterr().out.rpartition("step ")[2]
    assert "statefulset/s3 ready: not within 600 s; pod a-pod is Running (ContainerCreating)" in row
    assert "last warning: exceeded quota: mcti" in row


def test_buckets_that_were_not_made_are_seen(edge, capsys):
    say(edge, job_ends="Failed")
    assert rehearse(edge, *HOST, *only("look", "install")) == 1
    assert "job buckets failed" in capsys.readouterr().out


def test_a_second_apply_that_changes_a_stateful_set_is_seen(edge, capsys):
    """kubectl says `configured` of one with claims each time: its generation counts."""
    assert rehearse(edge, *HOST, *only("look", "install")) == 0
    say(edge, changes=True)
    assert rehearse(edge, *HOST, "--only", "install") == 1
    assert "a second `kubectl apply -k` changed: statefulset.apps/s3 configured" in capsys.readouterr().out


def test_our_commands_ask_the_context_of_the_rehearsal(edge, monkeypatch):
    """They take kubectl's current context."""
    monkeypatch.setenv("KUBECONFIG", "/srv/kubernetes/config")
    assert rehearse(edge, *HOST, "--context", "other", *only("look", "install", "doctor")) == 0
    path = edge.folder / "rehearsal/context.yaml"
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["current-context"] == "other"
    environment = json.loads((edge.folder / "state.json").read_text(encoding="utf-8"))["kubeconfig"]
    assert environment == f"{path}{os.pathsep}/srv/kubernetes/config"


def test_what_a_library_raises_is_a_row_and_what_was_made_is_remembered(edge, monkeypatch, capsys):
    as_if_done(edge, *CLUSTER[: CLUSTER.index("recurring")])

    def lost(_):
        raise ConnectionError("the port-forward ended")

    monkeypatch.setattr(edge.kfp, "disable_recurring_run", lost)
    monkeypatch.setattr(edge.kfp, "delete_recurring_run", lost)
    assert rehearse(edge, *HOST, *only("recurring", "backup")) == 1
    table = capsys.readouterr().out.rpartition("step ")[2]
    assert "DIFFERS: ConnectionError: the port-forward ended" in table
    assert "\nbackup " in table, "the next step is done"
    assert rehearse(edge, "--clean") == 4, "the schedule is still there"
    assert "recurring run recurring-1 is still there" in capsys.readouterr().err


def test_a_question_that_gets_lost_does_not_end_a_wait(edge, capsys):
    as_if_done(edge, "submit")
    say(edge, lost=4)
    assert rehearse(edge, *HOST, "--only", "training") == 0
    say(edge, lost=5)
    assert rehearse(edge, *HOST, "--only", "training") == 1
    assert "`mcti pipeline status`: lost in somewhere" in capsys.readouterr().out


def test_without_kubectl_it_says_so(edge, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(edge.folder))
    assert rehearse(edge, *HOST) == 4
    assert "no kubectl" in capsys.readouterr().err
    assert rehearse(edge, "--offline") == 4
    assert "kubectl cannot be started" in capsys.readouterr().err


def test_the_pod_that_is_killed_belongs_to_a_task_that_may_be_tried_again(edge):
    as_if_done(edge, "submit")
    assert rehearse(edge, *HOST, "--only", "kill-task") == 0
    (deleted,) = [call for call in calls(edge) if "--force" in call]
    assert "run-retry-system-container-impl-3" in deleted


def test_pods_that_cannot_start_end_the_wait(edge, capsys):
    say(edge, problems=["no image x: load it into the node"], pending=True)
    assert rehearse(edge, *HOST, *only("look", "install", "submit")) == 4
    assert "no image x" in capsys.readouterr().err


def test_a_step_that_differs_is_a_row_and_those_that_build_on_it_are_not_done(edge, capsys):
    say(edge, ends="FAILED")
    steps = only("look", "install", "submit", "training", "retraining", "backup")
    assert rehearse(edge, *HOST, *steps) == 1
    table = capsys.readouterr().out.rpartition("step ")[2]
    assert "DIFFERS: run training-1 ended FAILED: detect-new-data" in table
    assert "not done: needs training" in table
    assert "\nbackup " in table, "what does not build on it is done"
    assert ["retraining"] not in [call for call in calls(edge) if "retraining" in call]
    say(edge, ends="SUCCEEDED")
    assert rehearse(edge, *HOST, *only("training", "retraining")) == 0, "resumed with what was made before"


def test_it_resumes_at_a_step(edge, capsys):
    as_if_done(edge, *CLUSTER[: CLUSTER.index("backup")])
    capsys.readouterr()
    assert rehearse(edge, *HOST, "--from", "backup") == 0
    assert not [call for call in calls(edge) if "submit" in call]
    assert "\ntraining " in capsys.readouterr().out, "the table shows what was seen before"


def test_a_restore_spares_the_models_of_others(edge, capsys):
    as_if_done(edge, *CLUSTER[: CLUSTER.index("restore")])
    say(edge, others="3")
    assert rehearse(edge, *HOST, "--only", "restore") == 4
    assert "3 other models" in capsys.readouterr().err
    assert not [call for call in calls(edge) if "scale" in call]


def test_a_job_that_fails_is_seen(edge, capsys):
    assert rehearse(edge, *HOST, *only("look", "install")) == 0
    say(edge, job_ends="Failed")
    assert rehearse(edge, *HOST, "--only", "backup") == 1
    assert "job backup-rehearsal-" in capsys.readouterr().out
    assert "delete" in calls(edge)[-1], "and not left behind"


def test_a_key_that_is_still_taken_is_seen(edge, capsys):
    as_if_done(edge, *CLUSTER[: CLUSTER.index("rotate")])
    say(edge, takes_any_key=True)
    assert rehearse(edge, *HOST, "--only", "rotate") == 1
    assert "the old key of S3 is still taken" in capsys.readouterr().out


def test_it_deletes_what_it_made_only_when_asked(edge):
    assert rehearse(edge, *HOST, *only("look", "install")) == 0
    assert not [call for call in calls(edge) if "pvc" in call or ("namespace" in call and "delete" in call)]
    assert rehearse(edge, "--clean") == 0
    assert "namespace" in calls(edge)[-1], "which it had made"


def test_what_others_made_after_a_clean_stays(edge):
    assert rehearse(edge, *HOST, *only("look", "install")) == 0
    assert rehearse(edge, "--clean") == 0
    say(edge, namespace={"mcti": {}})  # somebody else's, who installs Kubeflow there
    assert rehearse(edge, *HOST, "--only", "backup") == 1, "nothing is left to build on"
    assert rehearse(edge, *HOST, *only("look", "install")) == 0
    assert rehearse(edge, "--clean") == 0
    assert len([call for call in calls(edge) if call[-4:-1] == ["delete", "namespace", "mcti"]]) == 1


def test_a_rehearsal_from_the_beginning_shows_no_row_of_an_earlier_one(edge, monkeypatch, capsys):
    as_if_done(edge, *CLUSTER)
    monkeypatch.setattr(rehearsal, "STEPS", tuple(step for step in STEPS if step.name in CLUSTER))
    say(edge, away=True)
    capsys.readouterr()
    assert rehearse(edge, *HOST) == 4
    table = capsys.readouterr().out.rpartition("step ")[2]
    assert "\nlook " in table
    assert "\ntraining " not in table


def test_services_and_secrets_that_were_there_stay(edge, capsys):
    say(edge, namespace={"mcti": {}}, statefulset={"postgresql": {}})
    assert rehearse(edge, *HOST, *only("look", "install")) == 0
    assert rehearse(edge, "--clean") == 4
    assert "were here before the rehearsal" in capsys.readouterr().err
    assert not [call for call in calls(edge) if "delete" in call and not {"job", "can-i"} & set(call)]


def test_a_namespace_that_was_there_stays(edge):
    say(edge, namespace={"mcti": {}})
    assert rehearse(edge, *HOST, *only("look", "install")) == 0
    assert rehearse(edge, "--clean") == 0
    deleted = [call for call in calls(edge) if "delete" in call]
    assert not [call for call in deleted if "namespace" in call]
    assert [call for call in deleted if "data-postgresql-0" in call]


def test_runs_in_the_namespace_of_kubeflow_find_keys_and_addresses_there(edge):
    assert rehearse(edge, *HOST, "--runs-namespace", "kubeflow", *only("look", "install", "submit", "kill-task")) == 0
    applied = [call for call in calls(edge) if call[1:5] == ["--context", "rehearsal", "-n", "kubeflow"]]
    assert len([call for call in applied if "apply" in call]) == 3, "two Secrets and the ConfigMap"
    (submit,) = [call for call in calls(edge) if "submit" in call]
    assert "--namespace" not in submit, "standalone Kubeflow has no namespaces to choose from"
    assert [call for call in applied if "delete" in call and "pod" in call]


def test_with_profiles_a_run_names_its_namespace(edge):
    assert rehearse(edge, *HOST, "--multi-user", *only("look", "install", "submit")) == 0
    (submit,) = [call for call in calls(edge) if "submit" in call]
    assert submit[submit.index("--namespace") + 1] == "mcti"


def test_the_settings_are_those_of_a_small_cluster_and_have_no_password(edge):
    assert rehearse(edge, *HOST, "--image", "registry.example/mcti-python:1", *only("look", "install", "doctor")) == 0
    settings = params.load(edge.folder / "rehearsal/work/params.yaml")
    assert settings.cluster.image == "registry.example/mcti-python:1"
    assert settings.cluster.steps.train.cpu == "100m"
    assert settings.search.storage == "postgresql://mcti@postgresql.mcti:5432/search"
    assert settings.register_.name == MODEL


def test_the_overlay_of_the_rehearsal_renders_with_its_images(edge, monkeypatch):
    assert rehearse(edge, *HOST, "--services-image", "registry.example:5000/services:7", *only("look", "install")) == 0
    monkeypatch.undo()
    documents = kustomize(edge.folder / "rehearsal/site")
    pod = named(documents, "Deployment")["mlflow"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "registry.example:5000/services:7"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a/b:1", {"newName": "a/b", "newTag": "1"}),
        ("r.example:5000/a", {"newName": "r.example:5000/a"}),
        ("a@sha256:" + "0" * 64, {"newName": "a", "digest": "sha256:" + "0" * 64}),
    ],
)
def test_names_of_images_are_taken_apart(text, parts):
    assert _image("x", text) == {"name": "x", **parts}


def test_the_task_that_fails_once_fails_once(monkeypatch):
    from mcti import s3

    existing = set()
    monkeypatch.setattr(s3, "exists", lambda address: address in existing)
    monkeypatch.setattr(s3, "put", lambda address, body: existing.add(address))
    with pytest.raises(SystemExit, match="on purpose"):
        retry.fails_once("s3://bucket/markers", "outside")
    retry.fails_once("s3://bucket/markers", "outside")
    with pytest.raises(SystemExit, match="on purpose"):
        retry.fails_once("s3://bucket/markers", "inside")


TRIED = only("look", "install", "retry", "retry-in-loop")


def test_one_run_has_a_task_with_retries_outside_and_one_inside_a_loop(edge, capsys):
    assert rehearse(edge, *HOST, *TRIED) == 0
    ((_, package, environment),) = edge.kfp.calls
    spec, platform = yaml.safe_load_all(package)
    outside, loop = sorted(spec["root"]["dag"]["tasks"].values(), key=lambda task: "parameterIterator" in task)
    (inside,) = spec["components"][loop["componentRef"]["name"]]["dag"]["tasks"].values()
    assert outside["retryPolicy"]["maxRetryCount"] == inside["retryPolicy"]["maxRetryCount"] == 2
    assert loop["parameterIterator"]["items"]["raw"] == '["inside"]'
    assert environment["arguments"]["folder"].startswith("s3://")
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()
    assert [pod["secretAsEnv"][0]["secretName"] for pod in pods] == ["mcti-s3", "mcti-s3"]
    rows = [line for line in capsys.readouterr().out.splitlines() if "| SUCCEEDED after 2 attempts" in line]
    assert [row.split()[0] for row in rows] == ["retry", "retry-in-loop"]


@pytest.mark.parametrize(
    ("tasks", "row", "words"),
    [
        ({"fails-once-2:0": {"state": "FAILED", "attempts": 1}}, "retry-in-loop", "ignores retries inside ParallelFor"),
        ({"fails-once": {"state": "FAILED", "attempts": 1}}, "retry", "set COMPILED_PIPELINE_SPEC_PATCH"),
        ({"fails-once-2:0": {"state": "SKIPPED", "attempts": 0}}, "retry-in-loop", "the task did not run"),
        ({"fails-once": {"attempts": 1}}, "retry", "SUCCEEDED after 1 attempt"),
    ],
)
def test_each_of_the_two_tasks_has_a_row_of_its_own(edge, capsys, tasks, row, words):
    say(edge, tasks=tasks)
    assert rehearse(edge, *HOST, *TRIED) == 1
    (differs,) = [line for line in capsys.readouterr().out.splitlines() if "DIFFERS: " in line]
    assert differs.split()[0] == row
    assert words in differs
    say(edge, tasks={})
    assert rehearse(edge, *HOST, *only("retry-in-loop")) == 0
    assert len(edge.kfp.calls) == 2, "called again it judges a run of its own"


def test_a_long_wait_says_each_minute_that_it_waits(monkeypatch, capsys):
    monkeypatch.setattr(shell, "time", Clock())
    with pytest.raises(Differs):
        wait_until("the end of run 7", lambda: False, 200, every=20)
    lines = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in lines] == [
        f"waiting: the end of run 7, {seconds} s of at most 200 s" for seconds in (60, 120, 180)
    ]


def test_a_wait_ends_and_says_for_what():
    with pytest.raises(Differs, match="the moon: not within 0 s"):
        wait_until("the moon", lambda: False, 0)
    with pytest.raises(Differs, match="did not end within"):
        run(["sleep", "30"], 0.2)
    with pytest.raises(Differs, match="ended with 3: why"):
        run(["sh", "-c", "echo why >&2; exit 3"], 30)


def test_mlflow_is_asked_for_the_run_of_the_whole_pipeline(monkeypatch):
    answers = iter([{"experiment": {"experiment_id": "7"}}, {"runs": [
        {"info": {"status": "RUNNING"}, "data": {"tags": [{"key": "mlflow.parentRunId"}]}},
        {"info": {"status": "FINISHED"}, "data": {"tags": [{"key": "mcti.kfp_run"}]}},
    ]}])  # fmt: skip
    monkeypatch.setattr(tracking, "_ask", lambda *_: next(answers))
    assert tracking.run_status("http://localhost", "e", "r") == "FINISHED"


def test_the_make_word_hands_on_what_is_named():
    done = subprocess.run(
        ["make", "-n", "rehearse", "HOST=http://h:1", "CONTEXT=c", "IMAGE=i:1", "SERVICES_IMAGE=s:1", "FROM=backup",
         "YES=1"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    line = " ".join(done.stdout.split())
    for words in (
        '--host "http://h:1"',
        '--context "c"',
        '--image "i:1"',
        '--services-image "s:1"',
        '--from "backup"',
        "--yes",
    ):
        assert words in line
    plain = subprocess.run(["make", "-n", "rehearse"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "--image" not in plain
    assert "--yes" not in plain


def test_identities_hold_every_pair_of_keys():
    runs = json.loads(identities(("a", "b"), ("c", "d")))["identities"]
    assert [entry["credentials"][0]["accessKey"] for entry in runs] == ["a", "c"]


def test_every_step_of_the_documentation_exists():
    text = (ROOT / "docs/rehearsal.md").read_text(encoding="utf-8")
    for step in STEPS:
        assert f"`{step.name}`" in text


@pytest.mark.slow
def test_the_part_without_a_cluster_runs_here(rendered, tmp_path, monkeypatch, capsys):
    """As CI: overlays rendered by kubectl, pipelines compiled and checked by our own command."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert rehearsal.main(["--offline", "--folder", str(tmp_path), "--patience", "4"]) == 0
    printed = capsys.readouterr().out
    assert "3 pipelines compiled, no rule broken" in printed


def test_an_error_of_one_of_our_commands_is_what_the_step_saw(edge, capsys):
    say(edge, fails={"pipeline submit": "Kubeflow Pipelines does not answer"})
    assert rehearse(edge, *HOST, *only("look", "install", "submit")) == 1
    assert "DIFFERS: `mcti pipeline submit`: Kubeflow Pipelines does not answer in somewhere" in capsys.readouterr().out
