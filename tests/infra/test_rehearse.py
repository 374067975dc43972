"""`make rehearse`: order of the steps, resumption, clean-up, namespaces."""

import base64
import json
import os

import yaml

from infra.rehearse import __main__ as rehearsal
from infra.rehearse.steps import STEPS
from tests.infra.rehearsal import CLUSTER, HOST, as_if_done, calls, first_at, only, rehearse, set_state


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


def test_our_commands_ask_the_context_of_the_rehearsal(edge, monkeypatch):
    """They take kubectl's current context."""
    monkeypatch.setenv("KUBECONFIG", "/srv/kubernetes/config")
    assert rehearse(edge, *HOST, "--context", "other", *only("look", "install", "doctor")) == 0
    path = edge.folder / "rehearsal/context.yaml"
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["current-context"] == "other"
    environment = json.loads((edge.folder / "state.json").read_text(encoding="utf-8"))["kubeconfig"]
    assert environment == f"{path}{os.pathsep}/srv/kubernetes/config"


def test_the_pod_that_is_killed_belongs_to_a_task_that_may_be_tried_again(edge):
    as_if_done(edge, "submit")
    assert rehearse(edge, *HOST, "--only", "kill-task") == 0
    (deleted,) = [call for call in calls(edge) if "--force" in call]
    assert "run-retry-system-container-impl-3" in deleted


def test_it_resumes_at_a_step(edge, capsys):
    as_if_done(edge, *CLUSTER[: CLUSTER.index("backup")])
    capsys.readouterr()
    assert rehearse(edge, *HOST, "--from", "backup") == 0
    assert not [call for call in calls(edge) if "submit" in call]
    assert "\ntraining " in capsys.readouterr().out, "the table shows what was seen before"


def test_it_deletes_what_it_made_only_when_asked(edge):
    assert rehearse(edge, *HOST, *only("look", "install")) == 0
    assert not [call for call in calls(edge) if "pvc" in call or ("namespace" in call and "delete" in call)]
    assert rehearse(edge, "--clean") == 0
    assert "namespace" in calls(edge)[-1], "which it had made"


def test_what_others_made_after_a_clean_stays(edge):
    assert rehearse(edge, *HOST, *only("look", "install")) == 0
    assert rehearse(edge, "--clean") == 0
    set_state(edge, namespace={"mcti": {}})  # somebody else's, who installs Kubeflow there
    assert rehearse(edge, *HOST, "--only", "backup") == 1, "nothing is left to build on"
    assert rehearse(edge, *HOST, *only("look", "install")) == 0
    assert rehearse(edge, "--clean") == 0
    assert len([call for call in calls(edge) if call[-4:-1] == ["delete", "namespace", "mcti"]]) == 1


def test_a_rehearsal_from_the_beginning_shows_no_row_of_an_earlier_one(edge, monkeypatch, capsys):
    as_if_done(edge, *CLUSTER)
    monkeypatch.setattr(rehearsal, "STEPS", tuple(step for step in STEPS if step.name in CLUSTER))
    set_state(edge, away=True)
    capsys.readouterr()
    assert rehearse(edge, *HOST) == 4
    table = capsys.readouterr().out.rpartition("step ")[2]
    assert "\nlook " in table
    assert "\ntraining " not in table


def test_services_and_secrets_that_were_there_stay(edge, capsys):
    set_state(edge, namespace={"mcti": {}}, statefulset={"postgresql": {}})
    assert rehearse(edge, *HOST, *only("look", "install")) == 0
    assert rehearse(edge, "--clean") == 4
    assert "were here before the rehearsal" in capsys.readouterr().err
    assert not [call for call in calls(edge) if "delete" in call and not {"job", "can-i"} & set(call)]


def test_a_namespace_that_was_there_stays(edge):
    set_state(edge, namespace={"mcti": {}})
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
